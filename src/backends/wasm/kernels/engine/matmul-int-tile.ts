// The register tile of the integer matrix products: 6 rows × 8 columns, four k at a time.
//
// i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, c) adds four products of signed a and 7-bit b to each lane of c. Engines
// may treat a b above 127 as signed or unsigned, and may saturate the sum of two neighbouring products to 16 bits.
// Neither can happen for b in 0 … 127: |a₀b₀ + a₁b₁| ≤ 2 · 128 · 127 = 32512 < 32768. So B is stored with an offset
// that makes it non-negative (8 for INT4; 12 for FP4 × 2, or 48 where its integers may be shifted by 2) and each block
// starts from −offset · Σa:
//   Σ a·w = Σ a·(w + offset) − offset · Σ a,   exact in i32 (a block has at most 2^15 values, |a|, |w| ≤ 128).
// INT8 needs eight bits. `wideDot` asks this host what it does with them: exact unsigned (x86 with VNNI) takes offset
// 128, exact signed (ARM) takes offset 0; any other host takes two 7-bit products by
//   w = (bits & 127) − 128 · (bits >> 7).
// All give the same integers. V8, SpiderMonkey and JavaScriptCore choose the instruction by CPU, once.
//
// Each block then adds f32(Σ) · sb · sa to the f32 tile, in the order of k: ((f32(Σ) · sb) · sa) is rounded, then the
// sum. `exact` says that both products are exact (scales with at most four significant bits), so that a fused
// multiply-add gives the same bits and can be used.

/** Bytes of the starts, and of the scales, of one block of a panel: eight words, of which A uses six. */
export const lineBytes: usize = 32;

export const dotPortable: i32 = 0;
export const dotUnsigned: i32 = 1;
export const dotSigned: i32 = 2;

const probe = memory.data<u8>([
  128, 128, 128, 128, 127, 127, 127, 127, 1, 255, 2, 254, 127, 127, 128, 127, 255, 255, 255, 255, 255, 255, 255, 255,
  255, 128, 200, 129, 128, 254, 255, 130,
]);

/** What the relaxed dot product of this host does when its second operand uses all eight bits. */
export function wideDot(): i32 {
  const a = v128.load(probe);
  const b = v128.load(probe, 16);
  const sums = i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, i32x4.splat(0));
  let unsigned = true;
  let signed = true;
  for (let lane = 0; lane < 4; lane++) {
    let u = 0;
    let s = 0;
    for (let i = 4 * lane; i < 4 * lane + 4; i++) {
      const x = <i32>load<i8>(probe + <usize>i);
      u += x * <i32>load<u8>(probe + <usize>i, 16);
      s += x * <i32>load<i8>(probe + <usize>i, 16);
    }
    const got =
      lane == 0
        ? i32x4.extract_lane(sums, 0)
        : lane == 1
          ? i32x4.extract_lane(sums, 1)
          : lane == 2
            ? i32x4.extract_lane(sums, 2)
            : i32x4.extract_lane(sums, 3);
    unsigned = unsigned && got == u;
    signed = signed && got == s;
  }
  return unsigned ? dotUnsigned : signed ? dotSigned : dotPortable;
}

// @ts-ignore: decorator
@inline
function finish(sum: v128, sb: v128, sa: v128, at: usize, exact: bool): void {
  const term = f32x4.mul(f32x4.convert_i32x4_s(sum), sb);
  const old = v128.load(at);
  v128.store(at, exact ? f32x4.relaxed_madd(term, sa, old) : f32x4.add(old, f32x4.mul(term, sa)));
}

// @ts-ignore: decorator
@inline
function dot(a: v128, b: v128, c: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(a, b, c);
}

/** One block: `steps` × 4 products, scaled and added to the f32 tile at `out`, rows `stride` bytes apart. */
// @ts-ignore: decorator
@inline
function block(
  steps: i32,
  a: usize,
  starts: usize,
  scalesA: usize,
  b: usize,
  scalesB: usize,
  out: usize,
  stride: usize,
  exact: bool,
): void {
  let c00 = v128.load32_splat(starts);
  let c01 = c00;
  let c10 = v128.load32_splat(starts, 4);
  let c11 = c10;
  let c20 = v128.load32_splat(starts, 8);
  let c21 = c20;
  let c30 = v128.load32_splat(starts, 12);
  let c31 = c30;
  let c40 = v128.load32_splat(starts, 16);
  let c41 = c40;
  let c50 = v128.load32_splat(starts, 20);
  let c51 = c50;
  for (const end = a + (<usize>steps) * 24; a < end; a += 24) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    c00 = dot(a0, b0, c00);
    c01 = dot(a0, b1, c01);
    const a1 = v128.load32_splat(a, 4);
    c10 = dot(a1, b0, c10);
    c11 = dot(a1, b1, c11);
    const a2 = v128.load32_splat(a, 8);
    c20 = dot(a2, b0, c20);
    c21 = dot(a2, b1, c21);
    const a3 = v128.load32_splat(a, 12);
    c30 = dot(a3, b0, c30);
    c31 = dot(a3, b1, c31);
    const a4 = v128.load32_splat(a, 16);
    c40 = dot(a4, b0, c40);
    c41 = dot(a4, b1, c41);
    const a5 = v128.load32_splat(a, 20);
    c50 = dot(a5, b0, c50);
    c51 = dot(a5, b1, c51);
    b += 32;
  }
  const s0 = v128.load(scalesB);
  const s1 = v128.load(scalesB, 16);
  const r0 = v128.load32_splat(scalesA);
  finish(c00, s0, r0, out, exact);
  finish(c01, s1, r0, out + 16, exact);
  const r1 = v128.load32_splat(scalesA, 4);
  out += stride;
  finish(c10, s0, r1, out, exact);
  finish(c11, s1, r1, out + 16, exact);
  const r2 = v128.load32_splat(scalesA, 8);
  out += stride;
  finish(c20, s0, r2, out, exact);
  finish(c21, s1, r2, out + 16, exact);
  const r3 = v128.load32_splat(scalesA, 12);
  out += stride;
  finish(c30, s0, r3, out, exact);
  finish(c31, s1, r3, out + 16, exact);
  const r4 = v128.load32_splat(scalesA, 16);
  out += stride;
  finish(c40, s0, r4, out, exact);
  finish(c41, s1, r4, out + 16, exact);
  const r5 = v128.load32_splat(scalesA, 20);
  out += stride;
  finish(c50, s0, r5, out, exact);
  finish(c51, s1, r5, out + 16, exact);
}

/** Adds `blocks` blocks of `steps` × 4 products to the f32 tile at `out` (six rows of 32 bytes). */
export function tileRounded(
  blocks: i32,
  steps: i32,
  a: usize,
  starts: usize,
  sa: usize,
  b: usize,
  sb: usize,
  out: usize,
): void {
  for (; blocks > 0; blocks--) {
    block(steps, a, starts, sa, b, sb, out, 32, false);
    a += (<usize>steps) * 24;
    b += (<usize>steps) << 5;
    starts += lineBytes;
    sa += lineBytes;
    sb += lineBytes;
  }
}

/** The same where scale products are exact. */
export function tileExact(
  blocks: i32,
  steps: i32,
  a: usize,
  starts: usize,
  sa: usize,
  b: usize,
  sb: usize,
  out: usize,
): void {
  for (; blocks > 0; blocks--) {
    block(steps, a, starts, sa, b, sb, out, 32, true);
    a += (<usize>steps) * 24;
    b += (<usize>steps) << 5;
    starts += lineBytes;
    sa += lineBytes;
    sb += lineBytes;
  }
}

/**
 * The same for runs of `fold` blocks whose scales are powers of two, with rows of the tile `stride` bytes apart. A run that is folded on both sides (its integers
 * shifted to one scale, matmul-int-fold.ts) is one long block; otherwise its blocks are summed at `sum` first.
 * Both give the sum of the run, exact wherever folding applies, so the result does not depend on the neighbours that
 * decide whether a panel is folded.
 */
export function tileFolded(
  runs: i32,
  fold: i32,
  steps: i32,
  a: usize,
  starts: usize,
  sa: usize,
  b: usize,
  sb: usize,
  flags: usize,
  out: usize,
  stride: usize,
  sum: usize,
): void {
  const bytesA = (<usize>steps) * 24;
  const bytesB = (<usize>steps) << 5;
  for (; runs > 0; runs--) {
    const total = starts + (<usize>fold) * lineBytes;
    if ((load<i32>(total, 24) & load<i32>(flags)) != 0) {
      block(steps * fold, a, total, sa, b, sb, out, stride, true);
      a += bytesA * <usize>fold;
      b += bytesB * <usize>fold;
      sa += lineBytes * <usize>fold;
      sb += lineBytes * <usize>fold;
    } else {
      clearTile(sum, 32, 32);
      for (let i = 0; i < fold; i++) {
        block(steps, a, starts, sa, b, sb, sum, 32, true);
        a += bytesA;
        b += bytesB;
        starts += lineBytes;
        sa += lineBytes;
        sb += lineBytes;
      }
      addTile(sum, 32, out, stride);
    }
    starts = total + lineBytes;
    flags += 4;
  }
}

/** Six rows of `width` bytes, `stride` bytes apart. */
export function clearTile(tile: usize, width: usize, stride: usize): void {
  const zero = f32x4.splat(0);
  for (let i = 0; i < 6; i++) {
    for (let at: usize = 0; at < width; at += 16) v128.store(tile + at, zero);
    tile += stride;
  }
}

/** Adds a tile without gaps to one with rows `stride` bytes apart. */
export function addTile(tile: usize, width: usize, out: usize, stride: usize): void {
  for (let i = 0; i < 6; i++) {
    for (let at: usize = 0; at < width; at += 16)
      v128.store(out + at, f32x4.add(v128.load(out + at), v128.load(tile + at)));
    tile += width;
    out += stride;
  }
}

/** The same for 8-bit B on a host without an exact 8-bit dot product: B holds two's complement, starts are zero. */
export function tilePortable(blocks: i32, steps: i32, a: usize, sa: usize, b: usize, sb: usize, out: usize): void {
  const low = i8x16.splat(127);
  for (; blocks > 0; blocks--) {
    for (let i = 0; i < 6; i++) {
      for (let j = 0; j < 2; j++) {
        let sum = i32x4.splat(0);
        let high = i32x4.splat(0);
        let x = a + ((<usize>i) << 2);
        let w = b + ((<usize>j) << 4);
        for (let s = 0; s < steps; s++) {
          const codes = v128.load(w);
          const values = v128.load32_splat(x);
          sum = dot(values, v128.and(codes, low), sum);
          high = dot(values, i8x16.shr_u(codes, 7), high);
          x += 24;
          w += 32;
        }
        sum = i32x4.sub(sum, i32x4.shl(high, 7));
        const at = out + ((<usize>i) << 5) + ((<usize>j) << 4);
        finish(sum, v128.load(sb + ((<usize>j) << 4)), v128.load32_splat(sa + ((<usize>i) << 2)), at, false);
      }
    }
    a += (<usize>steps) * 24;
    b += (<usize>steps) << 5;
    sa += lineBytes;
    sb += lineBytes;
  }
}
