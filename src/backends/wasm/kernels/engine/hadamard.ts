// Block Hadamard transform by butterflies: log2(n) passes of (u, v) → (u + v, u − v) over a block, then · 1/√n.

import { address, at, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

/** Pairs at distance 1 and 2 lie within one vector. */
// @ts-ignore: decorator
@inline
function within(v: v128): v128 {
  const swapped = v128.shuffle<f32>(v, v, 1, 0, 3, 2);
  const first = f32x4.add(f32x4.mul(v, f32x4(1, -1, 1, -1)), swapped);
  const turned = v128.shuffle<f32>(first, first, 2, 3, 0, 1);
  return f32x4.add(f32x4.mul(first, f32x4(1, 1, -1, -1)), turned);
}

/** Words: x, signs (0: none), out, blocks, n, 1/√n. */
export function hadamard(args: usize, thread: i32, threads: i32): void {
  const signs = address(args, 1);
  const blocks = word(args, 3);
  const n = word(args, 4);
  const factor = real(args, 5);
  const end = shareEnd(blocks, 1, thread, threads);
  for (let block = shareStart(blocks, 1, thread, threads); block < end; block++) {
    const x = address(args, 0) + <usize>block * ((<usize>n) << 2);
    const out = address(args, 2) + <usize>block * ((<usize>n) << 2);
    if (n < 4) {
      let u = load<f32>(x);
      if (signs != 0) u *= load<f32>(signs);
      if (n == 1) {
        store<f32>(out, u);
        continue;
      }
      let v = load<f32>(x, 4);
      if (signs != 0) v *= load<f32>(signs, 4);
      store<f32>(out, (u + v) * factor);
      store<f32>(out, (u - v) * factor, 4);
      continue;
    }
    for (let i = 0; i < n; i += 4) {
      let v = v128.load(at(x, i));
      if (signs != 0) v = f32x4.mul(v, v128.load(at(signs, i)));
      v128.store(at(out, i), within(v));
    }
    for (let half = 4; half < n; half <<= 1) {
      for (let from = 0; from < n; from += 2 * half) {
        for (let i = from; i < from + half; i += 4) {
          const u = v128.load(at(out, i));
          const v = v128.load(at(out, i + half));
          v128.store(at(out, i), f32x4.add(u, v));
          v128.store(at(out, i + half), f32x4.sub(u, v));
        }
      }
    }
    const f = f32x4.splat(factor);
    for (let i = 0; i < n; i += 4) v128.store(at(out, i), f32x4.mul(v128.load(at(out, i)), f));
  }
}
