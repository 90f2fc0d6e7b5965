// Code bytes to dense bits (src/formats/packing.ts).

/** Stores 16 codes of 4 bits, first one in the low nibble, as 8 bytes. */
// @ts-ignore: decorator
@inline
export function storeNibbles(out: usize, codes: v128): void {
  const low = v128.and(codes, i16x8.splat(0x000f));
  const high = v128.and(i16x8.shr_u(codes, 4), i16x8.splat(0x00f0));
  const both = v128.or(low, high);
  v128.store64_lane(out, i8x16.narrow_i16x8_u(both, both), 0);
}

/** Packs `count` code bytes (a multiple of 8) of `bits` bits; writes up to 8 − bits bytes beyond the end. */
export function packBytes(codes: usize, out: usize, count: i32, bits: i32): void {
  const mask: u64 = (1 << bits) - 1;
  for (let end = codes + <usize>count; codes < end; codes += 8, out += <usize>bits) {
    let word: u64 = 0;
    for (let i: i32 = 7; i >= 0; i--) word = (word << <u64>bits) | (<u64>load<u8>(codes + <usize>i) & mask);
    store<u64>(out, word);
  }
}
