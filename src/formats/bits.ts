// Bits of floating-point numbers: float32 fields, bfloat16 and float16 in both directions.
//
// Exponents are read from the bits: floor(log2(x)) in float32 is one too high just below powers of two. Conversions
// round to nearest, ties to even, and are done in integers, so that no runtime support for 16-bit floats is needed
// (Math.f16round and Float16Array are missing in Node 20). NaN becomes the canonical quiet NaN with its sign.

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** The 32 bits of a float32 (the argument is rounded to float32 first). */
export function f32Bits(x: number): number {
  f32[0] = x;
  return u32[0]!;
}

/** The float32 with these bits. */
export function f32FromBits(bits: number): number {
  u32[0] = bits;
  return f32[0]!;
}

/** floor(log2|x|) of a finite non-zero float32, subnormals included. */
export function exponentF32(x: number): number {
  f32[0] = x;
  const field = (u32[0]! >>> 23) & 0xff;
  if (field !== 0) return field - 127;
  return -118 - Math.clz32(u32[0]! & 0x7fffff);
}

/** The 23 fraction bits of a float32. */
export function fractionF32(x: number): number {
  f32[0] = x;
  return u32[0]! & 0x7fffff;
}

const f64 = new Float64Array(1);
const f64Words = new Uint32Array(f64.buffer);

/** floor(log2|x|) of a finite normal float64; −1023 for zero and subnormals. */
export function exponentF64(x: number): number {
  f64[0] = x;
  return ((f64Words[1]! >>> 20) & 0x7ff) - 1023;
}

/** 2^e exactly, for −1022 ≤ e ≤ 1023. */
export function powerOfTwo(e: number): number {
  f64Words[0] = 0;
  f64Words[1] = (e + 1023) << 20;
  return f64[0]!;
}

const two52 = 2 ** 52;

/** Round to nearest integer, ties to even, for |x| < 2^51. Math.round sends ties up and is not this. */
export function roundNearestEven(x: number): number {
  return x < 0 ? x - two52 + two52 : x + two52 - two52;
}

/** bfloat16 code of a float32: nearest, ties to even; beyond the largest value infinity; NaN 0x7fc0 with its sign. */
export function bf16Bits(x: number): number {
  f32[0] = x;
  const bits = u32[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Value of a bfloat16 code. */
export function bf16Value(code: number): number {
  u32[0] = code << 16;
  return f32[0]!;
}

/** float16 code of a float32: nearest, ties to even; |x| ≥ 65520 infinity; NaN 0x7e00 with its sign. */
export function f16Bits(x: number): number {
  f32[0] = x;
  const bits = u32[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const a = bits & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7e00;
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a < 0x38800000) {
    // below 2^-14: count in units of 2^-24; adding 0.5 puts that unit in the last place of a float32
    u32[0] = a;
    f32[0] = f32[0]! + 0.5;
    return sign | (u32[0]! - 0x3f000000);
  }
  return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
}

/** Value of a float16 code. */
export function f16Value(code: number): number {
  const sign = (code & 0x8000) << 16;
  const exponent = (code >>> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0) return (sign ? -1 : 1) * fraction * 2 ** -24;
  u32[0] = exponent === 31 ? sign | 0x7f800000 | (fraction << 13) : sign | ((exponent + 112) << 23) | (fraction << 13);
  return f32[0]!;
}

/** Values of bfloat16 codes; `out` is made when missing. */
export function bf16ToF32(codes: Uint16Array, out = new Float32Array(codes.length)): Float32Array {
  const bits = new Uint32Array(out.buffer, out.byteOffset, codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return out;
}

/** Values of float16 codes; `out` is made when missing. */
export function f16ToF32(codes: Uint16Array, out = new Float32Array(codes.length)): Float32Array {
  for (let i = 0; i < codes.length; i++) out[i] = f16Value(codes[i]!);
  return out;
}

/** bfloat16 codes of float32 values; see bf16Bits. */
export function f32ToBf16(values: Float32Array, out = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) out[i] = bf16Bits(values[i]!);
  return out;
}

/** float16 codes of float32 values; see f16Bits. */
export function f32ToF16(values: Float32Array, out = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) out[i] = f16Bits(values[i]!);
  return out;
}
