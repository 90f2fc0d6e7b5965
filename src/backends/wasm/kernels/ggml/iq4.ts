// IQ4_XS and IQ4_NL, eight sub-blocks of 32 in lanes; definition in src/formats/ggml/iq4.ts.
//
// A table entry is chosen by counting the 15 midpoints that v reaches; near a midpoint the distances in the definition
// are exact, so this is the same choice. The candidate scales differ by ±6 % and neighbouring midpoints by more than
// 20 %, so over all 15 candidates a value crosses at most one midpoint: it is found once, and a candidate then costs
// one comparison a value instead of a search.

import { halfBits, larger, narrow, nearestInt, packNibbles, select, splat, transposeEight } from './lanes';

const valuesAt: usize = 0; // 32 × 8 transposed values
const weightsAt: usize = 1024;
const midpointsAt: usize = 2048; // the midpoint that a value may cross
const lowAt: usize = 3072; // the entry below it
const stepAt: usize = 4096; // upper minus lower entry
const scalesAt: usize = 5120; // 8 f32
const importanceAt: usize = 5152;

const midpoints = memory.data<f32>([
  -115.5, -93.5, -74, -57, -42, -28.5, -16, -4.5, 7, 19, 31.5, 45.5, 61, 79, 101,
]);

/** How many midpoints each value reaches: its table index. */
// @ts-ignore: decorator
@inline
function index(v: v128): v128 {
  let a = f32x4.ge(v, v128.load32_splat(midpoints));
  let b = f32x4.ge(v, v128.load32_splat(midpoints, 4));
  let c = f32x4.ge(v, v128.load32_splat(midpoints, 8));
  a = i32x4.add(a, f32x4.ge(v, v128.load32_splat(midpoints, 12)));
  b = i32x4.add(b, f32x4.ge(v, v128.load32_splat(midpoints, 16)));
  c = i32x4.add(c, f32x4.ge(v, v128.load32_splat(midpoints, 20)));
  a = i32x4.add(a, f32x4.ge(v, v128.load32_splat(midpoints, 24)));
  b = i32x4.add(b, f32x4.ge(v, v128.load32_splat(midpoints, 28)));
  c = i32x4.add(c, f32x4.ge(v, v128.load32_splat(midpoints, 32)));
  a = i32x4.add(a, f32x4.ge(v, v128.load32_splat(midpoints, 36)));
  b = i32x4.add(b, f32x4.ge(v, v128.load32_splat(midpoints, 40)));
  c = i32x4.add(c, f32x4.ge(v, v128.load32_splat(midpoints, 44)));
  a = i32x4.add(a, f32x4.ge(v, v128.load32_splat(midpoints, 48)));
  b = i32x4.add(b, f32x4.ge(v, v128.load32_splat(midpoints, 52)));
  c = i32x4.add(c, f32x4.ge(v, v128.load32_splat(midpoints, 56)));
  return i32x4.neg(i32x4.add(i32x4.add(a, b), c));
}

/** Table entries of four indices; `table` holds entry + 128 as bytes. */
// @ts-ignore: decorator
@inline
function entries(table: v128, i: v128, lowest: v128, bias: v128): v128 {
  // Index 128 and more selects zero: only the lowest byte of a lane is filled.
  const bytes = i8x16.swizzle(table, v128.or(i, lowest));
  return f32x4.sub(f32x4.convert_i32x4_s(bytes), bias);
}

/** The table, and the table moved up by one place; in memory, see `held`. */
const tables = memory.data<u8>([
  1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241,
  1, 1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217,
]);
const lowestByte = memory.data<u32>([0x80808000]);
const tableBias = memory.data<f32>([128, 0.5]);

/** Scales of four of the transposed sub-blocks, at s with lane offset g. */
function fitFour(s: usize): v128 {
  const zero = splat(0);
  const end: usize = 1024;
  let amax = zero;
  let most = zero;
  for (let i: usize = 0; i < end; i += 32) {
    const x = v128.load(s + i);
    const a = f32x4.abs(x);
    most = select(x, most, f32x4.gt(a, amax));
    amax = larger(amax, a);
  }
  const none = f32x4.lt(amax, splat(1e-15));
  most = select(splat(1), most, none);

  // The first candidate has the opposite sign and needs a full search of its own.
  const first = f32x4.div(splat(1), f32x4.div(f32x4.neg(most), splat(-127)));
  const shortest = f32x4.div(splat(-120), most);
  const longest = f32x4.div(splat(-134), most);
  const table = v128.load(tables);
  const lowerTable = v128.load(tables, 16);
  const lowest = v128.load32_splat(lowestByte);
  const bias = v128.load32_splat(tableBias);
  const half = v128.load32_splat(tableBias, 4);
  let xt = zero;
  let tt = zero;
  for (let i: usize = 0; i < end; i += 32) {
    const x = v128.load(s + i);
    const w = v128.load(s + i, weightsAt);
    const t = entries(table, index(f32x4.mul(first, x)), lowest, bias);
    const wt = f32x4.mul(w, t);
    xt = f32x4.add(xt, f32x4.mul(wt, x));
    tt = f32x4.add(tt, f32x4.mul(wt, t));
    const upper = i32x4.max_u(index(f32x4.mul(shortest, x)), index(f32x4.mul(longest, x)));
    const high = entries(table, upper, lowest, bias);
    const low = entries(lowerTable, upper, lowest, bias);
    v128.store(s + i, f32x4.mul(f32x4.add(low, high), half), midpointsAt);
    v128.store(s + i, low, lowAt);
    v128.store(s + i, f32x4.sub(high, low), stepAt);
  }
  let scale = v128.and(f32x4.div(xt, tt), f32x4.gt(tt, zero));
  let best = f32x4.mul(scale, xt);
  for (let k = -7; k <= 7; k++) {
    const inverse = f32x4.div(splat(<f32>(k - 127)), most);
    xt = zero;
    tt = zero;
    for (let i: usize = 0; i < end; i += 32) {
      const x = v128.load(s + i);
      const above = f32x4.ge(f32x4.mul(inverse, x), v128.load(s + i, midpointsAt));
      const t = f32x4.add(v128.load(s + i, lowAt), v128.and(v128.load(s + i, stepAt), above));
      const wt = f32x4.mul(v128.load(s + i, weightsAt), t);
      xt = f32x4.add(xt, f32x4.mul(wt, x));
      tt = f32x4.add(tt, f32x4.mul(wt, t));
    }
    const take = v128.and(f32x4.gt(tt, zero), f32x4.gt(f32x4.mul(xt, xt), f32x4.mul(best, tt)));
    scale = select(f32x4.div(xt, tt), scale, take);
    best = select(f32x4.mul(scale, xt), best, take);
  }
  return v128.andnot(scale, none);
}

/** Weights x², or importance·√(sigma + x²), of all eight sub-blocks; sigma per lane at `sigma` (8 f32). */
function setWeights(s: usize, importance: usize, sigma: usize): void {
  for (let g: usize = 0; g < 32; g += 16) {
    const spread = v128.load(sigma + g);
    for (let i: usize = g; i < 1024; i += 32) {
      const x = v128.load(s + i);
      const square = f32x4.mul(x, x);
      const weight =
        importance == 0
          ? square
          : f32x4.mul(v128.load(s + i, importanceAt), f32x4.sqrt(f32x4.add(spread, square)));
      v128.store(s + i, weight, weightsAt);
    }
  }
}

/** 16 code bytes. */
// @ts-ignore: decorator
@inline
function sixteen(x: usize, inverse: v128): v128 {
  return narrow(
    index(f32x4.mul(inverse, v128.load(x))),
    index(f32x4.mul(inverse, v128.load(x, 16))),
    index(f32x4.mul(inverse, v128.load(x, 32))),
    index(f32x4.mul(inverse, v128.load(x, 48))),
  );
}

// @ts-ignore: decorator
@inline
function reciprocal(v: f32): f32 {
  return v != 0 ? 1 / v : 0;
}

/** Largest magnitude of n values. */
function amax(x: usize, n: usize): f32 {
  let a = f32x4.abs(v128.load(x));
  for (let i: usize = 16; i < n << 2; i += 16) a = f32x4.pmax(f32x4.abs(v128.load(x + i)), a);
  const b = f32x4.pmax(a, v128.shuffle<i32>(a, a, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(b, v128.shuffle<i32>(b, b, 1, 0, 3, 2)), 0);
}

export function iq4_xs(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  const largest = amax(x, 256);
  if (!(largest > 1e-12 && largest < 1e9)) {
    store<u8>(flag, 1);
    return;
  }
  transposeEight(x, 128, 8, 32, s + valuesAt);
  if (importance != 0) {
    transposeEight(importance, 128, 8, 32, s + importanceAt);
    let sum: f32 = 0;
    for (let i: usize = 0; i < 1024; i += 4) sum += load<f32>(x + i) * load<f32>(x + i);
    for (let j: usize = 0; j < 32; j += 4) store<f32>(s + scalesAt + j, sum / 128);
  }
  setWeights(s, importance, s + scalesAt);
  v128.store(s + scalesAt, fitFour(s));
  v128.store(s + scalesAt, fitFour(s + 16), 16);
  let magnitude: f32 = 0;
  let signed: f32 = 0;
  for (let j: usize = 0; j < 32; j += 4) {
    const scale = load<f32>(s + scalesAt + j);
    if (abs(scale) > magnitude) {
      magnitude = abs(scale);
      signed = scale;
    }
  }
  if (!(magnitude > 1e-30)) {
    store<u8>(flag, 1);
    return;
  }
  const d = -signed / 32;
  const inverse: f32 = 1 / d;
  store<u16>(out, halfBits(d));
  let low = 0;
  let high = 0;
  for (let j = 0; j < 8; j++) {
    const l = max(-32, min(31, nearestInt(inverse * load<f32>(s + scalesAt + (j << 2)))));
    const toCode = splat(reciprocal(d * <f32>l));
    low |= ((l + 32) & 15) << (4 * j);
    high |= ((l + 32) >> 4) << (2 * j);
    const from = x + 128 * j;
    v128.store(out + 16 * j, packNibbles(sixteen(from, toCode), sixteen(from + 64, toCode)), 8);
  }
  store<u16>(out + 2, high);
  store<i32>(out + 4, low);
}

/** Up to eight blocks at once. */
function eightBlocks(x: usize, importance: usize, out: usize, flags: usize, blocks: i32, s: usize): void {
  transposeEight(x, 128, blocks, 32, s + valuesAt);
  if (importance != 0) {
    transposeEight(importance, 128, blocks, 32, s + importanceAt);
    for (let g: usize = 0; g < 32; g += 16) {
      let sum = splat(0);
      for (let i: usize = g; i < 1024; i += 32) {
        const v = v128.load(s + i);
        sum = f32x4.add(sum, f32x4.mul(v, v));
      }
      v128.store(s + scalesAt + g, f32x4.mul(sum, splat(0.0625)));
    }
  }
  setWeights(s, importance, s + scalesAt);
  v128.store(s + scalesAt, fitFour(s));
  v128.store(s + scalesAt, fitFour(s + 16), 16);
  for (let j = 0; j < blocks; j++, x += 128, out += 18) {
    const largest = amax(x, 32);
    if (!(largest < 1e9 && (largest > 1e-12 || largest == 0))) store<u8>(flags + j, 1);
    const d = load<f32>(s + scalesAt + (j << 2));
    const toCode = splat(reciprocal(d));
    store<u16>(out, halfBits(d));
    v128.store(out, packNibbles(sixteen(x, toCode), sixteen(x + 64, toCode)), 2);
  }
}

export function iq4_nl(x: usize, importance: usize, out: usize, flags: usize, blocks: i32, s: usize): void {
  for (let j = 0; j < blocks; j += 8) {
    const weights = importance != 0 ? importance + 128 * j : 0;
    eightBlocks(x + 128 * j, weights, out + 18 * j, flags + j, min(8, blocks - j), s);
  }
}
