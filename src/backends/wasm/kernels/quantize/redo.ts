// The scalar decision of the reference codec, for values whose quotient is within float32 error of a midpoint:
// |x| is compared with fl(step × midpoint); equal goes to the even code.

/** Midpoint between magnitude codes `code` and `code + 1` of a minifloat. */
// @ts-ignore: decorator
@inline
export function midpoint(code: i32, mantissaBits: i32, bias: i32): f32 {
  const field = code >> mantissaBits;
  const fraction = code & ((1 << mantissaBits) - 1);
  const integer = field == 0 ? fraction : fraction + (1 << mantissaBits);
  return (f32(integer) + 0.5) * reinterpret<f32>((max(field, 1) - bias - mantissaBits + 127) << 23);
}

/** Magnitude code of |x| = a, from a code that is at most one off. */
function decideFloat(a: f32, step: f32, code: i32, mantissaBits: i32, bias: i32, last: i32): i32 {
  const odd = (code & 1) != 0;
  if (code < last) {
    const high = step * midpoint(code, mantissaBits, bias);
    if (a > high || (a == high && odd)) return code + 1;
  }
  if (code > 0) {
    const low = step * midpoint(code - 1, mantissaBits, bias);
    if (a < low || (a == low && odd)) return code - 1;
  }
  return code;
}

function decideInt(a: f32, step: f32, n: i32): i32 {
  const odd = (n & 1) != 0;
  const high = step * (f32(n) + 0.5);
  if (a > high || (a == high && odd)) return n + 1;
  if (n > 0) {
    const low = step * (f32(n) - 0.5);
    if (a < low || (a == low && odd)) return n - 1;
  }
  return n;
}

/** Codes of 16 float32 values at `x` as bytes: clamp(round((x − minimum) / step) + zero, low, high). */
export function redoInt16(x: usize, step: f32, minimum: f32, zero: i32, low: i32, high: i32): v128 {
  let word0: u64 = 0;
  let word1: u64 = 0;
  for (let i = 0; i < 16; i++) {
    const v = load<f32>(x + (<usize>i << 2)) - minimum;
    const a = abs(v);
    let n = <i32>min(nearest(a / step), 65536);
    if (n < 65536) n = decideInt(a, step, n);
    const code = min(max((v < 0 ? -n : n) + zero, low), high);
    if (i < 8) word0 |= (<u64>code & 0xff) << (<u64>i << 3);
    else word1 |= (<u64>code & 0xff) << ((<u64>i - 8) << 3);
  }
  return i64x2.replace_lane(i64x2.splat(word0), 1, word1);
}

/** Magnitude codes of 16 float32 values at `x` as bytes, saturating at `last`. */
export function redoFloat16(x: usize, step: f32, mantissaBits: i32, bias: i32, last: i32): v128 {
  let word0: u64 = 0;
  let word1: u64 = 0;
  const top = midpoint(last, mantissaBits, bias);
  for (let i = 0; i < 16; i++) {
    const a = abs(load<f32>(x + (<usize>i << 2)));
    const q = min(a / step, top);
    const e = max(reinterpret<i32>(q) & 0x7f800000, (128 - bias) << 23);
    const n = <i32>nearest(q * reinterpret<f32>(((254 + mantissaBits) << 23) - e));
    const near = min((e >> (23 - mantissaBits)) - ((128 - bias) << mantissaBits) + n, last);
    const code = decideFloat(a, step, near, mantissaBits, bias, last);
    if (i < 8) word0 |= <u64>code << (<u64>i << 3);
    else word1 |= <u64>code << ((<u64>i - 8) << 3);
  }
  return i64x2.replace_lane(i64x2.splat(word0), 1, word1);
}
