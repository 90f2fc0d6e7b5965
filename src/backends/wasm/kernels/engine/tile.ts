// A small matrix product for kernels that hold their operands in scratch memory (attention, cross-entropy).
//
//   C[4, 8] = (or +=) A[4, K] · B[K, 8], B and C row-major with a stride, A as four row pointers.
//
// Eight accumulators, two vectors of B and one of A stay in registers; each k costs six loads and eight fused
// multiply-adds. Summation runs over k in order.

export function tile4x8(
  k: i32,
  a0: usize,
  a1: usize,
  a2: usize,
  a3: usize,
  b: usize,
  strideB: usize,
  c: usize,
  strideC: usize,
  accumulate: bool,
): void {
  let c00 = f32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  const r1 = c + strideC;
  const r2 = r1 + strideC;
  const r3 = r2 + strideC;
  if (accumulate) {
    c00 = v128.load(c);
    c01 = v128.load(c, 16);
    c10 = v128.load(r1);
    c11 = v128.load(r1, 16);
    c20 = v128.load(r2);
    c21 = v128.load(r2, 16);
    c30 = v128.load(r3);
    c31 = v128.load(r3, 16);
  }
  const end = (<usize>k) << 2;
  for (let i: usize = 0; i < end; i += 4) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    b += strideB;
    let a = v128.load32_splat(a0 + i);
    c00 = f32x4.relaxed_madd(a, b0, c00);
    c01 = f32x4.relaxed_madd(a, b1, c01);
    a = v128.load32_splat(a1 + i);
    c10 = f32x4.relaxed_madd(a, b0, c10);
    c11 = f32x4.relaxed_madd(a, b1, c11);
    a = v128.load32_splat(a2 + i);
    c20 = f32x4.relaxed_madd(a, b0, c20);
    c21 = f32x4.relaxed_madd(a, b1, c21);
    a = v128.load32_splat(a3 + i);
    c30 = f32x4.relaxed_madd(a, b0, c30);
    c31 = f32x4.relaxed_madd(a, b1, c31);
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  v128.store(r1, c10);
  v128.store(r1, c11, 16);
  v128.store(r2, c20);
  v128.store(r2, c21, 16);
  v128.store(r3, c30);
  v128.store(r3, c31, 16);
}

/**
 * Transposes `count` rows of `length` floats (row stride in bytes) into to[i][row], 64 floats a line; rows from
 * `count` to 64 become zero.
 */
export function transpose64(from: usize, stride: usize, count: i32, length: i32, to: usize): void {
  let row = 0;
  for (; row + 4 <= count; row += 4) {
    const r0 = from + <usize>row * stride;
    const r1 = r0 + stride;
    const r2 = r1 + stride;
    const r3 = r2 + stride;
    const out = to + ((<usize>row) << 2);
    let i: usize = 0;
    const vectors = ((<usize>length) & ~3) << 2;
    for (; i < vectors; i += 16) {
      const v0 = v128.load(r0 + i);
      const v1 = v128.load(r1 + i);
      const v2 = v128.load(r2 + i);
      const v3 = v128.load(r3 + i);
      const low01 = v128.shuffle<f32>(v0, v1, 0, 4, 1, 5);
      const low23 = v128.shuffle<f32>(v2, v3, 0, 4, 1, 5);
      const high01 = v128.shuffle<f32>(v0, v1, 2, 6, 3, 7);
      const high23 = v128.shuffle<f32>(v2, v3, 2, 6, 3, 7);
      const line = out + (i << 6);
      v128.store(line, v128.shuffle<i64>(low01, low23, 0, 2));
      v128.store(line, v128.shuffle<i64>(low01, low23, 1, 3), 256);
      v128.store(line, v128.shuffle<i64>(high01, high23, 0, 2), 512);
      v128.store(line, v128.shuffle<i64>(high01, high23, 1, 3), 768);
    }
    for (; i < (<usize>length) << 2; i += 4) {
      const line = out + (i << 6);
      store<f32>(line, load<f32>(r0 + i));
      store<f32>(line, load<f32>(r1 + i), 4);
      store<f32>(line, load<f32>(r2 + i), 8);
      store<f32>(line, load<f32>(r3 + i), 12);
    }
  }
  for (; row < 64; row++) {
    const source = from + <usize>row * stride;
    const out = to + ((<usize>row) << 2);
    for (let i: usize = 0; i < (<usize>length) << 2; i += 4)
      store<f32>(out + (i << 6), row < count ? load<f32>(source + i) : 0);
  }
}
