// What a model will weigh in a format, from headers alone.
//
// Weights: the formats' own byte counts for the tensors that would be quantized, stored bytes for the rest. Running it:
// weights + KV cache (f32 keys and values, 2·layers·context·G·D·4 bytes) + the planner's figure for the intermediate
// values of a window, which is exact for this engine. Nothing is read or allocated.

import type { Format } from '../formats/format.ts';
import { formatBytes } from '../formats/registry.ts';
import type { ValueType } from '../graph/graph.ts';
import { planMemory } from '../graph/plan.ts';
import { f32 } from '../graph/value-type.ts';
import { buildDecoder } from '../models/decoder.ts';
import { ggufStorage } from '../models/gguf-storage.ts';
import { expertStacks } from '../models/loaded.ts';
import type { ModelWeights } from '../models/weights.ts';
import { matrixShape } from './tensor-quantizer.ts';

export interface Estimate {
  /** Bytes of all weights. */
  weightBytes: number;
  /** Bits per weight over the whole model. */
  bitsPerWeight: number;
  /** KV cache for `context` tokens. */
  cacheBytes: number;
  /** Intermediate values of a window. */
  arenaBytes: number;
  totalBytes: number;
}

export interface EstimateOptions {
  /** Tokens that the KV cache holds. */
  context: number;
  /** Tokens of the prompt that run at once. */
  window: number;
  /** Stored bytes of a tensor that is kept. */
  storedBytes(name: string): number;
}

/** ggml types fall back where K does not fit the block, as in the file. */
function effectiveFormat(weights: ModelWeights, name: string, format: Format): Format {
  if (format.kind !== 'ggml') return format;
  return ggufStorage(name, weights.role(name), weights.shape(name), format).format;
}

export function estimateModel(
  weights: ModelWeights,
  formats: ReadonlyMap<string, Format>,
  options: EstimateOptions,
): Estimate {
  const { config } = weights;
  const types = new Map<string, ValueType>();
  let weightBytes = 0;
  let count = 0;
  for (const name of weights.names()) {
    const shape = weights.shape(name);
    const { rows, cols } = matrixShape(shape);
    const asked = formats.get(name);
    const format = asked && effectiveFormat(weights, name, asked);
    count += rows * cols;
    weightBytes += format ? formatBytes(format, rows, cols) : options.storedBytes(name);
    const role = weights.role(name);
    types.set(
      name,
      role === 'norm' || role === 'bias'
        ? f32(shape)
        : { dtype: 'packed', shape, format: format ?? { kind: 'float', name: 'bf16' } },
    );
  }
  for (const { stack, members } of expertStacks(config)) {
    const first = types.get(members[0]) as ValueType;
    types.set(stack, { ...first, shape: [members.length, ...first.shape] });
    if (first.dtype === 'packed' && first.format.kind === 'quant' && first.format.scale.tensorScale)
      types.set(`${stack}.scales`, f32([members.length, 1]));
  }
  const window = Math.min(options.window, options.context);
  const graph = buildDecoder(config, types, { batch: 1, tokens: window, mode: 'decode', cacheTokens: options.context });
  const { arenaBytes } = planMemory(graph);
  const cacheBytes = 2 * config.layers * options.context * config.kvHeads * config.headDim * 4;
  return {
    weightBytes,
    bitsPerWeight: (8 * weightBytes) / count,
    cacheBytes,
    arenaBytes,
    totalBytes: weightBytes + cacheBytes + arenaBytes,
  };
}
