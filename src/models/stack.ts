// One tensor [E, M, K] from the same matrix of E experts, for products that pick experts by index.
//
// Rows are independent in every storage format, so codes and scales are laid end to end. Three cases need care:
// a scale for the whole tensor becomes one for each row (the same numbers); second-level scales (NVFP4) stay outside
// the stack, one an expert, because they differ; tiles that do not end with an expert, and experts in different
// formats, have no common packed form and are dequantized to f32.

import type { Format, Quantized, QuantSpec } from '../formats/format.ts';
import { dequantize } from '../formats/quantize.ts';
import { type AnyTensor, type QTensor, qtensor, type Tensor, tensorF32 } from '../tensor/tensor.ts';

export interface StackedExperts {
  readonly weight: AnyTensor;
  /** [E, 1], for formats with a scale a tensor besides the block scales. */
  readonly tensorScales: Tensor | undefined;
}

/** Stacks E matrices [M, K] of one shape. */
export function stackExperts(experts: readonly AnyTensor[]): StackedExperts {
  const [m, k] = experts[0].shape;
  const shape = [experts.length, m, k];
  const matrices = experts.map((t) => (t.kind === 'packed' ? rowScales(t.data) : undefined));
  if (!matrices.every((q) => q !== undefined) || !stackable(matrices)) {
    const data = new Float32Array(experts.length * m * k);
    for (const [e, t] of experts.entries()) data.set(denseF32(t), e * m * k);
    return { weight: tensorF32(shape, data), tensorScales: undefined };
  }
  const { format } = matrices[0];
  const twoLevel = format.kind === 'quant' && format.scale.tensorScale;
  const zeroPoints = matrices.map((q) => q.zeroPoints).filter((z) => z !== undefined);
  const weight: QTensor = qtensor(shape, {
    format,
    rows: experts.length * m,
    cols: k,
    codes: join(matrices.map((q) => q.codes)),
    scales: join(matrices.map((q) => q.scales)),
    zeroPoints: zeroPoints.length > 0 ? join(zeroPoints) : undefined,
    tensorScale: 1,
  });
  const scales = Float32Array.from(matrices, (q) => q.tensorScale);
  return { weight, tensorScales: twoLevel ? tensorF32([experts.length, 1], scales) : undefined };
}

/** The values of a tensor in f32, as the reference codec gives them. */
export function denseF32(t: AnyTensor): Float32Array {
  if (t.kind === 'packed') return dequantize(t.data);
  return t.data instanceof Float32Array ? t.data : Float32Array.from(t.data);
}

function stackable(matrices: readonly Quantized[]): boolean {
  const name = JSON.stringify(matrices[0].format);
  const { format, rows } = matrices[0];
  const tiles = format.kind === 'quant' && format.granularity.kind === 'tile' ? format.granularity.rows : 1;
  return rows % tiles === 0 && matrices.every((q) => JSON.stringify(q.format) === name);
}

/** A scale for the tensor written once for each row. */
function rowScales(q: Quantized): Quantized {
  if (q.format.kind !== 'quant' || q.format.granularity.kind !== 'tensor') return q;
  const format: QuantSpec & Format = { ...q.format, granularity: { kind: 'channel' } };
  const repeat = (bytes: Uint8Array) => join(new Array<Uint8Array>(q.rows).fill(bytes));
  return { ...q, format, scales: repeat(q.scales), zeroPoints: q.zeroPoints && repeat(q.zeroPoints) };
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((n, p) => n + p.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
