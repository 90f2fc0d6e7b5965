// Counter-based random numbers: Threefry-2x32, the numbers of src/formats/random.ts.

// @ts-ignore: decorator
@inline
function round(x0: u32, x1: u32, r: u32): u32 {
  return rotl<u32>(x1, r) ^ x0;
}

/** The number that rounds element `index` of a step of a stream: (h + 1/2) · 2^-16 of 16 bits h (roundingSource). */
export function roundingAt(seed: i32, stream: i32, step: i32, index: u64): f64 {
  const half = (bitsAt(seed, stream, step, index >> 1, 13) >> (<u32>(index & 1) << 4)) & 0xffff;
  return (<f64>half + 0.5) * 1.52587890625e-5;
}

/** Word `index` of a step of a stream, after 20 rounds or 13. */
export function bitsAt(seed: i32, stream: i32, step: i32, index: u64, rounds: u32 = 20): u32 {
  const k0 = <u32>seed;
  const k1 = <u32>stream;
  const k2: u32 = 0x1bd11bda ^ k0 ^ k1;
  const counter = index >> 1;
  let x0 = <u32>counter + k0;
  let x1 = <u32>(counter >> 32) + <u32>step + k1;
  for (let s: u32 = 1; s <= rounds >> 2; s++) {
    const odd = (s & 1) != 0;
    x0 += x1;
    x1 = round(x0, x1, odd ? 13 : 17);
    x0 += x1;
    x1 = round(x0, x1, odd ? 15 : 29);
    x0 += x1;
    x1 = round(x0, x1, odd ? 26 : 16);
    x0 += x1;
    x1 = round(x0, x1, odd ? 6 : 24);
    const i = s % 3;
    x0 += i == 0 ? k0 : i == 1 ? k1 : k2;
    const j = (s + 1) % 3;
    x1 += (j == 0 ? k0 : j == 1 ? k1 : k2) + s;
  }
  if (rounds == 13) {
    x0 += x1;
    x1 = round(x0, x1, 17);
  }
  return (index & 1) == 0 ? x0 : x1;
}
