// Lines of the integer matrix products: a row's integers and scales, unpacked, and what the host and a plan's words decide.

import { decodeBytes, rowScales, sourceGroup, sourceHasZeros, sourceScale, sourceUnit, sourceZero } from './matmul-decode.ts';
import { dotPortable, dotUnsigned, wideDot } from './matmul-int-tile.ts';

/** The offset that makes B's integers fit the dot product. */
// @ts-ignore: decorator
@inline
export function resolveOffset(offset: i32): i32 {
  if (offset >= 0) return offset;
  return offset == -1 && wideDot() == dotUnsigned ? 128 : 0;
}

/** The limit of word 19 where this host keeps sums in 16 bits, 0 where it does not. */
// @ts-ignore: decorator
@inline
export function resolveLimit(limit: i32): i32 {
  if (limit < 0) return ~limit;
  return limit > 0 && wideDot() == dotPortable ? limit : 0;
}

export function addBytes(bytes: usize, length: i32, value: i32): void {
  if (value == 0) return;
  const v = i8x16.splat(<i8>value);
  let i = 0;
  for (; i + 16 <= length; i += 16) {
    const at = bytes + <usize>i;
    v128.store(at, i8x16.add(v128.load(at), v));
  }
  for (; i < length; i++) store<u8>(bytes + <usize>i, load<u8>(bytes + <usize>i) + <u8>value);
}

/** Integers of a row, plus `offset`, every block padded with zeros to `padded` bytes. */
export function decodeLine(d: usize, row: i32, depth: i32, block: i32, padded: i32, offset: i32, dst: usize): void {
  if (!sourceHasZeros(d) && block == padded && depth % block == 0) {
    decodeBytes(d, row, 0, depth, dst);
    addBytes(dst, depth, offset);
    return;
  }
  const group = sourceGroup(d);
  for (let k = 0; k < depth; k += block) {
    const length = min(block, depth - k);
    decodeBytes(d, row, k, length, dst);
    addBytes(dst, length, offset - sourceZero(d, row, k / group));
    if (length < padded) memory.fill(dst + <usize>length, 0, <usize>(padded - length));
    dst += <usize>padded;
  }
}

/** Σ of signed bytes; length a multiple of 4, read in sixteens where possible. */
export function sumBytes(bytes: usize, length: i32): i32 {
  let sums = i32x4.splat(0);
  let i = 0;
  for (; i + 16 <= length; i += 16) {
    const pairs = i16x8.extadd_pairwise_i8x16_s(v128.load(bytes + <usize>i));
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(pairs));
  }
  let sum = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1);
  sum += i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
  for (; i < length; i++) sum += <i32>load<i8>(bytes + <usize>i);
  return sum;
}

/** Scales of one line of an operand into lane `lane` of a panel's lines of `bytes`; the last line takes the row's. */
export function packScales(
  d: usize,
  row: i32,
  blocks: i32,
  block: i32,
  perRow: bool,
  lane: i32,
  to: usize,
  bytes: usize,
): void {
  const unit = sourceUnit(d);
  const first = to + ((<usize>lane) << 2);
  const last = first + <usize>blocks * bytes;
  store<f32>(last, perRow ? sourceScale(d, row, 0) : 1);
  if (!perRow) rowScales(d, row, blocks, block, unit, first, bytes);
  else for (let at = first; at < last; at += bytes) store<f32>(at, unit);
}
