// Q6_K: sixteen sub-blocks of 16, eight at a time in lanes; definition in src/formats/ggml/k-symmetric.ts.
//
// Per candidate inverse scale one pass over transposed values: code, Σ w·x·l and Σ w·l². Declined like the affine
// types: numbers near the ends of the range, or a sub-block whose stored scale is zero though its search found one.

import { halfBits, halfValue, larger, magic, nearestInt, select, smaller, splat, transposeEight } from './lanes';

const valuesAt: usize = 0; // 16 × 8 transposed values
const weightsAt: usize = 512;
const productsAt: usize = 1024; // w·x
const scalesAt: usize = 1536; // 16 f32
const codesAt: usize = 1600; // 256 bytes

/**
 * Scales of eight transposed sub-blocks whose weights are in scratch already; 0 for one that counts as zero. False
 * when another one has scale 0: it would keep the codes of its search.
 */
function fitEight(s: usize, scales: usize): bool {
  const zero = splat(0);
  const m = splat(magic);
  const top = splat(magic + 31);
  const bottom = splat(magic - 32);
  let amaxA = zero;
  let amaxB = zero;
  let maxA = zero;
  let maxB = zero;
  for (let i: usize = 0; i < 512; i += 32) {
    const xa = v128.load(s + i);
    const xb = v128.load(s + i, 16);
    const a = f32x4.abs(xa);
    const b = f32x4.abs(xb);
    maxA = select(xa, maxA, f32x4.gt(a, amaxA));
    maxB = select(xb, maxB, f32x4.gt(b, amaxB));
    amaxA = larger(amaxA, a);
    amaxB = larger(amaxB, b);
    v128.store(s + i, f32x4.mul(v128.load(s + i, weightsAt), xa), productsAt);
    v128.store(s + i, f32x4.mul(v128.load(s + i, weightsAt + 16), xb), productsAt + 16);
  }
  const epsilon = splat(1e-15);
  const noneA = f32x4.lt(amaxA, epsilon);
  const noneB = f32x4.lt(amaxB, epsilon);
  maxA = select(splat(1), maxA, noneA);
  maxB = select(splat(1), maxB, noneB);
  let scaleA = zero;
  let scaleB = zero;
  let bestA = zero;
  let bestB = zero;
  for (let k = 0; k <= 18; k++) {
    const shift = k == 0 ? 0 : k <= 9 ? k - 10 : k - 9;
    const target = splat(-(32 + <f32>0.1 * <f32>shift));
    const inverseA = f32x4.div(target, maxA);
    const inverseB = f32x4.div(target, maxB);
    let xlA = zero;
    let xlB = zero;
    let llA = zero;
    let llB = zero;
    for (let i: usize = 0; i < 512; i += 32) {
      let la = f32x4.add(f32x4.mul(inverseA, v128.load(s + i)), m);
      let lb = f32x4.add(f32x4.mul(inverseB, v128.load(s + i, 16)), m);
      la = f32x4.sub(smaller(top, larger(bottom, la)), m);
      lb = f32x4.sub(smaller(top, larger(bottom, lb)), m);
      xlA = f32x4.add(xlA, f32x4.mul(v128.load(s + i, productsAt), la));
      xlB = f32x4.add(xlB, f32x4.mul(v128.load(s + i, productsAt + 16), lb));
      llA = f32x4.add(llA, f32x4.mul(f32x4.mul(v128.load(s + i, weightsAt), la), la));
      llB = f32x4.add(llB, f32x4.mul(f32x4.mul(v128.load(s + i, weightsAt + 16), lb), lb));
    }
    let takeA = f32x4.ne(llA, zero);
    let takeB = f32x4.ne(llB, zero);
    if (k != 0) {
      takeA = v128.and(f32x4.gt(llA, zero), f32x4.gt(f32x4.mul(xlA, xlA), f32x4.mul(bestA, llA)));
      takeB = v128.and(f32x4.gt(llB, zero), f32x4.gt(f32x4.mul(xlB, xlB), f32x4.mul(bestB, llB)));
    }
    scaleA = select(f32x4.div(xlA, llA), scaleA, takeA);
    scaleB = select(f32x4.div(xlB, llB), scaleB, takeB);
    bestA = select(f32x4.mul(scaleA, xlA), bestA, takeA);
    bestB = select(f32x4.mul(scaleB, xlB), bestB, takeB);
  }
  v128.store(scales, v128.andnot(scaleA, noneA));
  v128.store(scales, v128.andnot(scaleB, noneB), 16);
  const emptyA = v128.andnot(f32x4.eq(scaleA, zero), noneA);
  const emptyB = v128.andnot(f32x4.eq(scaleB, zero), noneB);
  return !v128.any_true(v128.or(emptyA, emptyB));
}

/** Largest magnitude of the super-block, for the range check. */
function amax(x: usize): f32 {
  let a = f32x4.abs(v128.load(x));
  for (let i = 16; i < 1024; i += 16) a = f32x4.pmax(f32x4.abs(v128.load(x + i)), a);
  const b = f32x4.pmax(a, v128.shuffle<i32>(a, a, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(b, v128.shuffle<i32>(b, b, 1, 0, 3, 2)), 0);
}

/** Codes under the stored scales; false when a value leaves the rounding range. */
function requantize(x: usize, s: usize): bool {
  const m = splat(magic);
  const top = splat(magic + 31);
  const bottom = splat(magic - 32);
  const base = i32x4.splat(0x4b400000 - 32);
  let fine = i32x4.splat(-1);
  for (let j = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + (j << 2));
    if (scale == 0) {
      v128.store(s + codesAt + 16 * j, i32x4.splat(0));
      continue;
    }
    const d = splat(scale);
    const from = x + 64 * j;
    const a = f32x4.div(v128.load(from), d);
    const b = f32x4.div(v128.load(from, 16), d);
    const c = f32x4.div(v128.load(from, 32), d);
    const e = f32x4.div(v128.load(from, 48), d);
    const reach = f32x4.pmax(f32x4.pmax(f32x4.abs(a), f32x4.abs(b)), f32x4.pmax(f32x4.abs(c), f32x4.abs(e)));
    fine = v128.and(fine, f32x4.lt(reach, splat(4e6)));
    v128.store(
      s + codesAt + 16 * j,
      i8x16.narrow_i16x8_s(
        i16x8.narrow_i32x4_s(
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(a, m))), base),
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(b, m))), base),
        ),
        i16x8.narrow_i32x4_s(
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(c, m))), base),
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(e, m))), base),
        ),
      ),
    );
  }
  return i32x4.all_true(fine);
}

function encode(x: usize, importance: usize, out: usize, s: usize): bool {
  const most = amax(x);
  if (!(most > 1e-12 && most < 1e6)) return false;
  for (let g: usize = 0; g < 2; g++) {
    transposeEight(x + 512 * g, 64, 8, 16, s + valuesAt);
    if (importance != 0) transposeEight(importance + 512 * g, 64, 8, 16, s + weightsAt);
    else {
      for (let i: usize = 0; i < 512; i += 16) {
        const v = v128.load(s + i);
        v128.store(s + i, f32x4.mul(v, v), weightsAt);
      }
    }
    if (!fitEight(s, s + scalesAt + 32 * g)) return false;
  }
  let magnitude: f32 = 0;
  let signed: f32 = 0;
  for (let j: usize = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + 4 * j);
    if (abs(scale) > magnitude) {
      magnitude = abs(scale);
      signed = scale;
    }
  }
  if (!(magnitude >= 1e-14)) return false;
  const inverse: f32 = -128 / signed;
  const bits = halfBits(1 / inverse);
  const d = halfValue(bits);
  store<u16>(out + 208, bits);
  for (let j: usize = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + 4 * j);
    const code = min(127, nearestInt(inverse * scale));
    store<i8>(out + 192 + j, code);
    const stored = d * <f32>code;
    if (stored == 0 && scale != 0) return false;
    store<f32>(s + scalesAt + 4 * j, stored);
  }
  return requantize(x, s);
}

/** ql[128], qh[64] (the scales and d are written already). */
function pack(codes: usize, out: usize): void {
  const fifteen = i8x16.splat(15);
  for (let h: usize = 0; h < 2; h++) {
    for (let l: usize = 0; l < 32; l += 16) {
      const from = codes + 128 * h + l;
      const a = v128.load(from);
      const b = v128.load(from, 32);
      const c = v128.load(from, 64);
      const e = v128.load(from, 96);
      const to = out + 64 * h + l;
      v128.store(to, v128.or(v128.and(a, fifteen), i16x8.shl(v128.and(c, fifteen), 4)));
      v128.store(to, v128.or(v128.and(b, fifteen), i16x8.shl(v128.and(e, fifteen), 4)), 32);
      // Bits 4 and 5 of the four codes, at 0, 2, 4 and 6.
      const pair = i8x16.splat(48);
      const low = v128.or(i16x8.shr_u(v128.and(a, pair), 4), i16x8.shr_u(v128.and(b, pair), 2));
      const high = v128.or(v128.and(c, pair), i16x8.shl(v128.and(e, pair), 2));
      v128.store(out + 32 * h + l, v128.or(low, high), 128);
    }
  }
}

export function q6_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  if (encode(x, importance, out, s)) pack(s + codesAt, out);
  else store<u8>(flag, 1);
}
