// Quantization of a matrix, bit for bit as src/formats/block-codec.ts: round to nearest even, uniform scale rules.
//
// The argument words (quantizer.ts writes them) describe a strip of rows: stored values in, codes, scales and zero
// points out. Threads take contiguous bands of rows; a band is the height of a tile, one row for channels and groups.
// For every row: widen to float32 in scratch memory, find the scale of every tile, encode 16 values at a time. Widths
// (groups, tiles, rows) are multiples of 16. Bands of several rows are read twice, because their scales come first.
// A non-finite value is reported through `status` of the thread, and the host says where it is.

import { address, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { amaxBits, amaxBits16, bf16ToF32, dtypeBf16, dtypeF16, dtypeF32, f16ToF32 } from './convert';
import { encodeFloat16, encodeInt16, isPowerOfTwo } from './encode';
import { packBytes, storeNibbles } from './pack';
import { decodeScale, e8m0Code, encodeScale, ruleAbsmax, scaleE8m0, storeScale } from './scale';

// words of the argument block; quantizer.ts has the same list
const wSource = 0;
const wDtype = 1;
const wRows = 2;
const wCols = 3;
const wBits = 4;
const wIsFloat = 5;
const wMantissaBits = 6;
const wBias = 7;
const wLast = 8; // largest magnitude code, or largest code of integers
const wLowest = 9; // smallest code of integers
const wTileRows = 10;
const wTileCols = 11;
const wScaleFormat = 12;
const wRule = 13;
const wEmax = 14;
const wEvenBits = 15;
const wInverseMax = 16;
const wDivisor = 17;
const wTensorScale = 18;
const wUnit = 19; // fixed-point unit of integers under e8m0 scales
const wClip = 20;
const wZeroKind = 21; // 0 none, 1 integer, 2 float
const wCodes = 22;
const wRowBytes = 23;
const wScales = 24;
const wZeroPoints = 25;
const wScratch = 26;
const wScratchBytes = 27; // of one thread
const wStatus = 28; // one i32 a thread
const wFixedAmax = 29; // float bits of the amax of the whole tensor for a tensor scale, or −1

// @ts-ignore: decorator
@inline
function valueBytes(dtype: i32): usize {
  return dtype == dtypeF32 ? 4 : 2;
}

/** Address of a row as float32: the source itself, or widened into `scratch`. */
function rowValues(dtype: i32, row: usize, scratch: usize, cols: i32): usize {
  if (dtype == dtypeF32) return row;
  if (dtype == dtypeBf16) bf16ToF32(row, scratch, cols);
  else f16ToF32(row, scratch, cols);
  return scratch;
}

/** Bits of the largest magnitude of stored values, as float32 bits; 0x7f800000 or more where one is not finite. */
function storedAmax(dtype: i32, x: usize, count: i32): i32 {
  if (dtype == dtypeF32) return amaxBits(x, count);
  const bits = amaxBits16(x, count);
  if (dtype == dtypeBf16) return bits << 16;
  return bits >= 0x7c00 ? 0x7fc00000 : reinterpret<i32>(decodeScale(1, bits));
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

/** Smallest and largest of float32 values from given starts; the results go to `out` and `out + 4`. */
function range(x: usize, count: i32, start0: f32, start1: f32, out: usize): void {
  let lo = f32x4.splat(start0);
  let hi = f32x4.splat(start1);
  for (let end = x + (<usize>count << 2); x < end; x += 32) {
    const a = v128.load(x);
    const b = v128.load(x, 16);
    lo = f32x4.pmin(lo, f32x4.pmin(a, b));
    hi = f32x4.pmax(hi, f32x4.pmax(a, b));
  }
  let low = f32x4.extract_lane(lo, 0);
  let high = f32x4.extract_lane(hi, 0);
  low = min(min(low, f32x4.extract_lane(lo, 1)), min(f32x4.extract_lane(lo, 2), f32x4.extract_lane(lo, 3)));
  high = max(max(high, f32x4.extract_lane(hi, 1)), max(f32x4.extract_lane(hi, 2), f32x4.extract_lane(hi, 3)));
  store<f32>(out, low);
  store<f32>(out, high, 4);
}

/** Where the codes of a row go on their way: bytes for odd widths, else the output itself. */
function emit(bits: i32, out: usize, first: i32, codes: v128): void {
  if (bits == 4) storeNibbles(out + (<usize>first >> 1), codes);
  else v128.store(out + <usize>first, codes);
}

/** Codes of `count` values from column `first` on; step 0 gives the codes of zero. */
function encodeRun(args: usize, x: usize, first: i32, count: i32, step: f32, out: usize): void {
  const bits = word(args, wBits);
  const last = word(args, wLast);
  const exact = isPowerOfTwo(step);
  if (word(args, wIsFloat) != 0) {
    const mantissaBits = word(args, wMantissaBits);
    const bias = word(args, wBias);
    const sign = 1 << (bits - 1);
    // a zero step comes with zeros only: any step gives their codes, signs included
    const d = step == 0 ? <f32>1 : step;
    for (let i = 0; i < count; i += 16) {
      const codes = encodeFloat16(x + (<usize>i << 2), d, exact, mantissaBits, bias, last, sign);
      emit(bits, out, first + i, codes);
    }
    return;
  }
  const low = word(args, wLowest);
  const d = step == 0 ? <f32>1 : step;
  for (let i = 0; i < count; i += 16) {
    emit(bits, out, first + i, encodeInt16(x + (<usize>i << 2), d, exact, 0, 0, low, last));
  }
}

/** Scale of a tile with this amax: stores its code and returns the step. */
function symmetricScale(args: usize, index: i32, amax: f32): f32 {
  const format = word(args, wScaleFormat);
  const clipped = amax * real(args, wClip);
  let code: u32;
  if (format == scaleE8m0) {
    code = e8m0Code(word(args, wRule), clipped, word(args, wEmax), word(args, wEvenBits), real(args, wInverseMax));
  } else {
    code = encodeScale(format, clipped / real(args, wDivisor));
  }
  storeScale(format, address(args, wScales), index, code);
  return decodeScale(format, code) * real(args, wTensorScale) * real(args, wUnit);
}

/** One tile of one row with a zero point or a minimum. */
function encodeAsymmetric(args: usize, x: usize, first: i32, count: i32, index: i32, out: usize, spare: usize): void {
  const integer = word(args, wZeroKind) == 1;
  const format = word(args, wScaleFormat);
  const last = word(args, wLast);
  const clip = real(args, wClip);
  range(x, count, integer ? <f32>0 : <f32>Infinity, integer ? <f32>0 : -<f32>Infinity, spare);
  const low = (load<f32>(spare) + <f32>0) * clip;
  const width = load<f32>(spare, 4) * clip - low;
  const code = width == 0 ? 0 : encodeScale(format, width / <f32>last);
  const scale = decodeScale(format, code);
  storeScale(format, address(args, wScales), index, code);
  let zero: i32 = 0;
  let minimum: f32 = 0;
  if (integer) {
    if (scale != 0) zero = <i32>min(max(nearest(-low / scale), 0), <f32>last);
    store<u8>(address(args, wZeroPoints) + <usize>index, <u8>zero);
  } else {
    const minimumCode = encodeScale(format, low);
    storeScale(format, address(args, wZeroPoints), index, minimumCode);
    minimum = decodeScale(format, minimumCode);
  }
  const bits = word(args, wBits);
  const exact = isPowerOfTwo(scale);
  for (let i = 0; i < count; i += 16) {
    const at = x + (<usize>i << 2);
    // a zero scale: all codes are the zero point
    const codes = scale == 0 ? i8x16.splat(<i8>zero) : encodeInt16(at, scale, exact, minimum, zero, 0, last);
    emit(bits, out, first + i, codes);
  }
}

/** Encodes the rows of this thread. status[thread] becomes 1 + the first row that holds a non-finite value, else 0. */
export function quantizeRows(args: usize, thread: i32, threads: i32): void {
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

  // scratch of this thread: values of a row, steps or maxima of a band, 16 spare bytes, code bytes, packed codes
  const values = address(args, wScratch) + <usize>thread * <usize>word(args, wScratchBytes);
  const steps = values + (<usize>cols << 2);
  const spare = steps + (<usize>scaleCols << 2);
  const bytes = spare + 16;
  const packed = bytes + <usize>cols;
  const direct = bits == 8 || bits == 4;

  store<i32>(status, 0);
  const end = shareEnd(rows, tileRows, thread, threads);
  for (let band = shareStart(rows, tileRows, thread, threads); band < end; band += tileRows) {
    const bandEnd = min(band + tileRows, end);
    const scaleIndex = (band / tileRows) * scaleCols;
    if (tileRows > 1 && fixed < 0) {
      for (let t = 0; t < scaleCols; t++) store<i32>(steps + (<usize>t << 2), 0);
      for (let r = band; r < bandEnd; r++) {
        for (let t = 0; t < scaleCols; t++) {
          const first = t * tileCols;
          const x = source + <usize>r * sourceBytes + <usize>first * valueBytes(dtype);
          const most = storedAmax(dtype, x, min(tileCols, cols - first));
          if (most >= 0x7f800000) {
            store<i32>(status, r + 1);
            return;
          }
          const at = steps + (<usize>t << 2);
          store<i32>(at, max(load<i32>(at), most));
        }
      }
      for (let t = 0; t < scaleCols; t++) {
        const at = steps + (<usize>t << 2);
        store<f32>(at, symmetricScale(args, scaleIndex + t, load<f32>(at)));
      }
    } else if (fixed >= 0) {
      store<f32>(steps, symmetricScale(args, 0, reinterpret<f32>(fixed)));
    }
    for (let r = band; r < bandEnd; r++) {
      const row = source + <usize>r * sourceBytes;
      const x = rowValues(dtype, row, values, cols);
      const target = address(args, wCodes) + <usize>r * rowBytes;
      const out = direct ? target : bytes;
      if (tileRows == 1 && fixed < 0 && storedAmax(dtype, row, cols) >= 0x7f800000) {
        store<i32>(status, r + 1);
        return;
      }
      for (let t = 0; t < scaleCols; t++) {
        const first = t * tileCols;
        const count = min(tileCols, cols - first);
        const from = x + (<usize>first << 2);
        if (asymmetric) encodeAsymmetric(args, from, first, count, scaleIndex + t, out, spare);
        else {
          const known = tileRows > 1 || fixed >= 0;
          const step = known
            ? load<f32>(steps + (<usize>t << 2))
            : symmetricScale(args, scaleIndex + t, reinterpret<f32>(amaxBits(from, count)));
          encodeRun(args, from, first, count, step, out);
        }
      }
      if (!direct) {
        packBytes(bytes, packed, cols, bits);
        memory.copy(target, packed, rowBytes);
      }
    }
  }
}
