// The register tile of the f32 matrix products: 6 rows × 8 columns, fused multiply-adds.
//
// C[6, 8] = (or +=) Σ_k a[k, 0…5] · b[k, 0…7] on packed panels: a stores six values of A for each k, b eight values of
// B. Twelve accumulators, two vectors of b and one of a fill the sixteen vector registers of x86-64; the order of
// summation over k is the same for every element, so results do not depend on where a tile lies.

export const tileRows: i32 = 6;
export const tileColumns: i32 = 8;
/** Steps of k in one panel: 6 × 512 floats of A and 8 × 512 of B stay in the first-level cache together. */
export const panelDepth: i32 = 512;

// @ts-ignore: decorator
@inline
function put(c: usize, low: v128, high: v128, accumulate: bool): void {
  if (accumulate) {
    low = f32x4.add(v128.load(c), low);
    high = f32x4.add(v128.load(c, 16), high);
  }
  v128.store(c, low);
  v128.store(c, high, 16);
}

/** `stride`: bytes between rows of C. */
export function tileF32(k: i32, a: usize, b: usize, c: usize, stride: usize, accumulate: bool): void {
  let c00 = f32x4.splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  let c40 = c00;
  let c41 = c00;
  let c50 = c00;
  let c51 = c00;
  for (const end = a + (<usize>k) * 24; a < end; a += 24) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    c00 = f32x4.relaxed_madd(a0, b0, c00);
    c01 = f32x4.relaxed_madd(a0, b1, c01);
    const a1 = v128.load32_splat(a, 4);
    c10 = f32x4.relaxed_madd(a1, b0, c10);
    c11 = f32x4.relaxed_madd(a1, b1, c11);
    const a2 = v128.load32_splat(a, 8);
    c20 = f32x4.relaxed_madd(a2, b0, c20);
    c21 = f32x4.relaxed_madd(a2, b1, c21);
    const a3 = v128.load32_splat(a, 12);
    c30 = f32x4.relaxed_madd(a3, b0, c30);
    c31 = f32x4.relaxed_madd(a3, b1, c31);
    const a4 = v128.load32_splat(a, 16);
    c40 = f32x4.relaxed_madd(a4, b0, c40);
    c41 = f32x4.relaxed_madd(a4, b1, c41);
    const a5 = v128.load32_splat(a, 20);
    c50 = f32x4.relaxed_madd(a5, b0, c50);
    c51 = f32x4.relaxed_madd(a5, b1, c51);
    b += 32;
  }
  put(c, c00, c01, accumulate);
  put((c += stride), c10, c11, accumulate);
  put((c += stride), c20, c21, accumulate);
  put((c += stride), c30, c31, accumulate);
  put((c += stride), c40, c41, accumulate);
  put((c += stride), c50, c51, accumulate);
}

/** Copies (or adds) the first rows × columns of a full tile (32 bytes a row) to C: the edges of the matrix. */
export function storeEdge(tile: usize, c: usize, stride: usize, rows: i32, columns: i32, accumulate: bool): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const at = c + ((<usize>j) << 2);
      let value = load<f32>(tile + ((<usize>j) << 2));
      if (accumulate) value += load<f32>(at);
      store<f32>(at, value);
    }
    tile += 32;
    c += stride;
  }
}

/** Σ x[i] · w[i], added to the four partial sums at `sums`: the path for few rows of A. */
export function dotF32(x: usize, w: usize, length: i32, sums: usize): void {
  let s0 = v128.load(sums);
  let s1 = f32x4.splat(0);
  let s2 = s1;
  let s3 = s1;
  const end = x + ((<usize>(length & ~15)) << 2);
  while (x < end) {
    s0 = f32x4.relaxed_madd(v128.load(x), v128.load(w), s0);
    s1 = f32x4.relaxed_madd(v128.load(x, 16), v128.load(w, 16), s1);
    s2 = f32x4.relaxed_madd(v128.load(x, 32), v128.load(w, 32), s2);
    s3 = f32x4.relaxed_madd(v128.load(x, 48), v128.load(w, 48), s3);
    x += 64;
    w += 64;
  }
  s0 = f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3));
  for (let i = length & 15; i > 0; i--) {
    s0 = f32x4.relaxed_madd(v128.load32_zero(x), v128.load32_zero(w), s0);
    x += 4;
    w += 4;
  }
  v128.store(sums, s0);
}
