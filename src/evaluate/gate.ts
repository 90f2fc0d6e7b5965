// Quality gates: conditions on measured figures that end a command with exit code 4, for use in CI.
//
// Grammar: `metric op value`, op one of > >= < <=, value a number, `+5%` or `-5%` (relative to the unquantized
// model's figure). Metrics: ppl, kl, top1. Several conditions may be given; the first that holds fails.

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
        fix: 'give --text, and a reference model for relative conditions',
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
