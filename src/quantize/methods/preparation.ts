// SmoothQuant and AWQ on the calibration pass: scales of layers' inputs from the statistics of the unrounded block,
// folded into the block before it is rounded.
//
// The steps of a recipe run in their order over the subsets of the block (models/subsets.ts) that have a producer.
// Scales multiply up: the second step sees inputs and weights as the first one left them. Everything is computed from
// the block as it was, so that nothing has to be measured again:
//   input x / s, weights W · s, and a candidate W′ of AWQ acts on x as W′ / s
// SmoothQuant scales behind norms only, as the original does.

import type { Format } from '../../formats/format.ts';
import { dequantize } from '../../formats/quantize.ts';
import type { DecoderConfig } from '../../models/config.ts';
import { denseF32 } from '../../models/stack.ts';
import { blockSites, type Site } from '../../models/stages.ts';
import { layerSubsets, type Subset } from '../../models/subsets.ts';
import { type AnyTensor, tensorF32 } from '../../tensor/tensor.ts';
import { searchAwqScales } from '../awq.ts';
import type { BlockPreparation, PreparedBlock } from '../calibration/calibrate.ts';
import { type Fold, foldPlan, foldTensor } from '../fold.ts';
import type { InputStatistics } from '../input-statistics.ts';
import { type ScaledWeight, smoothScales } from '../smooth.ts';
import { matrixShape, type TensorQuantizer } from '../tensor-quantizer.ts';
import { openModuleError } from './module-error.ts';

export type ScalingStep =
  | { readonly kind: 'smooth'; readonly alpha: number }
  | { readonly kind: 'awq'; readonly grid: number; readonly duo: boolean; readonly tokens: number };

export interface ScalingRequest {
  readonly config: DecoderConfig;
  /** Formats of the weights that will be rounded. */
  readonly formats: ReadonlyMap<string, Format>;
  readonly steps: readonly ScalingStep[];
  readonly quantizer: TensorQuantizer;
  readonly seed: number;
}

/** Rows of an expert's own input that AWQ judges its last layer on. */
const expertRows = 512;

/** The first pass of a block for these steps. */
export function scalingPreparation(request: ScalingRequest): BlockPreparation {
  const awq = request.steps.some((step) => step.kind === 'awq');
  return {
    needs: (site) => ({ moments: true, sampleRows: awq && site.experts > 0 && site.stage === 'down' ? expertRows : 0 }),
    // attention and MLP, each with every candidate
    searchedForwards: (tokens) =>
      request.steps.reduce((n, s) => n + (s.kind === 'awq' ? (s.grid + 1) * Math.min(1, s.tokens / tokens) : 0), 0),
    apply: (block) => scaleBlock(request, block),
  };
}

/** A subset on the way: what its input is divided by so far, and its layers' values under that. */
interface Scaled {
  readonly subset: Subset;
  readonly stats: InputStatistics;
  scales: Float32Array;
  weights: ScaledWeight[];
}

async function scaleBlock(request: ScalingRequest, block: PreparedBlock): Promise<ReadonlyMap<string, AnyTensor>> {
  const { config, formats } = request;
  const scaled: Scaled[] = [];
  for (const subset of layerSubsets(config, block.layer)) {
    if (!subset.layers.some((name) => formats.has(`${name}.weight`))) continue;
    if (!subset.producer) {
      block.note(`${subset.layers[0]} is not scaled: ${subset.fixed}`);
      continue;
    }
    const stats = statisticsOf(config, block, subset);
    // an expert that no token reached has nothing to be scaled by
    if (stats.tokens === 0) continue;
    const weights = subset.layers.map((name) => weightOf(block, name));
    scaled.push({ subset, stats, scales: new Float32Array(subset.width).fill(1), weights });
  }
  for (const step of request.steps)
    for (const part of scaled) {
      if (step.kind === 'smooth' && part.subset.producer?.kind !== 'norm') continue;
      const divided = dividedBy(part.stats, part.scales);
      const scales =
        step.kind === 'smooth'
          ? smoothScales(divided, part.weights, step.alpha)
          : await awqScales(request, block, part, step, divided);
      multiply(part, scales);
    }
  return fold(block, scaled);
}

function weightOf({ tensors }: PreparedBlock, name: string): ScaledWeight {
  const tensor = tensors.get(`${name}.weight`) as AnyTensor;
  return { name, values: denseF32(tensor), rows: matrixShape(tensor.shape).rows };
}

/** The statistics of a subset's input; where experts share it, over the rows of all of them. */
function statisticsOf(config: DecoderConfig, { layer, records }: PreparedBlock, subset: Subset): InputStatistics {
  const [first] = subset.layers;
  const site = blockSites(config, layer).find((s) => s.layers.includes(first)) as Site;
  const found = (records.get(site.name) ?? []).map((record) => record.moments as InputStatistics);
  if (site.experts === 0) return found[0];
  const perExpert = site.layers.length / site.experts;
  if (subset.layers.length === 1) return found[Math.floor(site.layers.indexOf(first) / perExpert)];
  return together(found);
}

function together(parts: readonly InputStatistics[]): InputStatistics {
  const tokens = parts.reduce((n, p) => n + p.tokens, 0);
  const mean = (of: (p: InputStatistics) => Float32Array) =>
    of(parts[0]).map((_, j) => parts.reduce((sum, p) => sum + p.tokens * of(p)[j], 0) / Math.max(tokens, 1));
  return {
    tokens,
    absMax: parts[0].absMax.map((_, j) => parts.reduce((m, p) => Math.max(m, p.absMax[j]), 0)),
    absMean: mean((p) => p.absMean),
    meanSquare: mean((p) => p.meanSquare),
    sample: new Float32Array(0),
    sampleRows: 0,
  };
}

const dividedBy = (stats: InputStatistics, scales: Float32Array): InputStatistics => ({
  ...stats,
  absMax: stats.absMax.map((x, j) => x / scales[j]),
  absMean: stats.absMean.map((x, j) => x / scales[j]),
});

function multiply(part: Scaled, scales: Float32Array): void {
  part.scales = part.scales.map((s, j) => s * scales[j]);
  part.weights = part.weights.map((w) => ({ ...w, values: timesColumns(w.values, scales) }));
}

function timesColumns(values: Float32Array, scales: Float32Array): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i += scales.length)
    for (let j = 0; j < scales.length; j++) out[i + j] = values[i + j] * scales[j];
  return out;
}

async function awqScales(
  { formats, quantizer, seed }: ScalingRequest,
  block: PreparedBlock,
  { subset, stats, scales, weights }: Scaled,
  step: Extract<ScalingStep, { kind: 'awq' }>,
  divided: InputStatistics,
): Promise<Float32Array> {
  const back = scales.map((s) => 1 / s);
  const error = await openModuleError({
    context: block.context,
    block: block.block,
    layer: block.layer,
    subset,
    stores: block.stores,
    sample: stats.sample,
    tokens: step.tokens,
  });
  try {
    const format = formats.get(`${subset.layers[0]}.weight`);
    const found = await searchAwqScales({
      stats: divided,
      weights,
      grid: step.grid,
      duo: step.duo,
      groupSize: format?.kind === 'quant' && format.granularity.kind === 'group' ? format.granularity.size : undefined,
      async roundTrip(name, values) {
        const own = formats.get(`${name}.weight`);
        if (!own) return values;
        const tensor = tensorF32([values.length / subset.width, subset.width], values);
        return dequantize((await quantizer.quantize(tensor, own, { seed, stream: 0, name })).data);
      },
      moduleError: (effective) =>
        error.of(new Map([...effective].map(([name, values]) => [name, timesColumns(values, back)]))),
    });
    return found.scales;
  } finally {
    error.dispose();
  }
}

/** The tensors of the block that the scales change. */
function fold({ tensors }: PreparedBlock, scaled: readonly Scaled[]): Map<string, AnyTensor> {
  const folds: Fold[] = scaled.map(({ subset, scales }) => ({ subset, scales }));
  const changed = new Map<string, AnyTensor>();
  for (const [name, plan] of foldPlan(folds)) {
    const tensor = tensors.get(name);
    if (!tensor) continue;
    const cols = tensor.shape.length === 1 ? 1 : tensor.shape[tensor.shape.length - 1];
    changed.set(name, tensorF32(tensor.shape, foldTensor(denseF32(tensor), cols, plan)));
  }
  return changed;
}
