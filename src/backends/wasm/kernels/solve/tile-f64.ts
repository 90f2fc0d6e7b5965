// The register tile of the f64 products and the packing of its operands: 6 rows × 4 columns, fused multiply-adds.
//
// As engine/matmul-tile.ts with doubles: a panel of A has six values for each k, a panel of B four. Lines past the edge
// of a matrix are packed as zeros; edge tiles are computed whole and stored in part.

export const tileRows: i32 = 6;
export const tileColumns: i32 = 4;
/** Steps of k in a panel: 6 × 256 doubles of A and 4 × 256 of B stay in the first-level cache. */
export const panelDepth: i32 = 256;
/** Bytes of one k step in a panel of A and of B. */
export const stepA: usize = 48;
export const stepB: usize = 32;

// @ts-ignore: decorator
@inline
function put(c: usize, low: v128, high: v128, sign: v128, accumulate: bool): void {
  low = f64x2.mul(low, sign);
  high = f64x2.mul(high, sign);
  if (accumulate) {
    low = f64x2.add(v128.load(c), low);
    high = f64x2.add(v128.load(c, 16), high);
  }
  v128.store(c, low);
  v128.store(c, high, 16);
}

/** C[6, 4] = (or +=) sign · Σ_k a[k, 0…5] · b[k, 0…3]; `stride`: bytes between rows of C. */
export function tileF64(depth: i32, a: usize, b: usize, c: usize, stride: usize, sign: f64, accumulate: bool): void {
  let c00 = f64x2.splat(0);
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
  for (const end = a + <usize>depth * stepA; a < end; a += stepA) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load64_splat(a);
    c00 = f64x2.relaxed_madd(a0, b0, c00);
    c01 = f64x2.relaxed_madd(a0, b1, c01);
    const a1 = v128.load64_splat(a, 8);
    c10 = f64x2.relaxed_madd(a1, b0, c10);
    c11 = f64x2.relaxed_madd(a1, b1, c11);
    const a2 = v128.load64_splat(a, 16);
    c20 = f64x2.relaxed_madd(a2, b0, c20);
    c21 = f64x2.relaxed_madd(a2, b1, c21);
    const a3 = v128.load64_splat(a, 24);
    c30 = f64x2.relaxed_madd(a3, b0, c30);
    c31 = f64x2.relaxed_madd(a3, b1, c31);
    const a4 = v128.load64_splat(a, 32);
    c40 = f64x2.relaxed_madd(a4, b0, c40);
    c41 = f64x2.relaxed_madd(a4, b1, c41);
    const a5 = v128.load64_splat(a, 40);
    c50 = f64x2.relaxed_madd(a5, b0, c50);
    c51 = f64x2.relaxed_madd(a5, b1, c51);
    b += stepB;
  }
  const s = f64x2.splat(sign);
  put(c, c00, c01, s, accumulate);
  put((c += stride), c10, c11, s, accumulate);
  put((c += stride), c20, c21, s, accumulate);
  put((c += stride), c30, c31, s, accumulate);
  put((c += stride), c40, c41, s, accumulate);
  put((c += stride), c50, c51, s, accumulate);
}

/** Address of the double in row i, column j of a matrix with rows of `stride` bytes. */
// @ts-ignore: decorator
@inline
export function cell(base: usize, stride: usize, i: i32, j: i32): usize {
  return base + <usize>i * stride + (<usize>j << 3);
}

/** The tile at C[6, 4], of which `rows` × `columns` exist; `spare` has room for a tile. */
// @ts-ignore: decorator
@inline
export function tileAt(
  depth: i32,
  a: usize,
  b: usize,
  c: usize,
  stride: usize,
  rows: i32,
  columns: i32,
  sign: f64,
  accumulate: bool,
  spare: usize,
): void {
  if (rows >= tileRows && columns >= tileColumns) tileF64(depth, a, b, c, stride, sign, accumulate);
  else edgeTile(depth, a, b, c, stride, rows, columns, sign, accumulate, spare);
}

function edgeTile(
  depth: i32,
  a: usize,
  b: usize,
  c: usize,
  stride: usize,
  rows: i32,
  columns: i32,
  sign: f64,
  accumulate: bool,
  spare: usize,
): void {
  tileF64(depth, a, b, spare, 32, sign, false);
  for (let i = 0; i < min(rows, tileRows); i++) {
    for (let j = 0; j < min(columns, tileColumns); j++) {
      const to = cell(c, stride, i, j);
      const value = load<f64>(cell(spare, 32, i, j));
      store<f64>(to, accumulate ? load<f64>(to) + value : value);
    }
  }
}

/** `lines` (at most six) lines along k, `stride` bytes apart, into a panel of A. */
export function packLines6(src: usize, stride: usize, lines: i32, depth: i32, dst: usize): void {
  if (lines >= 6) {
    const l1 = src + stride;
    const l2 = l1 + stride;
    const l3 = l2 + stride;
    const l4 = l3 + stride;
    const l5 = l4 + stride;
    const whole = <usize>(depth & ~1) << 3;
    let k: usize = 0;
    for (; k < whole; k += 16, dst += 96) {
      const r0 = v128.load(src + k);
      const r1 = v128.load(l1 + k);
      const r2 = v128.load(l2 + k);
      const r3 = v128.load(l3 + k);
      const r4 = v128.load(l4 + k);
      const r5 = v128.load(l5 + k);
      v128.store(dst, v128.shuffle<i64>(r0, r1, 0, 2));
      v128.store(dst, v128.shuffle<i64>(r2, r3, 0, 2), 16);
      v128.store(dst, v128.shuffle<i64>(r4, r5, 0, 2), 32);
      v128.store(dst, v128.shuffle<i64>(r0, r1, 1, 3), 48);
      v128.store(dst, v128.shuffle<i64>(r2, r3, 1, 3), 64);
      v128.store(dst, v128.shuffle<i64>(r4, r5, 1, 3), 80);
    }
    if (depth & 1) packLinesEdge(src + k, stride, 6, 6, 1, dst);
    return;
  }
  packLinesEdge(src, stride, lines, 6, depth, dst);
}

/** `lines` (at most four) lines along k into a panel of B. */
export function packLines4(src: usize, stride: usize, lines: i32, depth: i32, dst: usize): void {
  if (lines >= 4) {
    const l1 = src + stride;
    const l2 = l1 + stride;
    const l3 = l2 + stride;
    const whole = <usize>(depth & ~1) << 3;
    let k: usize = 0;
    for (; k < whole; k += 16, dst += 64) {
      const r0 = v128.load(src + k);
      const r1 = v128.load(l1 + k);
      const r2 = v128.load(l2 + k);
      const r3 = v128.load(l3 + k);
      v128.store(dst, v128.shuffle<i64>(r0, r1, 0, 2));
      v128.store(dst, v128.shuffle<i64>(r2, r3, 0, 2), 16);
      v128.store(dst, v128.shuffle<i64>(r0, r1, 1, 3), 32);
      v128.store(dst, v128.shuffle<i64>(r2, r3, 1, 3), 48);
    }
    if (depth & 1) packLinesEdge(src + k, stride, 4, 4, 1, dst);
    return;
  }
  packLinesEdge(src, stride, lines, 4, depth, dst);
}

function packLinesEdge(src: usize, stride: usize, lines: i32, width: i32, depth: i32, dst: usize): void {
  for (let k = 0; k < depth; k++) {
    for (let i = 0; i < width; i++, dst += 8) store<f64>(dst, i < lines ? load<f64>(cell(src, stride, i, k)) : 0);
  }
}

/** `columns` (at most four) neighbouring values of `depth` rows into a panel of B. */
export function packAcross4(src: usize, stride: usize, columns: i32, depth: i32, dst: usize): void {
  for (let k = 0; k < depth; k++, src += stride, dst += stepB) {
    if (columns >= 4) {
      v128.store(dst, v128.load(src));
      v128.store(dst, v128.load(src, 16), 16);
    } else {
      for (let j = 0; j < 4; j++) store<f64>(dst + (<usize>j << 3), j < columns ? load<f64>(src + (<usize>j << 3)) : 0);
    }
  }
}
