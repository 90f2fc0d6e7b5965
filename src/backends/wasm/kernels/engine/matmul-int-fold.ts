// Folding of power-of-two scales into the integers of a panel.
//
// MX scales are powers of two and those of neighbouring blocks rarely differ by more than a few binades, while FP4
// integers (|q| ≤ 12) leave room in a byte. A run of blocks takes the smallest of its scales; the integers of the
// others are shifted left by the difference of exponents:  q · 2^e = (q << (e − e_min)) · 2^e_min,  exactly. The run is
// then multiplied as one block, which saves most of the conversions to f32. A run is folded when all lines of its
// panel allow it.

import { laneMagnitude } from './matmul-int-narrow.ts';

function shiftBytes(bytes: usize, length: i32, shift: i32): void {
  let i = 0;
  for (; i + 16 <= length; i += 16) v128.store(bytes + <usize>i, i8x16.shl(v128.load(bytes + <usize>i), shift));
  for (; i < length; i++) store<i8>(bytes + <usize>i, <i8>(<i32>load<i8>(bytes + <usize>i) << shift));
}

// @ts-ignore: decorator
@inline
function scaleBits(scales: usize, bytes: usize, block: i32, line: i32): u32 {
  return load<u32>(scales + (<usize>block) * bytes + ((<usize>line) << 2));
}

/**
 * Folds one run of `fold` blocks of `count` lines if it can. `bytes`: the run in the first line, lines `stride` bytes
 * apart, blocks `padded` bytes; `scales`: one line of scales (`lineBytes`) a block, overwritten. With `laneLimit` (0: none) the
 * shifted integers of each lane of matmul-int-narrow.ts must sum to that magnitude at most. Returns whether it did.
 */
export function foldRun(
  bytes: usize,
  stride: usize,
  count: i32,
  scales: usize,
  lineBytes: usize,
  fold: i32,
  padded: i32,
  maximumShift: i32,
  laneLimit: i32,
): bool {
  for (let i = 0; i < count; i++) {
    let low: i32 = 255;
    let high: i32 = 0;
    for (let f = 0; f < fold; f++) {
      const bits = scaleBits(scales, lineBytes, f, i);
      const exponent = <i32>(bits >> 23);
      // A positive normal power of two, or no folding.
      if ((bits & 0x807fffff) != 0 || exponent == 0 || exponent == 255) return false;
      low = min(low, exponent);
      high = max(high, exponent);
    }
    if (high - low > maximumShift) return false;
    let magnitude = 0;
    for (let f = 0; f < fold && laneLimit > 0; f++) {
      const shift = <i32>(scaleBits(scales, lineBytes, f, i) >> 23) - low;
      magnitude += laneMagnitude(bytes + <usize>i * stride + <usize>(f * padded), padded) << shift;
    }
    if (magnitude > laneLimit) return false;
  }
  for (let i = 0; i < count; i++) {
    let low: u32 = 255;
    for (let f = 0; f < fold; f++) low = min(low, scaleBits(scales, lineBytes, f, i) >> 23);
    for (let f = 0; f < fold; f++) {
      const shift = (scaleBits(scales, lineBytes, f, i) >> 23) - low;
      if (shift != 0) shiftBytes(bytes + <usize>i * stride + <usize>(f * padded), padded, <i32>shift);
      store<u32>(scales + (<usize>f) * lineBytes + ((<usize>i) << 2), low << 23);
    }
  }
  return true;
}
