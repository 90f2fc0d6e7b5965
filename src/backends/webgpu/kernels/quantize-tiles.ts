// quantize for every granularity, width and element: scales first, then codes.
//
//   fitTiles  a workgroup of 32 … 256 threads gathers the statistics of one tile (halving in workgroup memory, 4 … 12
//             bytes a thread) and puts scale, minimum and zero point into scratch
//   pack      a thread for each word of scales and zero points
//   encode    a thread for each word of codes; codes that straddle two words are computed twice
//
// No features.

import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { packedRowBytes } from '../../../formats/packing.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  type MemoryRange,
  type Names,
  type PackedOperand,
  read,
  write,
} from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { scaleIndex, unfusedSource } from '../wgsl/decode.ts';
import { encodeSource, fixedTensorScale, readsTile } from '../wgsl/encode.ts';
import type { Draws } from './quantize-options.ts';
import { scratchBinding, tensorWords, wholeAt } from './quantize-tensor.ts';

/** Scratch words: those of quantize-tensor.ts, then five words a tile. */
const tilesAt = tensorWords;
const tileWords = 5;

export function tileScratchBytes(spec: QuantSpec, rows: number, cols: number): number {
  const { scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  return 4 * (tilesAt + tileWords * scaleRows * scaleCols);
}

/** A word of `bytes`-wide codes, word `index` of an array of `total`, from field `field` of the tiles in scratch. */
function packedWord(scratch: string, index: string, bytes: number, total: number, field: number): string {
  const per = 4 / bytes;
  return `for (var k = 0u; k < ${per}u; k++) {
      let t = ${index} * ${per}u + k;
      if (t < ${total}u) { word |= ${scratch}[${tilesAt + field}u + ${tileWords}u * t] << (${8 * bytes}u * k); }
    }`;
}

/** Words of codes of a matrix. */
export const codeWords = ({ rows, cols }: PackedOperand, spec: QuantSpec): number =>
  Math.ceil((rows * packedRowBytes(elementBits(spec.element), cols)) / 4);

/** Statements that round the values behind word `i` of the codes of y; `tile` declares the tile of (row, col). */
export function codeWord({ rows, cols }: PackedOperand, spec: QuantSpec, n: Names, tile: string): string {
  const bits = elementBits(spec.element);
  const rowBits = 8 * packedRowBytes(bits, cols);
  return `var word = 0u;
  var at = 0u;
  while (at < 32u) {
    let byte = i * 4u + at / 8u;
    let row = byte / ${rowBits / 8}u;
    if (row >= ${rows}u) { break; }
    let place = byte % ${rowBits / 8}u * 8u + at % 8u;
    let col = place / ${bits}u;
    if (col >= ${cols}u) { at += ${rowBits}u - place; continue; }
    ${tile}
    let element = row * ${cols}u + col;
    let skip = place - col * ${bits}u;
    word |= (codeOf(${n.x}[element], tile, element) >> skip) << at;
    at += ${bits}u - skip;
  }
  ${n.y}[i] = word;`;
}

/** Whether the scale is that of the largest magnitude of the whole matrix: encodeAmax must come first. */
export function isOneTile(spec: QuantSpec, rows: number, cols: number): boolean {
  const { scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  return scaleRows * scaleCols === 1 && spec.zeroPoint === 'none' && spec.range !== 'signed-max' && !readsTile(spec);
}

/** Commands for x [rows, cols] → y; after encodeAmax where isOneTile or a second level needs it. */
export function encodeTiles(
  x: DenseOperand,
  y: PackedOperand,
  spec: QuantSpec,
  scratch: MemoryRange,
  draws: Draws,
): Command[] {
  const { rows, cols, layout } = y;
  const { tileRows, tileCols, scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  const tiles = scaleRows * scaleCols;
  const [height, width] = [Math.min(tileRows, rows), Math.min(tileCols, cols)];
  const fromAmax = isOneTile(spec, rows, cols);
  const threads = rowThreads(fromAmax ? 1 : height * width);
  const fixed = fixedTensorScale(spec);
  const words = { ...draws.words, g: { f32: fixed ?? 1 } };
  const access = (n: Names) => `
var<private> corner: vec2u;
var<private> extent: vec2u;
fn tileSize() -> u32 { return extent.x * extent.y; }
fn tileValue(at: u32) -> u32 {
  return ${n.x}[(corner.y + at / extent.x) * ${cols}u + corner.x + at % extent.x];
}
`;
  const base = (n: Names) =>
    valueSource + unfusedSource + encodeSource(spec, n.step) + (readsTile(spec) ? access(n) : '');
  const g = (n: Names) => (fixed === undefined ? `bitcast<f32>(${n.y}[${layout.tensorScale / 4}u])` : 'words.g');
  const gatherTile = (n: Names) => `let row0 = item / ${scaleCols}u * ${tileRows}u;
  let col0 = item % ${scaleCols}u * ${tileCols}u;
  let height = min(${tileRows}u, ${rows}u - row0);
  let width = min(${tileCols}u, ${cols}u - col0);
  for (var i = thread; i < height * width; i += ${threads}u) {
    own = gather(own, ${n.x}[(row0 + i / width) * ${cols}u + col0 + i % width], i);
  }
  parts[thread] = own;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { parts[thread] = join(parts[thread], parts[thread + half]); }
  }`;
  const fit = (n: Names) => `var own = noStatistics();
  ${fromAmax ? `parts[thread] = Statistics(${n.scratch}[${wholeAt}u]);` : gatherTile(n)}
  if (thread == 0u) {
    own = parts[0];
    if (own.amax >= 0x7f800000u) { report(${nonFiniteError}u, i32(item)); own = noStatistics(); }
    ${readsTile(spec) ? 'corner = vec2u(col0, row0);\n    extent = vec2u(width, height);' : ''}
    let tile = fitTile(own, ${g(n)});
    let at = ${tilesAt}u + ${tileWords}u * item;
    ${n.scratch}[at] = bitcast<u32>(tile.step);
    ${n.scratch}[at + 1u] = bitcast<u32>(tile.minimum);
    ${n.scratch}[at + 2u] = bitcast<u32>(tile.zero);
    ${n.scratch}[at + 3u] = tile.code;
    ${n.scratch}[at + 4u] = tile.zeroCode;
    ${fixed === undefined ? '' : `if (item == 0u) { ${n.y}[${layout.tensorScale / 4}u] = bitcast<u32>(words.g); }`}
  }`;
  const bytes = scaleBytes(spec.scale.format);
  const zeroBytes = { none: 0, integer: 1, float: bytes }[spec.zeroPoint];
  const scaleWords = Math.ceil((tiles * bytes) / 4);
  const zeroWords = Math.ceil((tiles * zeroBytes) / 4);
  const pack = (n: Names) => `var word = 0u;
  if (i < ${scaleWords}u) {
    ${packedWord(n.scratch, 'i', bytes, tiles, 3)}
    ${n.y}[${layout.scales / 4}u + i] = word;
  }${
    zeroBytes === 0
      ? ''
      : ` else {
    ${packedWord(n.scratch, `(i - ${scaleWords}u)`, zeroBytes, tiles, 4)}
    ${n.y}[${layout.zeroPoints / 4}u + i - ${scaleWords}u] = word;
  }`
  }`;
  const encode = (n: Names) =>
    codeWord(
      y,
      spec,
      n,
      `let tileAt = ${tilesAt}u + ${tileWords}u * (${scaleIndex(y, spec, 'row', 'col')});
    let tile = tileOf(
      0u, bitcast<f32>(${n.scratch}[tileAt]), bitcast<f32>(${n.scratch}[tileAt + 1u]), bitcast<i32>(${n.scratch}[tileAt + 2u]), 0u);`,
    );
  const bindings = { x: read(x, 'u32'), y: write(y), scratch: scratchBinding(scratch), ...draws.bindings };
  return [
    {
      bindings,
      words,
      reports: true,
      ...forEachGroup(tiles, threads, fit, (n) => `${base(n)}\nvar<workgroup> parts: array<Statistics, ${threads}>;\n`),
    },
    { bindings: { y: bindings.y, scratch: bindings.scratch }, ...forEachItem(scaleWords + zeroWords, pack) },
    { bindings, words, ...forEachItem(codeWords(y, spec), encode, base) },
  ];
}
