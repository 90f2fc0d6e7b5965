// Matrix products of two packed operands through 8-bit integer dot products.
//
//   C[m, n] = tsA · tsB · Σ_blocks (f32(Σ_k∈block a·b) · scaleB[n, block]) · scaleA[m, block]
//
// a and b are the integers of the codes (FP4: value × 2; zero points subtracted), exact; the units of the element
// types are powers of two and go into the scales. A block is what the finer of the two operands puts under one scale;
// whole rows are cut into blocks of 2^15. The f32 sum runs over the blocks in order, so the result depends neither on
// threads nor on where an element lies in a tile; tile and proof of exactness: matmul-int-tile.ts.
//
// packInt turns A into panels of six rows, once; matmulInt then decodes blocks of columns of B into scratch of the
// thread, each column once, and runs over all panels of A.
//
// packInt words: rows, K, block, first row; codes, starts, scales; scratch, scratch bytes a thread; offset of B;
// source description at word 16. Scratch: 8 lines.
// matmulInt words: M, N, K, block; c, row bytes; codes, starts, scales; scratch, scratch bytes a thread; columns a
// block; first row of B; offset of B; 1 when exact; address of A's tensor scale; source description of B.
// An offset of −1 stands for 8-bit integers: this host decides; −2 takes the form that every host can (for tests).

import { shareEnd, shareStart } from '../common/share.ts';
import { decodeBytes, sourceGroup, sourceHasZeros, sourceScale, sourceTensorScale, sourceUnit, sourceZero } from './matmul-decode.ts';
import {
  dotPortable,
  dotUnsigned,
  lineBytesA,
  tileExact,
  tilePortable,
  tileRounded,
  wideDot,
} from './matmul-int-tile.ts';
import { packLines6, packLines8 } from './matmul-panels.ts';

/** The offset that makes B's integers fit the dot product. */
// @ts-ignore: decorator
@inline
function resolveOffset(offset: i32): i32 {
  if (offset >= 0) return offset;
  return offset == -1 && wideDot() == dotUnsigned ? 128 : 0;
}

function addBytes(bytes: usize, length: i32, value: i32): void {
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
function decodeLine(d: usize, row: i32, depth: i32, block: i32, padded: i32, offset: i32, dst: usize): void {
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
function sumBytes(bytes: usize, length: i32): i32 {
  let sums = i32x4.splat(0);
  let i = 0;
  for (; i + 16 <= length; i += 16) {
    const pairs = i16x8.extadd_pairwise_i8x16_s(v128.load(bytes + <usize>i));
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(pairs));
  }
  let sum =
    i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
  for (; i < length; i++) sum += <i32>load<i8>(bytes + <usize>i);
  return sum;
}

export function packInt(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(args);
  const depth = load<i32>(args + 4);
  const block = load<i32>(args + 8);
  const row0 = load<i32>(args + 12);
  const lines = load<usize>(args + 28) + <usize>thread * load<usize>(args + 32);
  const offset = resolveOffset(load<i32>(args + 36));
  const d = args + 64;
  const padded = (block + 3) & ~3;
  const blocks = (depth + block - 1) / block;
  const lineBytes = <usize>blocks * <usize>padded;
  const group = sourceGroup(d);
  const unit = sourceUnit(d);
  const end = shareEnd(rows, 6, thread, threads);
  for (let m = shareStart(rows, 6, thread, threads); m < end; m += 6) {
    const panel = <usize>(m / 6);
    const count = min(6, rows - m);
    const starts = load<usize>(args + 20) + panel * <usize>blocks * lineBytesA;
    const scales = load<usize>(args + 24) + panel * <usize>blocks * lineBytesA;
    for (let i = 0; i < count; i++) {
      const line = lines + <usize>i * lineBytes;
      decodeLine(d, row0 + m + i, depth, block, padded, 0, line);
      for (let g = 0; g < blocks; g++) {
        const at = (<usize>g) * lineBytesA + ((<usize>i) << 2);
        const sum = offset == 0 ? 0 : sumBytes(line + <usize>g * <usize>padded, padded);
        store<i32>(starts + at, -offset * sum);
        store<f32>(scales + at, sourceScale(d, row0 + m + i, (g * block) / group) * unit);
      }
    }
    for (let i = count; i < 6; i++) {
      for (let g = 0; g < blocks; g++) {
        const at = (<usize>g) * lineBytesA + ((<usize>i) << 2);
        store<i32>(starts + at, 0);
        store<f32>(scales + at, 0);
      }
    }
    packLines6(lines, lineBytes, count, <i32>(lineBytes >> 2), load<usize>(args + 16) + panel * 6 * lineBytes);
  }
}

function clearTile(tile: usize): void {
  const zero = f32x4.splat(0);
  for (let i = 0; i < 6; i++) {
    v128.store(tile, zero);
    v128.store(tile, zero, 16);
    tile += 32;
  }
}

/** Tile × tensor scales to C. */
function storeTile(tile: usize, factor: f32, c: usize, stride: usize, rows: i32, columns: i32): void {
  const f = f32x4.splat(factor);
  for (let i = 0; i < rows; i++) {
    const low = f32x4.mul(v128.load(tile), f);
    const high = f32x4.mul(v128.load(tile, 16), f);
    if (columns == 8) {
      v128.store(c, low);
      v128.store(c, high, 16);
    } else {
      v128.store(tile, low);
      v128.store(tile, high, 16);
      memory.copy(c, tile, (<usize>columns) << 2);
    }
    tile += 32;
    c += stride;
  }
}

export function matmulInt(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(args);
  const columns = load<i32>(args + 4);
  const depth = load<i32>(args + 8);
  const block = load<i32>(args + 12);
  const c = load<usize>(args + 16);
  const strideC = load<usize>(args + 20);
  const codesA = load<usize>(args + 24);
  const startsA = load<usize>(args + 28);
  const scalesA = load<usize>(args + 32);
  const own = load<usize>(args + 36) + <usize>thread * load<usize>(args + 40);
  const blockColumns = load<i32>(args + 44);
  const row0 = load<i32>(args + 48);
  const offset = resolveOffset(load<i32>(args + 52));
  const wish = load<i32>(args + 52);
  const portable = wish == -2 || (wish == -1 && wideDot() == dotPortable);
  const exact = load<i32>(args + 56) != 0;
  const d = args + 64;
  const factor = load<f32>(load<usize>(args + 60)) * sourceTensorScale(d);
  const padded = (block + 3) & ~3;
  const steps = padded >> 2;
  const blocks = (depth + block - 1) / block;
  const lineBytes = <usize>blocks * <usize>padded;
  const group = sourceGroup(d);
  const unit = sourceUnit(d);
  const tile = own;
  const lines = own + 256;
  const scales = lines + 8 * lineBytes;
  const panels = scales + <usize>blockColumns * <usize>blocks * 4;

  const byColumns = columns >= rows || columns >= 64 * threads;
  const n0 = byColumns ? shareStart(columns, 8, thread, threads) : 0;
  const n1 = byColumns ? shareEnd(columns, 8, thread, threads) : columns;
  const m0 = byColumns ? 0 : shareStart(rows, 6, thread, threads);
  const m1 = byColumns ? rows : shareEnd(rows, 6, thread, threads);
  if (m0 >= m1) return;
  for (let nb = n0; nb < n1; nb += blockColumns) {
    const end = min(nb + blockColumns, n1);
    for (let n = nb; n < end; n += 8) {
      const count = min(8, end - n);
      const panel = <usize>((n - nb) >> 3);
      const to = scales + panel * <usize>blocks * 32;
      for (let i = 0; i < count; i++) {
        decodeLine(d, row0 + n + i, depth, block, padded, offset, lines + <usize>i * lineBytes);
        for (let g = 0; g < blocks; g++)
          store<f32>(to + ((<usize>(g * 8 + i)) << 2), sourceScale(d, row0 + n + i, (g * block) / group) * unit);
      }
      packLines8(lines, lineBytes, count, <i32>(lineBytes >> 2), panels + panel * 8 * lineBytes);
    }
    for (let m = m0; m < m1; m += 6) {
      const panelA = <usize>(m / 6);
      const count = min(6, rows - m);
      const a = codesA + panelA * 6 * lineBytes;
      const starts = startsA + panelA * <usize>blocks * lineBytesA;
      const sa = scalesA + panelA * <usize>blocks * lineBytesA;
      for (let n = nb; n < end; n += 8) {
        const panel = <usize>((n - nb) >> 3);
        const b = panels + panel * 8 * lineBytes;
        const sb = scales + panel * <usize>blocks * 32;
        clearTile(tile);
        if (portable) tilePortable(blocks, steps, a, sa, b, sb, tile);
        else if (exact) tileExact(blocks, steps, a, starts, sa, b, sb, tile);
        else tileRounded(blocks, steps, a, starts, sa, b, sb, tile);
        storeTile(tile, factor, c + <usize>m * strideC + ((<usize>n) << 2), strideC, count, min(8, end - n));
      }
    }
  }
}
