// Scales of Q3_K without importance: coordinate ascent on (Σ w·x·l)²/Σ w·l², w = x², eight sub-blocks of 16 in lanes;
// definition: fitCoordinates in src/formats/ggml/search-symmetric.ts.
//
// A lane that a round leaves unchanged would stay so in further ones, so rounds go on for all lanes until none changes,
// five at most. A step waits for the one before it (a division long), so the two vectors of lanes run side by side.

import { held, larger, magicAt, select, smaller, splat } from './lanes';
import { magnitudesAt, scalesAt, valuesAt } from './search-symmetric';

const codesAt: usize = 1024; // 16 × 8 codes as f32; the weights' place, which this search does not need

/** Quotients from here on do not round by adding 1.5·2^23. */
const quotientLimit: f32 = 4e6;
const tooLarge: f32 = 1e6;
const zeroBelow: f32 = 1e-15;

/** Scales g … g+7 of the transposed sub-blocks in scratch; false when the super-block is declined. */
export function fitCoordinates(s: usize, g: usize): bool {
  const m = held(magicAt);
  const top = f32x4.add(m, splat(3));
  const bottom = f32x4.sub(m, splat(4));
  const zero = splat(0);
  const limit = splat(quotientLimit);
  let anyBad = zero;
  for (let h: usize = 0; h < 32; h += 16) {
    const at = s + h;
    let amax = zero;
    let most = zero;
    for (let i = at, end = at + 512; i < end; i += 32) {
      const x = v128.load(i, valuesAt);
      const a = f32x4.abs(x);
      most = select(x, most, f32x4.gt(a, amax));
      amax = larger(amax, a);
    }
    const none = f32x4.lt(amax, splat(zeroBelow));
    v128.store(s + 4 * g + h, amax, magnitudesAt);
    if (v128.any_true(f32x4.ge(amax, splat(tooLarge)))) return false;
    const inverse = f32x4.div(splat(-4), select(splat(1), most, none));
    let bad = zero;
    let sumXL = zero;
    let sumLL = zero;
    for (let i = at, end = at + 512; i < end; i += 32) {
      const x = v128.load(i, valuesAt);
      const l = f32x4.sub(smaller(top, larger(bottom, f32x4.add(f32x4.mul(inverse, x), m))), m);
      v128.store(i, l, codesAt);
      const w = f32x4.mul(x, x);
      sumXL = f32x4.add(sumXL, f32x4.mul(f32x4.mul(w, x), l));
      sumLL = f32x4.add(sumLL, f32x4.mul(f32x4.mul(w, l), l));
    }
    for (let round = 0; round < 5; round++) {
      let changed = zero;
      for (let i = at, end = at + 512; i < end; i += 32) {
        const x = v128.load(i, valuesAt);
        const old = v128.load(i, codesAt);
        const w = f32x4.mul(x, x);
        const wx = f32x4.mul(w, x);
        let xl = f32x4.sub(sumXL, f32x4.mul(wx, old));
        let ll = f32x4.sub(sumLL, f32x4.mul(f32x4.mul(w, old), old));
        const able = f32x4.gt(xl, zero);
        const target = f32x4.div(f32x4.mul(x, ll), xl);
        bad = v128.or(bad, v128.andnot(able, f32x4.lt(f32x4.abs(target), limit)));
        const l = f32x4.sub(smaller(top, larger(bottom, f32x4.add(target, m))), m);
        xl = f32x4.add(xl, f32x4.mul(wx, l));
        ll = f32x4.add(ll, f32x4.mul(f32x4.mul(w, l), l));
        const better = f32x4.gt(f32x4.mul(f32x4.mul(xl, xl), sumLL), f32x4.mul(f32x4.mul(sumXL, sumXL), ll));
        const take = v128.and(v128.and(able, f32x4.ne(l, old)), v128.and(f32x4.gt(ll, zero), better));
        if (v128.any_true(take)) {
          v128.store(i, select(l, old, take), codesAt);
          sumXL = select(xl, sumXL, take);
          sumLL = select(ll, sumLL, take);
          changed = take;
        }
      }
      if (!v128.any_true(changed)) break;
    }
    const scale = v128.and(f32x4.div(sumXL, sumLL), f32x4.gt(sumLL, zero));
    // A sub-block that does not count as zero but has scale 0 keeps the codes of its search.
    bad = v128.or(bad, f32x4.eq(scale, zero));
    v128.store(s + 4 * g + h, v128.andnot(scale, none), scalesAt);
    anyBad = v128.or(anyBad, v128.andnot(bad, none));
  }
  return !v128.any_true(anyBad);
}
