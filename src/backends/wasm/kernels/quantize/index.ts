// Quantization of a matrix, bit for bit as src/formats/block-codec.ts: round to nearest even, uniform scale rules.
//
// The argument words (quantizer.ts writes them) describe a strip of rows: stored values in, codes, scales and zero
// points out. Threads take contiguous bands of rows; a band is the height of a tile, one row for channels and groups.
// For every band: the largest magnitude of each tile, then all scales and steps, then the codes, 16 values at a time.
// Widths (groups, tiles, rows) are multiples of 16.
// A non-finite value is reported through `status` of the thread, and the host says where it is.

import { address, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import {
  amaxBits,
  dtypeBf16,
  dtypeF16,
  dtypeF32,
  maxLanesI,
  storeFourMaxima,
  valueBytes,
} from './convert';
import { countable, encodeRowByCounting } from './count';
import { encodeRowFloat, encodeRowInt, prepareSteps } from './encode';
import { packBytes } from './pack';
import { ruleAbsmax, ruleModelopt } from './scale';
import { asymmetricScales, chosenScales, clearZeroTiles, searchedScales, symmetricScales } from './tile-scales';
import {
  wBias,
  wBits,
  wChoice,
  wCodes,
  wCols,
  wDtype,
  wFixedAmax,
  wIsFloat,
  wLast,
  wLowest,
  wMantissaBits,
  wRowBytes,
  wRows,
  wRule,
  wScratch,
  wScratchBytes,
  wSearch,
  wSource,
  wStatus,
  wTileCols,
  wTileRows,
  wZeroKind,
} from './words';

/** amaxBits for a dtype known at run time. */
function storedAmax(dtype: i32, x: usize, count: i32): i32 {
  if (dtype == dtypeBf16) return amaxBits(dtypeBf16, x, count);
  if (dtype == dtypeF16) return amaxBits(dtypeF16, x, count);
  return amaxBits(dtypeF32, x, count);
}

/** Largest magnitude of each thread's rows, as float bits, to status[thread]. */
export function quantizeAmax(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, wRows);
  const cols = word(args, wCols);
  const dtype = word(args, wDtype);
  const rowBytes = <usize>cols * valueBytes(dtype);
  const end = shareEnd(rows, 1, thread, threads);
  let most: i32 = 0;
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    most = max(most, storedAmax(dtype, address(args, wSource) + <usize>r * rowBytes, cols));
  }
  store<i32>(address(args, wStatus) + (<usize>thread << 2), most);
}

/** Largest magnitudes (float bits) of the tiles of a row, at once for all; joined with those already in `out`. */
// @ts-ignore: decorator
@inline
function tileMaxima(dtype: i32, x: usize, cols: i32, tileCols: i32, out: usize): i32 {
  let most: i32 = 0;
  for (let first = 0; first < cols; first += tileCols, out += 4) {
    const count = min(tileCols, cols - first);
    const bits = amaxBits(dtype, x, count);
    most = max(most, bits);
    store<i32>(out, max(load<i32>(out), bits));
    x += <usize>count * valueBytes(dtype);
  }
  return most;
}

/** The same for short tiles of bfloat16, four tiles at a time. */
// @ts-ignore: decorator
@inline
function shortTileMaxima(x: usize, cols: i32, tileCols: i32, out: usize): i32 {
  let most = i32x4.splat(0);
  let done = 0;
  for (; done + 4 * tileCols <= cols; done += 4 * tileCols, out += 16) {
    most = i32x4.max_s(most, storeFourMaxima(x + (<usize>done << 1), tileCols, out));
  }
  return max(maxLanesI(most), tileMaxima(dtypeBf16, x + (<usize>done << 1), cols - done, tileCols, out));
}

function rowMaxima(dtype: i32, x: usize, cols: i32, tileCols: i32, out: usize): i32 {
  if (dtype == dtypeBf16 && tileCols == 16) return shortTileMaxima(x, cols, 16, out);
  if (dtype == dtypeBf16 && tileCols == 32) return shortTileMaxima(x, cols, 32, out);
  if (dtype == dtypeBf16) return tileMaxima(dtypeBf16, x, cols, tileCols, out);
  if (dtype == dtypeF16) return tileMaxima(dtypeF16, x, cols, tileCols, out);
  return tileMaxima(dtypeF32, x, cols, tileCols, out);
}

/** Codes of a row from the steps of its tiles. */
// @ts-ignore: decorator
@inline
function encodeRow(
  dtype: i32,
  args: usize,
  x: usize,
  steps: usize,
  inverses: usize,
  limits: usize,
  minimums: usize,
  zeros: usize,
  nibbles: bool,
  out: usize,
): void {
  const cols = word(args, wCols);
  const tileCols = word(args, wTileCols);
  const last = word(args, wLast);
  if (word(args, wIsFloat) != 0) {
    const m = word(args, wMantissaBits);
    const sign = 8 - word(args, wBits);
    const bias = word(args, wBias);
    const rule = word(args, wRule);
    if (rule > ruleAbsmax)
      encodeRowFloat(dtype, x, cols, tileCols, steps, inverses, limits, 1, 1, 7, 4, true, rule, true, out);
    else if (m == 1)
      encodeRowFloat(dtype, x, cols, tileCols, steps, inverses, limits, 1, bias, last, sign, false, rule, nibbles, out);
    else if (m == 2)
      encodeRowFloat(dtype, x, cols, tileCols, steps, inverses, limits, 2, bias, last, sign, false, rule, nibbles, out);
    else if (m == 3)
      encodeRowFloat(dtype, x, cols, tileCols, steps, inverses, limits, 3, bias, last, sign, false, rule, nibbles, out);
    else
      encodeRowFloat(dtype, x, cols, tileCols, steps, inverses, limits, m, bias, last, sign, false, rule, nibbles, out);
  } else {
    const low = word(args, wLowest);
    encodeRowInt(dtype, x, cols, tileCols, steps, inverses, limits, minimums, zeros, low, last, nibbles, out);
  }
}

/** Whether count.ts encodes the elements of these arguments; modelopt's sign of zero is not done there. */
function countableElement(args: usize): bool {
  if (word(args, wDtype) != dtypeBf16 || word(args, wBits) != 4 || word(args, wLast) != 7) return false;
  if (word(args, wZeroKind) != 0 || word(args, wRule) == ruleModelopt) return false;
  return word(args, wIsFloat) != 0 ? word(args, wMantissaBits) == 1 && word(args, wBias) == 1 : word(args, wLowest) == -7;
}

/** Codes of a row by count.ts. */
function countRow(args: usize, x: usize, steps: usize, out: usize): void {
  const cols = word(args, wCols);
  const tileCols = word(args, wTileCols);
  const rule = word(args, wRule);
  if (word(args, wIsFloat) != 0) encodeRowByCounting(true, rule, x, cols, tileCols, steps, out);
  else encodeRowByCounting(false, rule, x, cols, tileCols, steps, out);
}

/** Encodes the rows of this thread. status[thread] becomes 1 + the first row with a non-finite value, else 0. */
export function quantizeRows(args: usize, thread: i32, threads: i32): void {
  encodeRows(args, false, false, thread, threads);
}

/** The same where scales are searched or chosen: with words 30 and up. */
export function quantizeRowsSelecting(args: usize, thread: i32, threads: i32): void {
  encodeRows(args, word(args, wSearch) != 0, word(args, wChoice) != 0, thread, threads);
}

function encodeRows(args: usize, searches: bool, choice: bool, thread: i32, threads: i32): void {
  const rows = word(args, wRows);
  const cols = word(args, wCols);
  const dtype = word(args, wDtype);
  const bits = word(args, wBits);
  const tileRows = word(args, wTileRows);
  const tileCols = word(args, wTileCols);
  const scaleCols = (cols + tileCols - 1) / tileCols;
  const asymmetric = word(args, wZeroKind) != 0;
  const fixed = word(args, wFixedAmax);
  const source = address(args, wSource);
  const sourceBytes = <usize>cols * valueBytes(dtype);
  const rowBytes = <usize>word(args, wRowBytes);
  const status = address(args, wStatus) + (<usize>thread << 2);

  // scratch of this thread (quantizer.ts has the size): 64 spare bytes, one word a tile each for steps, their
  // inverses, redo limits, minimums and zeros, code bytes, packed codes
  const spare = address(args, wScratch) + <usize>thread * <usize>word(args, wScratchBytes);
  const steps = spare + 64;
  const words = <usize>((scaleCols + 3) & ~3) << 2;
  const inverses = steps + words;
  const limits = inverses + words;
  const minimums = limits + words;
  const zeros = minimums + words;
  const bytes = zeros + words;
  const packed = bytes + <usize>cols;
  const search: usize = choice || searches ? (packed + rowBytes + 31) & ~15 : 0;
  const direct = bits == 8 || bits == 4;
  const rule = word(args, wRule);
  const mayCount = countableElement(args);

  store<i32>(status, 0);
  const end = shareEnd(rows, tileRows, thread, threads);
  for (let band = shareStart(rows, tileRows, thread, threads); band < end; band += tileRows) {
    const bandEnd = min(band + tileRows, end);
    const scaleIndex = (band / tileRows) * scaleCols;
    if (fixed >= 0) {
      store<i32>(steps, fixed);
      symmetricScales(args, 0, 1, steps);
    } else if (!asymmetric || dtype != dtypeBf16) {
      memory.fill(steps, 0, words);
      for (let r = band; r < bandEnd; r++) {
        const x = source + <usize>r * sourceBytes;
        const most = asymmetric ? storedAmax(dtype, x, cols) : rowMaxima(dtype, x, cols, tileCols, steps);
        if (most >= 0x7f800000) {
          store<i32>(status, r + 1);
          return;
        }
      }
      const x = source + <usize>band * sourceBytes;
      if (choice) chosenScales(dtype, args, x, scaleIndex, scaleCols, steps, search);
      else if (!asymmetric && search != 0) searchedScales(dtype, args, x, scaleIndex, scaleCols, steps, search);
      else if (!asymmetric) symmetricScales(args, scaleIndex, scaleCols, steps);
    }
    const counts = mayCount && countable(rule, steps, scaleCols);
    for (let r = band; r < bandEnd; r++) {
      const x = source + <usize>r * sourceBytes;
      const target = address(args, wCodes) + <usize>r * rowBytes;
      if (counts) {
        countRow(args, x, steps, target);
        continue;
      }
      const out = direct ? target : bytes;
      const nibbles = bits == 4;
      if (asymmetric) {
        if (dtype == dtypeBf16) {
          if (!asymmetricScales(dtypeBf16, args, x, scaleIndex, scaleCols, steps, minimums, zeros, spare, search)) {
            store<i32>(status, r + 1);
            return;
          }
        } else if (dtype == dtypeF16) asymmetricScales(dtypeF16, args, x, scaleIndex, scaleCols, steps, minimums, zeros, spare, search);
        else asymmetricScales(dtypeF32, args, x, scaleIndex, scaleCols, steps, minimums, zeros, spare, search);
      }
      if (asymmetric || r == band) prepareSteps(rule, steps, inverses, limits, scaleCols);
      const m = asymmetric ? minimums : 0;
      if (dtype == dtypeBf16) encodeRow(dtypeBf16, args, x, steps, inverses, limits, m, zeros, nibbles, out);
      else if (dtype == dtypeF16) encodeRow(dtypeF16, args, x, steps, inverses, limits, m, zeros, nibbles, out);
      else encodeRow(dtypeF32, args, x, steps, inverses, limits, m, zeros, nibbles, out);
      if (!direct) {
        packBytes(bytes, packed, cols, bits);
        memory.copy(target, packed, rowBytes);
      }
      if (choice) clearZeroTiles(args, steps, scaleCols, target);
    }
  }
}
