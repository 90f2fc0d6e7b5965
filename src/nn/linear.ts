// Linear layers on dense or packed weights.
//
// y = x · Wᵀ + b, W [N, K] as checkpoints store it. A rotation, which the weight was made for, is applied to x first.
// When the activations have a format of their own they are quantized along K before the product: with a packed weight the product then runs on the codes (W4A4, W8A8); with a 16-bit or
// f32 weight there is no such product and the activations are quantized and dequantized.

import type { FixedScale } from '../formats/fixed-scale.ts';
import type { Format } from '../formats/format.ts';
import type { Value } from '../graph/graph.ts';
import { add } from '../graph/ops/arithmetic.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { dequantize, quantize } from '../graph/ops/quantize.ts';
import { once, type Rotation, rotateInput } from './hadamard.ts';

/** How the input of a product is rounded. */
export interface Activation {
  readonly format: Format;
  /** Scale that calibration fixed (a static range); absent: it follows from the values. */
  readonly fixed?: FixedScale;
}

/**
 * x [..., K], weight [N, K] → [..., N]. Of experts: x [N, K] or [N, k, K], weight [E, M, K], the experts i32 [N, k] of
 * each row → [N, k, M].
 */
export type Product = (x: Value, weight: Value, experts?: Value) => Value;

export interface LinearParams {
  /** [N, K] */
  readonly weight: Value;
  /** [N] */
  readonly bias?: Value;
  /** Applied to the input, before it is quantized; absent: none. */
  readonly rotation?: Rotation;
  /** What the input is quantized to; absent: it is not. */
  readonly activation?: Activation;
  /** In place of the plain product and of `activation`: low-precision training. */
  readonly product?: Product;
}

/** x [..., K] → [..., N]. */
export function linear(x: Value, { weight, bias, rotation, activation, product }: LinearParams): Value {
  const turned = rotatedInput(x, { rotation });
  if (product) return withBias(product(turned, weight), bias);
  const input = activation ? quantizeInput(turned, activation, isLowBit(weight)) : turned;
  return withBias(matmul(input, weight, { transposeB: true }), bias);
}

const withBias = (y: Value, bias: Value | undefined) => (bias ? add(y, bias) : y);

/** What the product of a layer really reads: its input rotated and rounded to the layer's activation format, in f32. */
export function observedInput(
  x: Value,
  { rotation, activation }: Pick<LinearParams, 'rotation' | 'activation'>,
): Value {
  const turned = rotatedInput(x, { rotation });
  return activation ? quantizeInput(turned, activation, false) : turned;
}

/** The input of a layer before it is rounded. */
export function rotatedInput(x: Value, { rotation }: Pick<LinearParams, 'rotation'>): Value {
  return rotation ? rotateInput(x, rotation) : x;
}

/**
 * The input of a product in its format: packed where the product takes codes, otherwise rounded in f32. Asking for the
 * same format of the same x again (q, k and v share their input, gate and up theirs) gives the same value.
 */
export function quantizeInput(x: Value, { format, fixed }: Activation, keepPacked: boolean): Value {
  const key = JSON.stringify([format, fixed]);
  const codes = once(packed, x, key, () => quantize(x, format, { fixed }));
  return keepPacked ? codes : once(unpacked, x, key, () => dequantize(codes));
}

const packed = new WeakMap<Value, Map<string, Value>>();
const unpacked = new WeakMap<Value, Map<string, Value>>();

/** Whether a weight is stored in codes with scales, so that products can run on the codes. */
function isLowBit(weight: Value): boolean {
  return weight.type.dtype === 'packed' && weight.type.format.kind !== 'float';
}
