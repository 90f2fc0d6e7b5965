// The last steps of a recipe as a calibration method: which statistics a site has to collect, and how its layers are
// rounded.
//
//   gptq      second moments of the inputs; with asymmetry also those of the unrounded model (gptq/)
//   imatrix   mean squares of the inputs weigh the searches of ggml types, from the pass itself or from a file
//             (importance.ts); before gptq they weigh the search of its scales
//   hqq       nothing: zero points fitted to the weights (../hqq.ts)
//   rtn       nothing: rounding to nearest, for the layers that other steps left changed
//
// Layers that too few calibration tokens reached (experts) are rounded plainly: fewer than 0.5 % of all tokens says
// more about those tokens than about the layer (the rule of GPTQModel). They are named in the report.

import type { Solver } from '../../backends/wasm/solver.ts';
import { formatName } from '../../formats/registry.ts';
import { denseF32 } from '../../models/stack.ts';
import type { Site } from '../../models/stages.ts';
import { qtensor, tensorF32 } from '../../tensor/tensor.ts';
import type { CalibrationMethod, LayerResult, LayerTask } from '../calibration/calibrate.ts';
import type { Profile } from '../calibration/profile.ts';
import type { SiteRecord } from '../calibration/site-observer.ts';
import { type Fit, quantizerFit } from '../gptq/fit.ts';
import { type PreparedHessian, prepareHessian } from '../gptq/hessian.ts';
import type { GptqOptions } from '../gptq/options.ts';
import { solveLayer } from '../gptq/solve-layer.ts';
import { defaultHqqOptions, type HqqOptions, quantizeHqq } from '../hqq.ts';
import { matrixShape, type TensorQuantizer } from '../tensor-quantizer.ts';
import type { Importance } from './importance.ts';

export interface RoundingTools {
  readonly quantizer: TensorQuantizer;
  readonly profile: Profile;
  readonly seed: number;
  readonly streams: ReadonlyMap<string, number>;
  /** Tokens of the whole calibration. */
  readonly tokens: number;
  /** Importances that were read from a file. */
  readonly importance?: Importance;
}

export type Rounding = Omit<CalibrationMethod, 'preparation'>;

const fewTokens = 0.005;

/** Whether too few tokens reached a layer to fit it to them. */
const starved = ({ tokens }: SiteRecord, all: number) => tokens < fewTokens * all;

/** Rounds to nearest, as without calibration; importances of a file weigh the searches of ggml types. */
export function plainRounding(tools: RoundingTools): Rounding {
  return {
    needs: () => undefined,
    round: async (_, tasks) => {
      const results: LayerResult[] = [];
      for (const task of tasks) results.push(await roundWeighted(task, tools));
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
  };
}

/** Rounds to nearest, with the importances of a file where there are some. */
export const roundWeighted = (task: LayerTask, tools: RoundingTools): Promise<LayerResult> =>
  roundPlainly(task, tools, [], tools.importance?.(task.name));

/** Rounds with weights of the error by the mean squares of the inputs, measured on the model as it was. */
export function importanceRounding(tools: RoundingTools): Rounding {
  return {
    needs: () => ({ moments: true }),
    round: async (_, tasks) => {
      const results: LayerResult[] = [];
      for (const task of tasks) {
        const seen = task.record.tokens > 0 ? task.record.moments?.meanSquare : undefined;
        const rounded = await roundPlainly(task, tools, seen ? [] : ['no calibration token reached the layer'], seen);
        results.push({ ...rounded, meanSquares: seen });
      }
      return results;
    },
    propagate: 'float',
    floatStream: false,
  };
}

export type ZeroPointOptions = Pick<HqqOptions, 'iterations' | 'p'>;

/** Fits zero points; needs no text. */
export function hqqRounding(options: ZeroPointOptions, tools: RoundingTools): Rounding {
  return {
    needs: () => undefined,
    async round(_, tasks) {
      const results: LayerResult[] = [];
      for (const task of tasks) results.push(await fitZeroPoints(task, options, tools));
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
  };
}

/** One weight by HQQ. */
export async function fitZeroPoints(
  { name, weight, clipped, format }: LayerTask,
  options: ZeroPointOptions,
  { quantizer, seed, profile }: RoundingTools,
): Promise<LayerResult> {
  const { rows, cols } = matrixShape(weight.shape);
  const scalesOf = quantizerFit(quantizer, seed);
  const all = { ...defaultHqqOptions, ...options };
  const values = clipped ?? denseF32(weight);
  const solve = () => quantizeHqq(values, rows, cols, format, scalesOf, name, all);
  const tensor = qtensor(weight.shape, await profile.time('solve', solve));
  return { tensor, report: { name, format: formatName(format), tokens: 0, notes: [] } };
}

async function roundPlainly(
  { name, weight, clipped, format, record }: LayerTask,
  { quantizer, seed, streams, profile }: RoundingTools,
  notes: readonly string[],
  importance?: Float32Array,
): Promise<LayerResult> {
  const options = {
    seed,
    stream: streams.get(name) ?? 0,
    name,
    importance: format.kind === 'ggml' ? importance : undefined,
  };
  const values = clipped ? tensorF32(weight.shape, clipped) : weight;
  const tensor = await profile.time('round', () => quantizer.quantize(values, format, options));
  return { tensor, report: { name, format: formatName(format), tokens: record.tokens, notes } };
}

export interface SolveOptions {
  readonly gptq: GptqOptions;
  /** Scales of ggml types are searched with weights: those of a file, or the diagonal of the second moments. */
  readonly weighted: boolean;
}

/** Rounds by GPTQ. */
export function gptqRounding(options: SolveOptions, solver: Solver, tools: RoundingTools): Rounding {
  const { asymmetry } = options.gptq;
  return {
    needs: (site: Site) => ({ gram: true, cross: asymmetry > 0 && site.experts === 0 }),
    round: (site, tasks) => tools.profile.time('solve', () => solveSite(site, tasks, options, solver, tools)),
    propagate: 'rounded',
    floatStream: asymmetry > 0,
  };
}

async function solveSite(
  site: Site,
  tasks: readonly LayerTask[],
  { gptq, weighted }: SolveOptions,
  solver: Solver,
  tools: RoundingTools,
): Promise<LayerResult[]> {
  const prepared = new Map<SiteRecord, PreparedHessian>();
  const results: LayerResult[] = [];
  for (const task of tasks) {
    const { name, weight, clipped, format, record } = task;
    const { gram, cross, tokens, features } = record;
    if (!gram || starved(record, tools.tokens)) {
      const note = `only ${tokens} of ${tools.tokens} calibration tokens reached the layer: it is rounded plainly`;
      results.push(await roundPlainly(task, tools, [note]));
      continue;
    }
    // the routing of the unrounded model may differ, so experts are solved without the asymmetric term
    const own = site.experts > 0 ? { ...gptq, asymmetry: 0 } : gptq;
    const hessian = prepared.get(record) ?? prepareHessian({ tokens, features, gram, cross }, own, solver, name);
    prepared.set(record, hessian);
    const { rows, cols } = matrixShape(weight.shape);
    const values = denseF32(weight);
    const importance = weighted ? (tools.importance?.(name) ?? meanSquares(gram, features, tokens)) : undefined;
    const scalesOf = quantizerFit(tools.quantizer, tools.seed, importance);
    // clipping chooses the scales; the codes approximate the weights as they are
    const ranged: Fit = (part, ...rest) => scalesOf(clipped && part.length === values.length ? clipped : part, ...rest);
    const solved = await solveLayer(hessian, values, rows, cols, format, { solver, fit: ranged }, name);
    const { quantized, error, rtnError, energy, fallback, note } = solved;
    results.push({
      tensor: qtensor(weight.shape, quantized),
      report: {
        name,
        format: formatName(format),
        tokens,
        relativeError: energy > 0 ? error / energy : 0,
        plainError: energy > 0 ? rtnError / energy : 0,
        notes: [fallback, note].filter((text) => text !== undefined),
      },
    });
  }
  return results;
}

/** The mean square of each input, from the diagonal of Σ x xᵀ. */
const meanSquares = (gram: Float32Array, features: number, tokens: number) =>
  Float32Array.from({ length: features }, (_, j) => gram[j * features + j] / tokens);
