// Quantized matrices whose scales stay and whose codes are chosen from outside: GPTQ and every other solver of weights.
//
// gridOf gives the reachable values, value = values[code] · step + offset (grid-values.ts); codesOf and withCodes take the
// codes out and put others in. In float32, with both operations rounded, values · step + offset is what `dequantize`
// gives, up to the order of roundings: bit for bit for ggml types and float minima; within 2 units in the last place
// where a tensor scale or a subnormal step is rounded on its own; for an integer zero point z under float32 scales
// within 2 units of the offset z · step (with 16-bit scales the offset is exact).
// Not every format is a grid: IF4 has two sets of values, HiF4 three levels of scales, 16-bit floats no scales.

import { type SubbyteError, userError } from '../errors.ts';
import { elementCodec } from './element.ts';
import type { Format, GgmlFormat, Quantized, QuantSpec } from './format.ts';
import { ggmlCodeCount, ggmlGrid, readGgmlCodes, writeGgmlCodes } from './ggml/grid.ts';
import { ggmlType } from './ggml/types.ts';
import { ascendingCodes, type Grid } from './grid-values.ts';
import { scaleLayout } from './layout.ts';
import { packCodes, unpackRows } from './packing.ts';
import { formatName } from './registry.ts';
import { decodeScale, readScale, scaleBytes } from './scale-format.ts';
import { elementBits, intBits, isInt, isMinifloat, minifloats } from './table.ts';

export type { Grid } from './grid-values.ts';

const hasGrid = (format: Format): format is QuantSpec | GgmlFormat =>
  format.kind === 'ggml' || (format.kind === 'quant' && format.choice !== 'int-or-float');

/**
 * Refuses formats whose codes cannot be chosen under fixed scales.
 *
 * @param op the method that needs a grid, for the message
 * @throws user error for f32, f16, bf16, IF4 and HiF4
 * @example refuseWithoutGrid(parseFormat('hif4'), 'gptq', 'layers.0.up_proj')
 */
export function refuseWithoutGrid(format: Format, op: string, tensor: string): void {
  if (!hasGrid(format)) throw withoutGrid(format, op, tensor);
}

function withoutGrid(format: Format, op: string, tensor?: string): SubbyteError {
  return userError({
    code: 'format-without-grid',
    op,
    problem: 'codes can be chosen only where scales alone fix the values of a format',
    got: formatName(format),
    expected: 'integers, minifloats, codebooks, MX, NVFP4 or a ggml type',
    fix: 'take another format, or round this tensor plainly',
    tensor,
  });
}

/** Codes that a solver may take: what the encoder itself can produce. */
function admits(spec: QuantSpec): (value: number, code: number) => boolean {
  const { element } = spec;
  if (isMinifloat(element)) return (value) => Math.abs(value) <= minifloats[element].max;
  if (!isInt(element) || spec.zeroPoint !== 'none' || spec.range !== 'restricted') return () => true;
  const lowest = 2 ** (intBits[element] - 1);
  return (_, code) => code !== lowest;
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/**
 * The grid of any quantized matrix, from its scales; the codes do not matter.
 *
 * @throws user error for formats without a grid
 * @example gridOf(quantize(weight, 1024, 4096, parseFormat('nvfp4'))).run // 16
 */
export function gridOf(q: Quantized): Grid {
  const { format, rows, cols } = q;
  if (!hasGrid(format)) throw withoutGrid(format, 'grid');
  if (format.kind === 'ggml') return { rows, cols, ...ggmlGrid(format.type, q.codes, rows, cols) };
  const { tileRows, tileCols, scaleCols } = scaleLayout(format.granularity, rows, cols);
  const { values } = elementCodec(format);
  const span = Math.min(tileCols, cols);
  const run = greatestDivisor(span, cols);
  const runs = cols / run;
  const steps = new Float32Array(rows * runs);
  const offsets = format.zeroPoint === 'none' ? undefined : new Float32Array(rows * runs);
  const scaleFormat = format.scale.format;
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < runs; k++) {
      const at = Math.floor(r / tileRows) * scaleCols + Math.floor((k * run) / tileCols);
      const scale = decodeScale(scaleFormat, readScale(scaleFormat, q.scales, at));
      steps[r * runs + k] = scale * q.tensorScale;
      if (!offsets) continue;
      offsets[r * runs + k] =
        format.zeroPoint === 'integer'
          ? 0 - q.zeroPoints![at]! * scale
          : decodeScale(scaleFormat, readScale(scaleFormat, q.zeroPoints!, at));
    }
  }
  return { rows, cols, span, run, values, order: ascendingCodes(values, admits(format)), steps, offsets };
}

/**
 * Codes of a quantized matrix [rows, cols], one a byte.
 *
 * @throws user error for formats without a grid
 */
export function codesOf(q: Quantized): Uint8Array {
  const { format, rows, cols } = q;
  if (!hasGrid(format)) throw withoutGrid(format, 'grid');
  if (format.kind === 'ggml') return readGgmlCodes(format.type, q.codes, rows, cols);
  return unpackRows(q.codes, cols, elementBits(format.element), 0, rows);
}

/**
 * The matrix with the same scales and other codes.
 *
 * @param codes [rows, cols], one a byte, in code order of the format
 * @throws user error for formats without a grid
 * @example withCodes(q, codesOf(q)) // the same matrix
 */
export function withCodes(q: Quantized, codes: Uint8Array): Quantized {
  const { format, rows, cols } = q;
  if (!hasGrid(format)) throw withoutGrid(format, 'grid');
  if (codes.length !== rows * cols) throw new Error(`withCodes: ${codes.length} codes for ${rows} × ${cols}`);
  const count = format.kind === 'ggml' ? ggmlCodeCount(format.type) : 2 ** elementBits(format.element);
  for (let i = 0; i < codes.length; i++)
    if (codes[i]! >= count) throw new Error(`withCodes: code ${codes[i]} is not below ${count}`);
  const packed =
    format.kind === 'ggml'
      ? writeGgmlCodes(format.type, q.codes, rows, cols, codes)
      : packCodes(codes, rows, cols, elementBits(format.element));
  return { ...q, codes: packed };
}

/**
 * Overwrites the scales of rows firstRow … and columns firstColumn … of `q` with those of `part`, whose columns are a
 * whole number of groups or blocks. Rows of `part` past the end of `q` are left out. Both have the format and the tensor
 * scale of `q`. The codes there are undefined afterwards.
 */
export function setScales(q: Quantized, firstRow: number, firstColumn: number, part: Quantized): void {
  const { format } = q;
  const rows = Math.min(part.rows, q.rows - firstRow);
  const copy = (to: Uint8Array, from: Uint8Array, size: number, bytes: number) => {
    const width = (part.cols / size) * bytes;
    const toRow = (q.cols / size) * bytes;
    const at = firstRow * toRow + (firstColumn / size) * bytes;
    for (let r = 0; r < rows; r++) to.set(from.subarray(r * width, (r + 1) * width), at + r * toRow);
  };
  if (format.kind === 'ggml') {
    const { block, bytes } = ggmlType(format.type);
    copy(q.codes, part.codes, block, bytes);
    return;
  }
  if (format.kind !== 'quant' || format.granularity.kind !== 'group')
    throw new Error(`setScales: ${formatName(format)} has no scales of single columns`);
  const { size } = format.granularity;
  const bytes = scaleBytes(format.scale.format);
  copy(q.scales, part.scales, size, bytes);
  if (q.zeroPoints) copy(q.zeroPoints, part.zeroPoints!, size, format.zeroPoint === 'integer' ? 1 : bytes);
}
