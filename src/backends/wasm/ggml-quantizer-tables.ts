// Where floor(log2f(x)) differs from the exponent field of x.
//
// ggml takes MXFP4 exponents from an f32 logarithm, which rounds up to the next integer for the floats just below a
// power of two: one for small exponents, dozens for large ones. The kernel has no logarithm; it compares mantissas.

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

/** For each exponent field the smallest mantissa whose f32 logarithm has reached the next integer (2^23: none). */
export function logarithmThresholds(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, field) => {
    let low = 0;
    let high = 1 << 23;
    if (field === 0 || field === 255) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      bits[0] = (field << 23) | middle;
      if (Math.fround(Math.log2(f32[0])) >= field - 126) high = middle;
      else low = middle + 1;
    }
    return low;
  });
}
