// A model between transformation, rounding and file: the same interface, other tensors.
//
// Transformed tensors are f32 while they are worked on. What is not rounded in the end goes into the file in the float
// type that the source has, so it is rounded to that type before calibration: later layers then see what the file says.

import type { FloatFormat, Format } from '../formats/format.ts';
import { quantize } from '../formats/quantize.ts';
import { denseF32 } from '../models/stack.ts';
import type { ModelWeights } from '../models/weights.ts';
import { type AnyTensor, qtensor } from '../tensor/tensor.ts';
import { matrixShape } from './tensor-quantizer.ts';

/** The float type in which a file keeps a tensor that is not quantized. */
export function keptFormat(source: ModelWeights, name: string): FloatFormat {
  // a head that was untied from the embeddings is not in the source
  const known = source.names().includes(name) ? name : 'model.embed_tokens.weight';
  const format = source.format(known);
  return format.kind === 'float' ? format : { kind: 'float', name: 'f32' };
}

/** A tensor in a float type, rounded to nearest even. */
export function inFloatType(tensor: AnyTensor, format: FloatFormat): AnyTensor {
  const own = tensor.kind === 'packed' ? tensor.data.format : { kind: 'float', name: tensor.dtype };
  if (own.kind === 'float' && own.name === format.name) return tensor;
  const { rows, cols } = matrixShape(tensor.shape);
  return qtensor(tensor.shape, quantize(denseF32(tensor), rows, cols, format));
}

/** The transformed model with the tensors that stay as they are in the source's float types. */
export function keptAsStored(
  transformed: ModelWeights,
  source: ModelWeights,
  formats: ReadonlyMap<string, Format>,
): ModelWeights {
  if (transformed === source) return source;
  const types = new Map<string, FloatFormat>();
  for (const name of transformed.names()) if (!formats.has(name)) types.set(name, keptFormat(source, name));
  return {
    ...transformed,
    format: (name) => types.get(name) ?? transformed.format(name),
    async load(name) {
      const tensor = await transformed.load(name);
      const type = types.get(name);
      return type ? inFloatType(tensor, type) : tensor;
    },
  };
}

/** The model with some tensors taken from `load`; their formats are those of `formats` where there is one. */
export function withTensors(
  model: ModelWeights,
  names: ReadonlySet<string>,
  formats: ReadonlyMap<string, Format>,
  load: (name: string) => Promise<AnyTensor>,
): ModelWeights {
  return {
    ...model,
    format: (name) => (names.has(name) ? (formats.get(name) ?? model.format(name)) : model.format(name)),
    load: (name) => (names.has(name) ? load(name) : model.load(name)),
  };
}
