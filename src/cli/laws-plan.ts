// subbyte laws plan: which format, how many parameters and how many tokens for a budget.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import { floatingPointPublished } from '../laws/floating-point.ts';
import { criticalTokens, layoutQuality, optimalLayout } from '../laws/floating-point-optimum.ts';
import { findGeneration, generations, type Speeds } from '../laws/hardware.ts';
import {
  type Budget,
  checkBudget,
  type Plan,
  type PlanModel,
  parseScheme,
  plans,
  type Scheme,
  schemeName,
} from '../laws/plan.ts';
import { recordedLaw } from '../laws/recorded.ts';
import { parseRuns } from '../laws/runs.ts';
import { packageFile } from '../package-files.ts';
import { checkPlotFile, writePlot } from '../plot/render.ts';
import { type CommandDefinition, parseBytes, parseCount, parseList, parseNumber } from './command.ts';
import { parseAmount, readFit } from './laws-input.ts';
import { humanSize, regionPlot } from './laws-plots.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

interface PlanOptions {
  flop?: number;
  memory?: number;
  d?: number;
  hardware: string;
  speed?: string[];
  formats?: string[];
  fit?: string;
  bits?: number;
  block: number;
  n?: number;
  plot?: string;
}

const recorded = fileURLToPath(packageFile('reproduce/data/quartet-runs.csv'));
const standard = ['bf16', 'fp8', 'fp8:mxfp4', 'mxfp4:fp8', 'mxfp4', 'int8:bf16', 'int4:bf16'];

const definition: CommandDefinition = {
  name: 'plan',
  summary: 'for a budget: which format, how many parameters and tokens, what loss',
  options: [
    new Option('--flop <count>', 'training compute in FLOP of BF16, as in 1e22').argParser(parseNumber),
    new Option('--memory <size>', 'memory for the weights in deployment, as in 8GB').argParser(parseBytes),
    new Option('--d <count>', 'training tokens, where they are given and not to be chosen').argParser(parseAmount),
    new Option('--hardware <generation>', 'whose peak speed-ups to count with')
      .choices(generations.map((g) => g.id))
      .default('blackwell'),
    new Option('--speed <list>', 'your own speed-ups over BF16: fp8=1.6,mxfp4=2.9').argParser(parseList),
    new Option('--formats <list>', `forward:backward pairs (default: ${standard.join(',')})`).argParser(parseList),
    new Option('--fit <file>', 'plan with a fit of the law quartet to your own runs'),
    new Option('--bits <n>', 'instead: how to split so many bits into exponent and mantissa').argParser(parseCount),
    new Option('--block <n>', 'elements that share a scale, with --bits').default(32).argParser(parseCount),
    new Option('--n <count>', 'parameters, with --bits').argParser(parseAmount),
    new Option('--plot <file>', 'draw which format wins where in (N, D/N): .svg, .png or .json'),
  ],
  examples: [
    'subbyte laws plan --flop 1e22 --hardware blackwell --plot regions.svg',
    'subbyte laws plan --memory 4GB --d 2T --formats bf16,fp8,mxfp4',
    'subbyte laws plan --flop 1e21 --memory 2GB --speed fp8=1.6,mxfp4=2.4',
    'subbyte laws plan --bits 6 --block 128 --n 1B',
  ],
  async run(session, _, raw) {
    const options = raw as unknown as PlanOptions;
    if (options.bits !== undefined) return planBits(session, options);
    if (options.plot) checkPlotFile('laws plan', options.plot);
    const budget = readBudget(options);
    const generation = findGeneration(options.hardware);
    const speeds: Speeds = { ...generation.speeds, ...parseSpeeds(options.speed) };
    const schemes = (options.formats ?? standard).map(parseScheme);
    const { model, source } = await openModel(session, options.fit);
    checkKnown(model, schemes);
    const found = plans(model, schemes, speeds, budget);
    const shown = ['bf16', ...Object.keys(speeds)].map((f) => `${f} ${f === 'bf16' ? 1 : speeds[f]}`).join(', ');
    print(session, found, model, `${options.hardware} (${generation.examples}): ${shown}`, source);
    if (options.plot) await writePlot('laws plan', regionPlot(model, schemes, speeds, options.hardware), options.plot);
    session.result({
      plans: found.map(({ scheme, ...plan }) => ({ scheme: schemeName(scheme), ...plan })),
      speeds: { bf16: 1, ...speeds },
      law: { id: model.law.id, values: model.values, source },
      level: model.level,
      budget,
      files: options.plot ? [options.plot] : [],
    });
  },
};

/** From one's own fit, or the recorded runs that ship. */
async function openModel(session: Session, file: string | undefined): Promise<{ model: PlanModel; source: string }> {
  if (file === undefined) {
    const runs = parseRuns(await readFile(recorded, 'utf8'), 'quartet-runs.csv');
    const model = recordedLaw(runs, 200, session.options.seed + 1);
    return { model, source: `${model.runs} recorded runs of Quartet and QuEST, 30M to 800M parameters on C4` };
  }
  const { form, values, samples, level, runs, source } = await readFit(file);
  if (form.id === 'quartet' || form.id === 'outer-exponent')
    return { model: { law: form, values, samples, level }, source: `${runs} runs of ${source}` };
  throw userError({
    code: 'fit-file',
    op: 'laws plan',
    problem: 'plans need a law with an efficiency for each format',
    got: form.id,
    expected: 'quartet, or outer-exponent for BF16 and FP8 alone',
    file,
  });
}

/** A scheme without an efficiency would count as lossless. */
function checkKnown({ law, values }: PlanModel, schemes: readonly Scheme[]): void {
  const lossless = ['bf16', 'fp8'];
  const missing = schemes
    .flatMap((s) => [`effN(${s.forward})`, `effD(${s.backward})`])
    .find((name) => !lossless.includes(name.slice(5, -1)) && !(name in values));
  if (missing === undefined) return;
  const known = Object.keys(values).filter((name) => name.startsWith('eff'));
  throw userError({
    code: 'unknown-scheme',
    op: 'laws plan',
    problem: `the law ${law.id} has no ${missing}`,
    expected: known.length > 0 ? known.join(', ') : 'no format but bf16 and fp8',
    fix: 'choose other --formats, or fit runs with this format and give --fit',
  });
}

function readBudget({ flop, memory, d }: PlanOptions): Budget {
  const wrong = (problem: string, got: number, expected: string) =>
    userError({ code: 'plan-budget', op: 'laws plan', problem, got, expected });
  if (flop !== undefined && !(flop >= 1e15 && flop <= 1e32))
    throw wrong('--flop is no compute of a training', flop, '1e15 to 1e32, as in 1e22');
  if (memory !== undefined && memory < 1e5) throw wrong('--memory is too small for a model', memory, '100 kB or more');
  if (d !== undefined && d < 1e5) throw wrong('--d is too small for a training', d, 'a raw count, as in 2e10 or 20B');
  const budget = { flop, memory, tokens: d };
  checkBudget(budget);
  return budget;
}

function parseSpeeds(list: readonly string[] | undefined): Speeds {
  return Object.fromEntries(
    (list ?? []).map((text) => {
      const [name, value, ...rest] = text.split('=').map((s) => s.trim());
      const speed = Number(value);
      if (rest.length === 0 && value && speed > 0 && Number.isFinite(speed)) return [parseScheme(name).forward, speed];
      throw userError({
        code: 'speed',
        op: 'laws plan',
        problem: '--speed is no format and speed-up',
        got: JSON.stringify(text),
        expected: 'fp8=1.6,mxfp4=2.9',
      });
    }),
  );
}

function print(session: Session, found: readonly Plan[], { level }: PlanModel, speeds: string, source: string): void {
  const right = { align: 'right' as const };
  const interval = ({ interval: i }: Plan) => (i ? `${i[0].toFixed(4)} to ${i[1].toFixed(4)}` : '');
  session.print(
    renderTable(
      [
        { title: 'forward:backward' },
        { title: 'N', ...right },
        { title: 'D', ...right },
        { title: 'D/N', ...right },
        { title: 'training', ...right },
        { title: 'loss', ...right },
        { title: `${100 * level} % interval` },
        { title: 'best', ...right },
        { title: 'N bound by' },
      ],
      found.map((p) => [
        schemeName(p.scheme),
        humanSize(p.n),
        humanSize(p.d),
        String(Number((p.d / p.n).toPrecision(3))),
        `${p.speedUp.toFixed(2)}×`,
        p.loss.toFixed(4),
        interval(p),
        p.best === undefined ? '' : `${(100 * p.best).toFixed(0)} %`,
        p.bound,
      ]),
    ),
  );
  session.print(
    `best: share of bootstrap refits in which the row has the least loss. Speed-ups ${speeds}; FP8 counts as lossless.`,
  );
  session.print(`Law fitted to ${source}. What lies beyond these runs is an extrapolation.`);
}

/** Splits of a number of bits, best first, and how far their data reaches. */
function planBits(session: Session, { bits = 8, block, n = 1e9 }: PlanOptions): void {
  if (!(bits >= 3 && bits <= 16) || block < 2)
    throw userError({
      code: 'plan-bits',
      op: 'laws plan',
      problem: '--bits or --block is out of range',
      got: `${bits} bits, blocks of ${block}`,
      expected: '3 to 16 bits, blocks of 2 or more',
    });
  const { values, source } = floatingPointPublished;
  const best = optimalLayout(values, bits);
  const layouts = Array.from({ length: bits }, (_, e) => ({ exponentBits: e, mantissaBits: bits - 1 - e }))
    .map((l) => ({
      ...l,
      quality:
        layoutQuality(values, l.exponentBits, l.mantissaBits) /
        layoutQuality(values, best.exponentBits, best.mantissaBits),
      criticalTokens: criticalTokens(values, n, l.exponentBits, l.mantissaBits, block),
    }))
    .sort((a, b) => b.quality - a.quality);
  const right = { align: 'right' as const };
  session.print(
    renderTable(
      [
        { title: 'layout' },
        { title: 'penalty', ...right },
        { title: `more data hurts beyond (${humanSize(n)}, blocks of ${block})`, ...right },
      ],
      layouts.map((l) => [
        `E${l.exponentBits}M${l.mantissaBits}`,
        `${(1 / l.quality).toPrecision(3)}×`,
        humanSize(l.criticalTokens),
      ]),
    ),
  );
  session.print(
    `Penalty relative to the best. ${source}; fitted with unquantized scales, weights and the activations of the weight gradient alone. It does not rank integers, nor block formats of the MX kind by rounding error.`,
  );
  session.result({
    bits,
    block,
    n,
    layouts,
    real: { exponentBits: best.realExponent, mantissaBits: best.realMantissa },
    source,
  });
}

export default definition;
