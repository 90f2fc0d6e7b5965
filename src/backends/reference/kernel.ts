// What a reference kernel is, and how it reads its operands.
//
// Kernels compute in float64 and store into their outputs, whose arrays round to float32 (or keep float64 when the
// backend was made with precision 'f64'). They are written to be read: plain loops, one meaning, no tiling.

import { userError } from '../../errors.ts';
import type { Quantized } from '../../formats/format.ts';
import { dequantize } from '../../formats/quantize.ts';
import type { AnyTensor, QTensor, Tensor } from '../../tensor/tensor.ts';

/** What a kernel may give back: nothing, or that updates behind it in the run are left out. */
export type Outcome = 'hold updates' | undefined;

export type Kernel<A = never> = (
  inputs: readonly AnyTensor[],
  outputs: readonly AnyTensor[],
  attributes: A,
  // biome-ignore lint/suspicious/noConfusingVoidType: kernels without a word to say return nothing
) => Outcome | void;

export type Numbers = Tensor['data'];

// Decoded weights are kept as long as their packed form lives, since a reference run may be repeated many times.
const decoded = new WeakMap<Quantized, Float32Array>();

/** The numbers of a tensor, row-major; packed ones are dequantized. */
export function numbers(tensor: AnyTensor): Numbers {
  if (tensor.kind === 'dense') return tensor.data;
  let values = decoded.get(tensor.data);
  if (!values) decoded.set(tensor.data, (values = dequantize(tensor.data)));
  return values;
}

/** The numbers widened to float64, for kernels whose inner loop should see one array type. */
export function doubles(tensor: AnyTensor): Float64Array {
  const values = numbers(tensor);
  return values instanceof Float64Array ? values : new Float64Array(values);
}

/** Σ a[aFirst + i] · b[bFirst + i] over `count` elements. */
export function dot(a: Float64Array, aFirst: number, b: Float64Array, bFirst: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aFirst + i] * b[bFirst + i];
  return sum;
}

/** The array that a dense output is written to. */
export function target(tensor: AnyTensor): Numbers {
  if (tensor.kind === 'dense') return tensor.data;
  throw new Error('reference: a dense output was planned as packed');
}

/** A packed output, whose data the kernel replaces. */
export function packedTarget(tensor: AnyTensor): QTensor {
  if (tensor.kind === 'packed') return tensor;
  throw new Error('reference: a packed output was planned as dense');
}

/** Checks an index that only the data can tell: an id, a target, a position. Returns it. */
export function checkIndex(op: string, label: string, index: number, low: number, high: number): number {
  if (index >= low && index <= high) return index;
  throw userError({
    code: 'index-range',
    op,
    problem: `${label} is out of range`,
    got: index,
    expected: `${low} … ${high}`,
    fix: 'check the data that was written to the graph',
  });
}
