// Q4_0, Q4_1, Q5_0 and Q5_1 under importance: up to eight blocks of 32 side by side, with the searches of the K types;
// definition in src/formats/ggml/legacy.ts.
//
// Unlike there the codes are those of the search, under its own inverse scale. A block is declined when its numbers come
// near the ends of the f32 range; its row's spread sigma2 = Σ x²/cols is then needed again, so the host encodes the row.

import { halfBits, held, larger, largestMagnitude, magicAt, narrow, smaller, splat, transposeEight } from './lanes';
import { packCodes } from './legacy';
import * as affine from './search-affine';
import * as symmetric from './search-symmetric';

// @ts-ignore: decorator
@inline
function outOfRange(x: usize, most: f32): bool {
  const amax = largestMagnitude(x, 32);
  return !(amax < most && (amax > 1e-12 || amax == 0));
}

/** Four codes: inverse·(x − origin) rounded, within bottom … top, which hold 1.5·2^23 more, less `base`. */
// @ts-ignore: decorator
@inline
function coded(x: usize, origin: v128, inverse: v128, bottom: v128, top: v128, base: v128): v128 {
  const v = f32x4.add(f32x4.mul(inverse, f32x4.sub(v128.load(x), origin)), held(magicAt));
  return i32x4.sub(smaller(top, larger(bottom, v)), base);
}

/** 32 codes low … low+count−1, stored from 0. */
// @ts-ignore: decorator
@inline
function store32(bits: i32, x: usize, origin: f32, inverse: f32, lowest: i32, out: usize): void {
  const o = splat(origin);
  const i = splat(inverse);
  const m = held(magicAt);
  const bottom = f32x4.add(m, splat(<f32>lowest));
  const top = f32x4.add(m, splat(<f32>(lowest + (1 << bits) - 1)));
  const base = i32x4.splat(0x4b400000 + lowest);
  packCodes(
    bits,
    narrow(coded(x, o, i, bottom, top, base), coded(x + 16, o, i, bottom, top, base), coded(x + 32, o, i, bottom, top, base), coded(x + 48, o, i, bottom, top, base)),
    narrow(coded(x + 64, o, i, bottom, top, base), coded(x + 80, o, i, bottom, top, base), coded(x + 96, o, i, bottom, top, base), coded(x + 112, o, i, bottom, top, base)),
    out,
  );
}

/** Importance·√(sigma2 + x²) of transposed values at s, importance transposed at weightsAt. */
function setWeights(s: usize, sigma2: f32): void {
  const sigma = splat(sigma2);
  for (let i = s, end = s + 1024; i < end; i += 16) {
    const v = v128.load(i, symmetric.valuesAt);
    const w = f32x4.mul(v128.load(i, symmetric.weightsAt), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(v, v))));
    v128.store(i, w, symmetric.weightsAt);
  }
}

// @ts-ignore: decorator
@inline
function symmetricBlocks(bits: i32, bytes: usize, x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  transposeEight(x, 128, blocks, 32, s + symmetric.valuesAt);
  transposeEight(w, 128, blocks, 32, s + symmetric.weightsAt);
  setWeights(s, sigma2);
  symmetric.fitLegacy(s, bits);
  for (let j: usize = 0; j < <usize>blocks; j++, x += 128, out += bytes) {
    const scale = load<f32>(s + 4 * j, symmetric.scalesAt);
    const inverse = load<f32>(s + 4 * j, symmetric.inversesAt);
    if (outOfRange(x, 1e6) || !(abs(scale) < 60000)) store<u8>(flags + j, 1);
    else if (inverse == 0) memory.fill(out, 0, bytes);
    else {
      store<u16>(out, halfBits(scale));
      store32(bits, x, 0, inverse, bits == 4 ? -8 : -16, out + 2);
    }
  }
}

// @ts-ignore: decorator
@inline
function affineBlocks(bits: i32, bytes: usize, x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  const scalesAt = affine.searchEnd;
  const offsetsAt = affine.searchEnd + 32;
  const sumsAt = affine.searchEnd + 64;
  transposeEight(x, 128, blocks, 32, s + affine.valuesAt);
  transposeEight(w, 128, blocks, 32, s + affine.importanceAt);
  affine.importanceWeights(s, 32, sigma2, s + sumsAt);
  affine.fitWeightedKept(s, bits == 4 ? 15 : 31, s + scalesAt, s + offsetsAt);
  for (let j: usize = 0; j < <usize>blocks; j++, x += 128, out += bytes) {
    const scale = load<f32>(s + 4 * j, scalesAt);
    const offset = load<f32>(s + 4 * j, offsetsAt);
    if (outOfRange(x, affine.tooLarge) || load<i32>(s + 4 * j, affine.badAt) != 0 || !(abs(scale) < 60000)) {
      store<u8>(flags + j, 1);
    } else {
      store<u16>(out, halfBits(scale));
      store<u16>(out, halfBits(-offset), 2);
      store32(bits, x, load<f32>(s + 4 * j, affine.originsAt), load<f32>(s + 4 * j, affine.inversesAt), 0, out + 4);
    }
  }
}

function eightQ40(x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  symmetricBlocks(4, 18, x, w, sigma2, out, flags, blocks, s);
}
function eightQ50(x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  symmetricBlocks(5, 22, x, w, sigma2, out, flags, blocks, s);
}
function eightQ41(x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  affineBlocks(4, 20, x, w, sigma2, out, flags, blocks, s);
}
function eightQ51(x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  affineBlocks(5, 24, x, w, sigma2, out, flags, blocks, s);
}

/** Blocks of one row, `w` their importance. @param bytes of a block: 18 Q4_0, 20 Q4_1, 22 Q5_0, 24 Q5_1 */
export function weightedLegacy(bytes: usize, x: usize, w: usize, sigma2: f32, out: usize, flags: usize, blocks: i32, s: usize): void {
  for (let j: usize = 0; j < <usize>blocks; j += 8) {
    const count = min(8, blocks - <i32>j);
    const from = x + 128 * j;
    const weights = w + 128 * j;
    const to = out + bytes * j;
    if (bytes == 18) eightQ40(from, weights, sigma2, to, flags + j, count, s);
    else if (bytes == 20) eightQ41(from, weights, sigma2, to, flags + j, count, s);
    else if (bytes == 22) eightQ50(from, weights, sigma2, to, flags + j, count, s);
    else eightQ51(from, weights, sigma2, to, flags + j, count, s);
  }
}
