// Quantize and dequantize matrices in ggml's block types: the reference that every kernel is compared with.
//
// Each row is a run of blocks; rows are independent. The bytes equal what llama.cpp's quantizer writes on x86-64
// (builds that contract to fused multiply-add may choose differently in ties of a search; values agree). Non-finite
// input is not checked here: readers report it with the tensor's name. Does not know tensor scales of NVFP4 files.

import { userError } from '../../errors.ts';
import type { GgmlTypeName } from '../format.ts';
import type { RowCodec } from './codec.ts';
import { mxfp4, nvfp4 } from './fp4.ts';
import { iq4_nl, iq4_xs } from './iq4.ts';
import { q2_k, q4_k, q5_k } from './k-affine.ts';
import { q3_k, q6_k } from './k-symmetric.ts';
import { q4_0, q4_1, q5_0, q5_1, q8_0 } from './legacy.ts';
import { q1_0, q2_0, tq1_0, tq2_0 } from './ternary.ts';
import { ggmlRowBytes } from './types.ts';

const codecs: Record<GgmlTypeName, RowCodec> = {
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  tq1_0,
  tq2_0,
  q1_0,
  q2_0,
  'ggml-mxfp4': mxfp4,
  'ggml-nvfp4': nvfp4,
};

/** The error for a buffer whose length does not fit the matrix. */
function lengthError(op: string, what: string, got: number, expected: number) {
  return userError({ code: 'ggml-length', op, problem: `${what} does not fit the matrix`, got, expected });
}

function checkRows(op: string, rows: number): void {
  if (Number.isSafeInteger(rows) && rows >= 0) return;
  throw userError({ code: 'ggml-rows', op, problem: 'bad number of rows', got: rows, expected: 'an integer ≥ 0' });
}

/**
 * Encode a row-major matrix [rows, cols] in a ggml block type.
 * @param importance non-negative weights of the cols input features (mean squared activations), shared by all rows.
 *   Used by Q2_K … Q6_K, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL and IQ4_XS; the other types have no weighted search.
 * @returns rows × ggmlRowBytes(type, cols) bytes, the file's layout.
 * @throws SubbyteError (user) when cols is no multiple of the block or a length does not fit.
 * @example quantizeGgml('q4_0', weight, 1024, 4096).length // 1024 · 4096/32 · 18
 */
export function quantizeGgml(
  type: GgmlTypeName,
  values: Float32Array,
  rows: number,
  cols: number,
  importance?: Float32Array,
): Uint8Array {
  const rowBytes = ggmlRowBytes(type, cols);
  checkRows(type, rows);
  if (values.length !== rows * cols) throw lengthError(type, 'the number of values', values.length, rows * cols);
  const out = new Uint8Array(rows * rowBytes);
  encodeGgmlRows(type, values, cols, 0, rows, out, importance);
  return out;
}

/**
 * Encode rows start … start+count of values (row-major, `cols` columns) into out, which begins with row `start`.
 * @throws SubbyteError (user) when cols is no multiple of the block, the rows lie outside, or out is too short.
 */
export function encodeGgmlRows(
  type: GgmlTypeName,
  values: Float32Array,
  cols: number,
  start: number,
  count: number,
  out: Uint8Array,
  importance?: Float32Array,
): void {
  const rowBytes = ggmlRowBytes(type, cols);
  checkRange(type, 'the number of values', values.length, cols, start, count);
  if (out.length < count * rowBytes) throw lengthError(type, 'the output', out.length, count * rowBytes);
  if (importance && importance.length !== cols) {
    throw lengthError(type, 'the number of importance weights', importance.length, cols);
  }
  const codec = codecs[type];
  for (let r = 0; r < count; r++) {
    codec.encode(
      values.subarray((start + r) * cols, (start + r + 1) * cols),
      out.subarray(r * rowBytes, (r + 1) * rowBytes),
      importance,
    );
  }
}

function checkRange(op: string, what: string, length: number, unit: number, start: number, count: number): void {
  checkRows(op, start);
  checkRows(op, count);
  if ((start + count) * unit > length) throw lengthError(op, what, length, (start + count) * unit);
}

/**
 * Decode a matrix [rows, cols].
 * @returns rows × cols values, each rounded to f32 as ggml does it.
 * @throws SubbyteError (user) when cols is no multiple of the block or the bytes do not fit.
 * @example dequantizeGgml('q8_0', bytes, 4, 64) // Float32Array(256)
 */
export function dequantizeGgml(type: GgmlTypeName, bytes: Uint8Array, rows: number, cols: number): Float32Array {
  const rowBytes = ggmlRowBytes(type, cols);
  checkRows(type, rows);
  if (bytes.length !== rows * rowBytes) throw lengthError(type, 'the number of bytes', bytes.length, rows * rowBytes);
  const out = new Float32Array(rows * cols);
  decodeGgmlRows(type, bytes, cols, 0, rows, out);
  return out;
}

/**
 * Decode rows start … start+count of a matrix with `cols` columns into out, which begins with row `start`.
 * @throws SubbyteError (user) when cols is no multiple of the block, the rows lie outside, or out is too short.
 */
export function decodeGgmlRows(
  type: GgmlTypeName,
  bytes: Uint8Array,
  cols: number,
  start: number,
  count: number,
  out: Float32Array,
): void {
  const rowBytes = ggmlRowBytes(type, cols);
  checkRange(type, 'the number of bytes', bytes.length, rowBytes, start, count);
  if (out.length < count * cols) throw lengthError(type, 'the output', out.length, count * cols);
  const codec = codecs[type];
  for (let r = 0; r < count; r++) {
    codec.decode(
      bytes.subarray((start + r) * rowBytes, (start + r + 1) * rowBytes),
      out.subarray(r * cols, (r + 1) * cols),
    );
  }
}
