// What a number format is, as data.
//
// A Format says how a matrix of real numbers is stored: as plain floats, as codes of a small element type with
// scales (QuantSpec: integers, minifloats and codebooks; per tensor, channel, token, group or tile; MX and NV block
// formats are members of this family), or as one of ggml's block types, whose layouts are fixed by that library.
// Names parse to a Format and print from it (registry.ts); codecs are in quantize.ts and ggml/.

export type IntElement = 'int2' | 'int3' | 'int4' | 'int5' | 'int6' | 'int7' | 'int8';
export type MinifloatElement =
  | 'e2m1'
  | 'e1m2'
  | 'e3m0'
  | 'e2m3'
  | 'e3m2'
  | 'e3m4'
  | 'e4m3' // OCP E4M3FN
  | 'e4m3ieee'
  | 'e4m3fnuz'
  | 'e4m3b11fnuz'
  | 'e5m2'
  | 'e5m2fnuz';
export type CodebookElement = 'nf4' | 'ternary' | 'log2-3' | 'log2-4' | 'log2-8';
export type ElementName = IntElement | MinifloatElement | CodebookElement;

/** Which values share a scale. Groups run along K (the last dimension); tiles cover rows × columns. */
export type Granularity =
  | { kind: 'tensor' }
  | { kind: 'channel' } // one scale for each row of a weight [N, K]
  | { kind: 'token' } // one scale for each row of an activation [T, K]; the same arithmetic as channel
  | { kind: 'group'; size: number }
  | { kind: 'tile'; rows: number; cols: number };

export type ScaleFormat = 'f32' | 'f16' | 'bf16' | 'e8m0' | 'e4m3' | 'ue5m3' | 'e6m2';

/**
 * How a scale follows from the values it covers. Exact arithmetic and sources: scale-rules.ts for the rules of
 * power-of-two and float scales, nvfp4.ts for the five library conventions of two-level scales. With a `choice` the
 * rule is the error measure that decides: mse, mae or absmax.
 */
export type ScaleRule =
  // power-of-two scales (e8m0)
  | 'floor' // 2^(exp(amax) - emax): OCP MX text
  | 'ceil'
  | 'even' // round the mantissa of amax to the element's precision first
  | 'even1' // the same with one mantissa bit for every element: compressed-tensors
  | 'rceil' // round up fl(amax · fl(1 / elementMax)): torchao RCEIL
  | 'te' // the same with Transformer Engine's treatment of infinity and the largest binade
  | 'log2ceil' // round up fl(amax / elementMax) with float32 log2: modelopt
  | 'deepseek' // round up max(amax, 1e-4) / elementMax, codes 1 to 254
  | 'nearest' // round(log2(amax / elementMax)): MLX
  | 'microxcaling' // floor with float32 log2, one too high just below powers of two
  | 'four-thirds' // floor, times 4/3 in the tensor scale: the maximum lands in [3, 6) of E2M1; MR-GPTQ, Quartet backward
  | 'quest' // 2^floor(log2(0.48708 · std)): Gaussian-optimal, clips; Quartet's forward; f32 scales: 0.48708 · std
  | 'quest-nearest' // the same with log2 rounded to nearest
  // float scales
  | 'absmax' // amax / elementMax, no clipping (e8m0: none)
  | 'absmean' // mean |x|: ternary
  // both
  | 'mse' // the candidate with the smallest squared error
  | 'mae'
  // library conventions of two-level NVFP4
  | 'transformer-engine'
  | 'torchao'
  | 'modelopt'
  | 'compressed-tensors'
  | 'fouroversix'
  | 'ms-eden'; // corrected for magnitude, stochastic scales: Quartet II's backward

export interface ScaleSpec {
  format: ScaleFormat;
  rule: ScaleRule;
  /** Two-level scaling: one more f32 scale for the whole tensor (NVFP4), amax of the tensor / (elementMax · scaleMax). */
  tensorScale: boolean;
}

export type Rounding = 'nearest-even' | 'half-away' | 'half-up' | 'half-to-zero' | 'floor' | 'stochastic';

/** Codes of an element type and the scales that give them meaning. */
export interface QuantSpec {
  kind: 'quant';
  element: ElementName;
  granularity: Granularity;
  scale: ScaleSpec;
  /** none: symmetric. integer: s·(q − z), z a code. float: s·q + m, m the stored minimum. */
  zeroPoint: 'none' | 'integer' | 'float';
  /** Symmetric integers only: ±(2^(b−1)−1) | scale amax/((2^b−1)/2) | signed maximum to −2^(b−1). */
  range: 'restricted' | 'half-range' | 'signed-max';
  rounding: Rounding;
  /** The scale covers clip × amax, clip rounded to float32; 1 does not clip. */
  clip: number;
  /**
   * Per-block choice between two encodings, kept when its error is smaller (measure: scale.rule). four-over-six: the
   * block maximum maps to 6 or to 4. int-or-float (IF4): E2M1, or INT4 · 6/7 marked by the sign bit of the scale byte.
   */
  choice: 'none' | 'four-over-six' | 'int-or-float';
}

export interface FloatFormat {
  kind: 'float';
  name: 'f32' | 'f16' | 'bf16';
}

export type GgmlTypeName =
  | 'q4_0'
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'q8_0'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_nl'
  | 'iq4_xs'
  | 'tq1_0'
  | 'tq2_0'
  | 'q1_0'
  | 'q2_0'
  | 'ggml-mxfp4'
  | 'ggml-nvfp4';

/** A ggml block type. The bytes are llama.cpp's; the arithmetic is in ggml/. */
export interface GgmlFormat {
  kind: 'ggml';
  type: GgmlTypeName;
}

/** The three-level HiF4 format: 64 elements, 36 bytes, own codec. */
export interface Hif4Format {
  kind: 'hif4';
}

export type Format = FloatFormat | QuantSpec | GgmlFormat | Hif4Format;

/**
 * A quantized matrix: [rows, cols], cols is the reduction dimension K.
 * value = fl(fl(element × scale) × tensorScale) in f32 (asymmetric integers: see zeroPoint). Integer elements under an
 *   e8m0 scale are fixed point as in MX: element = code · 2^-(b−2) (MXINT8: code / 64); elsewhere element = code.
 * codes: element codes, dense bit stream along each row, first element in the lowest bits, every row padded to a
 *   whole byte (4-bit: low nibble first). For ggml formats the blocks as the file has them, scales inside.
 *   Integers without an integer zero point are two's complement in their bits; with one they are unsigned 0 … 2^b−1.
 * scales: raw little-endian bytes in scale.format, row-major [rows, groups] (or [1], [rows], [tileRows, tileCols]).
 *   Tiles at the right and bottom edge may be partial; groups must divide K. HiF4: 4 bytes a block of 64 (hif4.ts).
 * zeroPoints: one byte a scale for 'integer'; raw bytes in scale.format for 'float'.
 * tensorScale: the f32 second-level scale, 1 where the format has none; value = element × scale × tensorScale.
 */
export interface Quantized {
  format: Format;
  rows: number;
  cols: number;
  codes: Uint8Array;
  scales: Uint8Array;
  zeroPoints: Uint8Array | undefined;
  tensorScale: number;
}

/** Bytes that the matrix takes in memory and on disk, scales and zero points included. */
export function quantizedBytes(q: Quantized): number {
  const second = q.format.kind === 'quant' && q.format.scale.tensorScale ? 4 : 0;
  return q.codes.byteLength + q.scales.byteLength + (q.zeroPoints?.byteLength ?? 0) + second;
}
