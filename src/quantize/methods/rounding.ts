// The last steps of a recipe as a calibration method: which statistics a site has to collect, and how its layers are
// rounded.
//
//   gptq      second moments of the inputs; with asymmetry also those of the unrounded model (gptq/)
//   imatrix   mean squares of the inputs weigh the searches of ggml types (io/imatrix.ts reads and writes them)
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

export interface RoundingTools {
  readonly quantizer: TensorQuantizer;
  readonly profile: Profile;
  readonly seed: number;
  readonly streams: ReadonlyMap<string, number>;
  /** Tokens of the whole calibration. */
  readonly tokens: number;
}

export type Rounding = Omit<CalibrationMethod, 'preparation'>;

const fewTokens = 0.005;

/** Whether too few tokens reached a layer to fit it to them. */
const starved = ({ tokens }: SiteRecord, all: number) => tokens < fewTokens * all;

/** Rounds to nearest, as without calibration. */
export function plainRounding(tools: RoundingTools): Rounding {
  return {
    needs: () => undefined,
    round: async (_, tasks) => {
      const results: LayerResult[] = [];
      for (const task of tasks) results.push(await roundPlainly(task, tools, []));
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
  };
}

/** Rounds with weights of the error by the mean squares of the inputs, measured on the model as it was. */
export function importanceRounding(
  tools: RoundingTools,
  keep: (name: string, record: SiteRecord) => void = () => undefined,
): Rounding {
  return {
    needs: () => ({ moments: true }),
    round: async (_, tasks) => {
      const results: LayerResult[] = [];
      for (const task of tasks) {
        keep(task.name, task.record);
        const weighted = task.format.kind === 'ggml' && task.record.tokens > 0;
        const notes = weighted ? [] : [`importance says nothing about ${formatName(task.format)}`];
        results.push(await roundPlainly(task, tools, notes, weighted ? task.record.moments?.meanSquare : undefined));
      }
      return results;
    },
    propagate: 'float',
    floatStream: false,
  };
}

/** Fits zero points; needs no text. */
export function hqqRounding(options: Pick<HqqOptions, 'iterations' | 'p'>, tools: RoundingTools): Rounding {
  const fit = quantizerFit(tools.quantizer, tools.seed);
  const all = { ...defaultHqqOptions, ...options };
  return {
    needs: () => undefined,
    async round(_, tasks) {
      const results: LayerResult[] = [];
      for (const { name, weight, clipped, format } of tasks) {
        const { rows, cols } = matrixShape(weight.shape);
        const values = clipped ?? denseF32(weight);
        const solve = () => quantizeHqq(values, rows, cols, format, fit, name, all);
        const tensor = qtensor(weight.shape, await tools.profile.time('solve', solve));
        results.push({ tensor, report: { name, format: formatName(format), tokens: 0, notes: [] } });
      }
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
  };
}

async function roundPlainly(
  { name, weight, clipped, format, record }: LayerTask,
  { quantizer, seed, streams, profile }: RoundingTools,
  notes: readonly string[],
  importance?: Float32Array,
): Promise<LayerResult> {
  const options = { seed, stream: streams.get(name) ?? 0, name, importance };
  const values = clipped ? tensorF32(weight.shape, clipped) : weight;
  const tensor = await profile.time('round', () => quantizer.quantize(values, format, options));
  return { tensor, report: { name, format: formatName(format), tokens: record.tokens, notes } };
}

/** Rounds by GPTQ. */
export function gptqRounding(options: GptqOptions, solver: Solver, tools: RoundingTools): Rounding {
  const fit: Fit = quantizerFit(tools.quantizer, tools.seed);
  return {
    needs: (site: Site) => ({ gram: true, cross: options.asymmetry > 0 && site.experts === 0 }),
    round: (site, tasks) => tools.profile.time('solve', () => solveSite(site, tasks, options, solver, fit, tools)),
    propagate: 'rounded',
    floatStream: options.asymmetry > 0,
  };
}

async function solveSite(
  site: Site,
  tasks: readonly LayerTask[],
  options: GptqOptions,
  solver: Solver,
  scalesOf: Fit,
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
    const own = site.experts > 0 ? { ...options, asymmetry: 0 } : options;
    const hessian = prepared.get(record) ?? prepareHessian({ tokens, features, gram, cross }, own, solver, name);
    prepared.set(record, hessian);
    const { rows, cols } = matrixShape(weight.shape);
    const values = denseF32(weight);
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
