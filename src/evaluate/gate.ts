// Quality gates: conditions on measured figures that end a command with exit code 4, for use in CI.
//
// Grammar: `metric op value`, op one of > >= < <=, value a number, `+5%` or `-5%` (relative to the unquantized
// model's figure, for ppl). Metrics: ppl, kl (nats), top1 (a share: 0.9 or 90%). Forms that would hold always or never
// by a slip, such as `ppl>5%`, are refused. Several conditions may be given; the first that holds fails.

import { SubbyteError, userError } from '../errors.ts';

export interface Figures {
  ppl?: number;
  kl?: number;
  /** Fraction 0 … 1. */
  top1?: number;
}

export interface Gate {
  text: string;
  metric: keyof Figures;
  comparison: '>' | '>=' | '<' | '<=';
  value: number;
  /** The value is a fraction added to the reference's figure. */
  relative: boolean;
}

/** Parses `ppl>+5%`, `kl>0.05`, `top1<90%`. */
export function parseGate(text: string): Gate {
  const match = /^\s*(ppl|kl|top1)\s*(>=|<=|>|<)\s*([+-]?)(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(%?)\s*$/i.exec(text);
  if (!match) {
    throw userError({
      code: 'bad-gate',
      op: 'fail-if',
      problem: 'not a condition',
      got: JSON.stringify(text),
      expected: "metric (ppl, kl, top1), comparison and value, for example 'ppl>+5%' or 'kl>0.05'",
    });
  }
  const [, metric, comparison, sign, digits, percent] = match;
  const slip = misreading(metric.toLowerCase() as keyof Figures, sign !== '', percent !== '', Number(digits));
  if (slip) {
    throw userError({
      code: 'bad-gate',
      op: 'fail-if',
      problem: `not a condition: ${slip}`,
      got: JSON.stringify(text),
      expected: "a form such as 'ppl>+5%', 'ppl>20', 'kl>0.05' or 'top1<90%'",
    });
  }
  const magnitude = Number(digits) * (percent ? 0.01 : 1);
  const relative = sign !== '' && percent === '%';
  return {
    text: text.trim(),
    metric: metric.toLowerCase() as keyof Figures,
    comparison: comparison as Gate['comparison'],
    value: sign === '-' ? -magnitude : magnitude,
    relative,
  };
}

/** What is wrong with a well-formed condition that cannot mean what its author wants. */
function misreading(metric: keyof Figures, sign: boolean, percent: boolean, value: number): string | undefined {
  if (sign !== percent && metric === 'ppl') return 'a change of the perplexity is written with sign and %';
  if (sign && metric !== 'ppl') return `${metric} compares with the original already, it takes no sign`;
  if (percent && metric === 'kl') return 'KL divergence is in nats, not in %';
  if (metric === 'top1' && value > (percent ? 100 : 1)) return 'top1 is a share, at most 1 or 100%';
  return undefined;
}

/**
 * Throws a user error, before any work, for a condition on a figure that will not be measured. `figures` are those that
 * will be; with `original` the change against the original is known too.
 */
export function requireFigures(
  gates: readonly Gate[],
  figures: readonly (keyof Figures)[],
  original: boolean,
  fix: string,
): void {
  const gate = gates.find((g) => !figures.includes(g.metric) || (g.relative && !original));
  if (!gate) return;
  throw userError({
    code: 'gate-without-figure',
    op: 'fail-if',
    problem: `the condition ${gate.text} needs a figure that is not measured without the original`,
    fix,
  });
}

/** Throws a gate error (exit code 4) for the first condition that holds. */
export function enforceGates(gates: readonly Gate[], measured: Figures, reference: Figures): void {
  for (const gate of gates) {
    const figure = measured[gate.metric];
    const base = reference[gate.metric];
    if (figure === undefined || (gate.relative && base === undefined)) {
      throw userError({
        code: 'gate-without-figure',
        op: 'fail-if',
        problem: `the condition ${gate.text} needs a figure that this command does not measure`,
        fix: 'measure it, or leave the condition out',
      });
    }
    const limit = gate.relative ? (base as number) * (1 + gate.value) : gate.value;
    if (!holds(figure, gate.comparison, limit)) continue;
    throw new SubbyteError('gate', {
      code: 'gate',
      op: 'fail-if',
      problem: `${gate.text} holds: ${gate.metric} is ${figure.toPrecision(6)}, the limit is ${limit.toPrecision(6)}`,
    });
  }
}

function holds(a: number, comparison: Gate['comparison'], b: number): boolean {
  // A figure that is not a number fails every gate: a broken model must not pass.
  if (Number.isNaN(a)) return true;
  if (comparison === '>') return a > b;
  if (comparison === '>=') return a >= b;
  return comparison === '<' ? a < b : a <= b;
}
