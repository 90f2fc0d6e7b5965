// The random numbers of random.ts, sixteen elements at a time: four counters of Threefry, 13 rounds, in the
// lanes of a vector.

// @ts-ignore: decorator
@inline
function turned(x0: v128, x1: v128, r: i32): v128 {
  return v128.xor(v128.or(i32x4.shl(x1, r), i32x4.shr_u(x1, 32 - r)), x0);
}

const counters: usize = memory.data<i32>([0, 1, 2, 3]);

/**
 * 16 random bits of the elements `index` … `index` + 15 of a step of a stream, stored at `to`; index is a multiple of 16.
 */
export function halvesOfSixteen(seed: i32, stream: i32, step: i32, index: u64, to: usize): void {
  const parity = 0x1bd11bda ^ seed ^ stream;
  const counter = index >> 2;
  let x0 = i32x4.add(i32x4.splat(<i32>counter + seed), v128.load(counters));
  let x1 = i32x4.splat(<i32>(counter >> 32) + step + stream);
  for (let s = 1; s <= 3; s++) {
    const odd = (s & 1) != 0;
    x0 = i32x4.add(x0, x1);
    x1 = turned(x0, x1, odd ? 13 : 17);
    x0 = i32x4.add(x0, x1);
    x1 = turned(x0, x1, odd ? 15 : 29);
    x0 = i32x4.add(x0, x1);
    x1 = turned(x0, x1, odd ? 26 : 16);
    x0 = i32x4.add(x0, x1);
    x1 = turned(x0, x1, odd ? 6 : 24);
    const i = s % 3;
    x0 = i32x4.add(x0, i32x4.splat(i == 0 ? seed : i == 1 ? stream : parity));
    const j = (s + 1) % 3;
    x1 = i32x4.add(x1, i32x4.splat((j == 0 ? seed : j == 1 ? stream : parity) + s));
  }
  x0 = i32x4.add(x0, x1);
  x1 = turned(x0, x1, 17);
  v128.store(to, v128.shuffle<i32>(x0, x1, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<i32>(x0, x1, 2, 6, 3, 7), 16);
}
