// Rotary position embedding. Each token's angles are computed once for all its heads, and once for all entries of the
// batch where they stand at the same position.
//
// θ = position · frequency is formed and reduced to |r| ≤ π/4 in f64 (π/2 in two parts), so that positions of any
// context length keep full f32 accuracy; sin r and cos r by polynomials (error below 1e-9, Chebyshev interpolation).

import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

// @ts-ignore: decorator
@inline
function step(p: v128, z: v128, c: f64): v128 {
  return f64x2.add(f64x2.mul(p, z), f64x2.splat(c));
}

/** cos and sin of two angles, times magnitude, in the low lanes of two f32 vectors at `cos` and `sin`. */
function sinCos2(angle: v128, magnitude: f64, cos: usize, sin: usize, lanes: i32): void {
  const k = f64x2.nearest(f64x2.mul(angle, f64x2.splat(0.6366197723675814)));
  // π/2: the first part has 33 bits, so k · part is exact for k below 2^20.
  let r = f64x2.sub(angle, f64x2.mul(k, f64x2.splat(1.57079632673412561417)));
  r = f64x2.sub(r, f64x2.mul(k, f64x2.splat(6.07710050650619224932e-11)));
  const z = f64x2.mul(r, r);
  let s = step(f64x2.splat(2.755599091717984e-6), z, -0.00019841266916945032);
  s = step(s, z, 0.008333333331079181);
  s = step(s, z, -0.16666666666663885);
  s = f64x2.add(r, f64x2.mul(f64x2.mul(r, z), s));
  let c = step(f64x2.splat(2.4800600367953404e-5), z, -0.0013888887671999754);
  c = step(c, z, 0.04166666666432116);
  c = f64x2.add(f64x2.sub(f64x2.splat(1), f64x2.mul(z, f64x2.splat(0.5))), f64x2.mul(f64x2.mul(z, z), c));
  const m = f64x2.splat(magnitude);
  const s4 = f32x4.demote_f64x2_zero(f64x2.mul(s, m));
  const c4 = f32x4.demote_f64x2_zero(f64x2.mul(c, m));
  const quadrant = i32x4.trunc_sat_f64x2_s_zero(k);
  const one = i32x4.splat(1);
  const two = i32x4.splat(2);
  const swap = i32x4.eq(v128.and(quadrant, one), one);
  const signSin = i32x4.shl(v128.and(quadrant, two), 30);
  const signCos = i32x4.shl(v128.and(i32x4.add(quadrant, one), two), 30);
  const sines = v128.xor(v128.bitselect(c4, s4, swap), signSin);
  const cosines = v128.xor(v128.bitselect(s4, c4, swap), signCos);
  if (lanes == 2) {
    v128.store64_lane(cos, cosines, 0);
    v128.store64_lane(sin, sines, 0);
  } else {
    v128.store32_lane(cos, cosines, 0);
    v128.store32_lane(sin, sines, 0);
  }
}

// @ts-ignore: decorator
@inline
function rotate1(u: usize, v: usize, outU: usize, outV: usize, cos: f32, sin: f32): void {
  const a = load<f32>(u);
  const b = load<f32>(v);
  store<f32>(outU, a * cos - b * sin);
  store<f32>(outV, b * cos + a * sin);
}

/** Pairs (x[i], x[i + half]). */
function rotateHalf(x: usize, out: usize, half: i32, cos: usize, sin: usize): void {
  const far = (<usize>half) << 2;
  let i = 0;
  for (; i + 4 <= half; i += 4) {
    const u = v128.load(at(x, i));
    const v = v128.load(at(x, i) + far);
    const c = v128.load(at(cos, i));
    const s = v128.load(at(sin, i));
    v128.store(at(out, i), f32x4.sub(f32x4.mul(u, c), f32x4.mul(v, s)));
    v128.store(at(out, i) + far, f32x4.add(f32x4.mul(v, c), f32x4.mul(u, s)));
  }
  for (; i < half; i++)
    rotate1(at(x, i), at(x, i) + far, at(out, i), at(out, i) + far, load<f32>(at(cos, i)), load<f32>(at(sin, i)));
}

/** Pairs (x[2i], x[2i + 1]). */
function rotateInterleaved(x: usize, out: usize, half: i32, cos: usize, sin: usize): void {
  let i = 0;
  for (; i + 4 <= half; i += 4) {
    const first = v128.load(at(x, 2 * i));
    const second = v128.load(at(x, 2 * i), 16);
    const u = v128.shuffle<f32>(first, second, 0, 2, 4, 6);
    const v = v128.shuffle<f32>(first, second, 1, 3, 5, 7);
    const c = v128.load(at(cos, i));
    const s = v128.load(at(sin, i));
    const p = f32x4.sub(f32x4.mul(u, c), f32x4.mul(v, s));
    const q = f32x4.add(f32x4.mul(v, c), f32x4.mul(u, s));
    v128.store(at(out, 2 * i), v128.shuffle<f32>(p, q, 0, 4, 1, 5));
    v128.store(at(out, 2 * i), v128.shuffle<f32>(p, q, 2, 6, 3, 7), 16);
  }
  for (; i < half; i++) {
    const u = at(x, 2 * i);
    const o = at(out, 2 * i);
    rotate1(u, u + 4, o, o + 4, load<f32>(at(cos, i)), load<f32>(at(sin, i)));
  }
}

/**
 * Words: x, positions, inverse frequencies, out, tokens (B·T), H, D, half (R/2), style (0 half, 1 interleaved),
 * magnitude (f64: two words), scratch (2 · half floats and 64 bytes a thread), B.
 */
export function rope(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const positions = address(args, 1);
  const frequencies = address(args, 2);
  const out = address(args, 3);
  const tokens = word(args, 4);
  const heads = word(args, 5);
  const size = word(args, 6);
  const half = word(args, 7);
  const style = word(args, 8);
  const magnitude = load<f64>(args + 36);
  const cos = address(args, 11) + <usize>thread * (((<usize>half) << 3) + 64);
  const sin = cos + ((<usize>half) << 2);
  const headBytes = (<usize>size) << 2;
  const rest = size - 2 * half;
  const batch = word(args, 12);
  const length = tokens / batch;
  const end = shareEnd(length, 1, thread, threads);
  for (let column = shareStart(length, 1, thread, threads); column < end; column++) {
    let known = -1;
    for (let t = column; t < tokens; t += length) {
      const position = load<i32>(at(positions, t));
      if (known < 0 || load<i32>(at(positions, known)) != position)
        anglesOf(position, frequencies, half, magnitude, cos, sin);
      known = t;
      for (let h = 0; h < heads; h++) {
        const from = x + <usize>(t * heads + h) * headBytes;
        const to = out + <usize>(t * heads + h) * headBytes;
        if (style == 0) rotateHalf(from, to, half, cos, sin);
        else rotateInterleaved(from, to, half, cos, sin);
        if (rest > 0) memory.copy(at(to, 2 * half), at(from, 2 * half), (<usize>rest) << 2);
      }
    }
  }
}

/** cos and sin of position · frequency, times magnitude. */
function anglesOf(position: i32, frequencies: usize, half: i32, magnitude: f64, cos: usize, sin: usize): void {
  const p = f64x2.splat(<f64>position);
  let i = 0;
  for (; i + 2 <= half; i += 2) {
    const angle = f64x2.mul(p, f64x2.promote_low_f32x4(v128.load64_zero(at(frequencies, i))));
    sinCos2(angle, magnitude, at(cos, i), at(sin, i), 2);
  }
  if (i < half) {
    const angle = f64x2.mul(p, f64x2.promote_low_f32x4(v128.load32_zero(at(frequencies, i))));
    sinCos2(angle, magnitude, at(cos, i), at(sin, i), 1);
  }
}
