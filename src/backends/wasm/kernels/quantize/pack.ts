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
  // neighbours join: 8 codes to 4 pairs, to 2 quadruples, to one word
  const b = <u64>bits;
  const one: u64 = (((<u64>1) << b) - 1) * 0x0001000100010001;
  const two: u64 = (((<u64>1) << (2 * b)) - 1) * 0x0000000100000001;
  const four: u64 = ((<u64>1) << (4 * b)) - 1;
  for (let end = codes + <usize>count; codes < end; codes += 8, out += <usize>bits) {
    let w = load<u64>(codes);
    w = (w & one) | (((w >> 8) & one) << b);
    w = (w & two) | (((w >> 16) & two) << (2 * b));
    store<u64>(out, (w & four) | (((w >> 32) & four) << (4 * b)));
  }
}
