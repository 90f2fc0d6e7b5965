// How a workgroup of the fused quantizer reads its values: along rows or along columns, f32 or packed, and transforms them.
//
// The result [M, K] is cut into chunks of 32 values along K, one a thread. A workgroup reads its part of the source with
// neighbouring threads next to each other, 16 bytes a thread, and puts it into workgroup memory, from which each thread
// takes its chunk into v0 … v7:
//
//   along rows      chunks in the order of the result, `threads` of them
//   along columns   source [K, M]: a tile of 128 rows and threads / 4 columns; the four chunks of a column belong to four
//                   threads next to each other
//
// Chunks lie 33 words apart (and chunks of one column 8 more), so that neither side meets itself in the memory's 32 banks.
// Packed rows need no workgroup memory: a thread decodes its own chunk. Places beyond the end read the last value instead.

import type { ElementType, Names, Operand } from '../kernel.ts';
import { eachVector, heldValues, heldVectors, turnSource, turnStatements } from '../wgsl/turn.ts';

const pitch = heldValues + 1;
/** Chunks of a column in a workgroup. */
export const columnChunks = 4;
const tileRows = columnChunks * heldValues;
const skew = heldValues / columnChunks;

export interface FusedTile {
  readonly source: Operand;
  readonly transposed: boolean;
  /** The result. */
  readonly rows: number;
  readonly cols: number;
  readonly blockSize: number;
  readonly signs: 'none' | 'first' | 'last';
  readonly threads: number;
}

/** Bytes of workgroup memory for the values. */
export const tileBytes = (threads: number): number => 4 * (threads * pitch + columnChunks * skew);

/** The longest block of a transform, and the longest group, that a workgroup holds. */
export const longestBlock = (transposed: boolean, threads: number): number =>
  transposed ? tileRows : threads * heldValues;

const tileColumns = ({ threads }: Pick<FusedTile, 'threads'>) => threads / columnChunks;

/** Workgroups. */
export function tileCount(tile: Omit<FusedTile, 'source'>): number {
  const { transposed, rows, cols, threads } = tile;
  if (!transposed) return Math.ceil((rows * cols) / (heldValues * threads));
  return Math.ceil(rows / tileColumns(tile)) * Math.ceil(cols / tileRows);
}

/** Where the chunk of a thread begins in workgroup memory. */
function slotOf(tile: FusedTile): (thread: string) => string {
  if (!tile.transposed) return (thread) => `${thread} * ${pitch}u`;
  const strip = tileColumns(tile) * pitch + skew;
  return (thread) => `(${thread} % ${columnChunks}u) * ${strip}u + ${thread} / ${columnChunks}u * ${pitch}u`;
}

/** How the source is bound. */
export function sourceType({ source, transposed, rows }: FusedTile): ElementType {
  if (source.dtype === 'packed') return 'u32';
  return transposed && rows % 4 !== 0 ? 'f32' : 'vec4<f32>';
}

/** How the signs are bound. */
export const signsType = ({ transposed, signs }: FusedTile): ElementType =>
  transposed && signs === 'first' ? 'f32' : 'vec4<f32>';

/** Declares what tileStatements needs, besides decodeSource with the prefix `x` for a packed source. */
export const tileSource = ({ threads, blockSize }: FusedTile): string => `
var<workgroup> tile: array<f32, ${tileBytes(threads) / 4}>;
${blockSize > 1 ? turnSource : ''}`;

/** Text that keeps an index below `count`; `full` when it is so anyway. */
const within = (index: string, count: number, full: boolean) => (full ? `(${index})` : `min(${index}, ${count - 1}u)`);

/**
 * Statements, run by the whole workgroup `item`, that declare `chunk`, its number in the result, `alive`, whether it
 * exists, and v0 … v7: its values, transformed. Needs words.factor where there is a transform.
 */
export function tileStatements(tile: FusedTile, n: Names): string {
  const { rows, cols, blockSize, signs, transposed } = tile;
  const load = transposed ? alongColumns(tile, n) : alongRows(tile, n);
  const turn =
    blockSize === 1
      ? ''
      : `${turnStatements(blockSize, 'tile', slotOf(tile))}
  ${eachVector((v) => `${v} *= words.factor;`)}`;
  const after = eachVector(
    (v, j) => `${v} *= ${n.signs}[(chunk % ${cols / heldValues}u * ${heldVectors}u + ${j}u) % ${blockSize / 4}u];`,
  );
  const total = (rows * cols) / heldValues;
  const place = transposed
    ? `let chunk = (column0 + thread / ${columnChunks}u) * ${cols / heldValues}u + row0 / ${heldValues}u + thread % ${columnChunks}u;
  let alive = column0 + thread / ${columnChunks}u < ${rows}u && row0 + thread % ${columnChunks}u * ${heldValues}u < ${cols}u;`
    : `let chunk = item * ${tile.threads}u + thread;
  let alive = chunk < ${total}u;`;
  const corner = `let row0 = item / ${Math.ceil(rows / tileColumns(tile))}u * ${tileRows}u;
  let column0 = item % ${Math.ceil(rows / tileColumns(tile))}u * ${tileColumns(tile)}u;`;
  return `${transposed ? corner : ''}
  ${place}
  ${load}
  ${turn}
  ${signs === 'last' ? after : ''}`;
}

/** Declares tileSize and tileValue (wgsl/encode.ts) of groups of `group` values, once keepStatements has run. */
export const tileValueSource = (tile: FusedTile, group: number): string => `
var<private> groupFirst: vec2u;
fn tileSize() -> u32 { return ${group}u; }
fn tileValue(at: u32) -> u32 {
  let owner = groupFirst.x + at / ${heldValues}u;
  return bitcast<u32>(tile[${slotOf(tile)('owner')} + groupFirst.y + at % ${heldValues}u]);
}
`;

/** A statement after which each thread's place in workgroup memory is read by nobody else. */
export const freeTile = ({ blockSize }: FusedTile): string => (blockSize > heldValues ? 'workgroupBarrier();' : '');

/** Statements that put v0 … v7 back into workgroup memory, for tileValue; groupFirst is the first value's thread and place. */
export const keepStatements = (tile: FusedTile): string => `{
    let own = ${slotOf(tile)('thread')};
    ${eachVector((v, j) => [0, 1, 2, 3].map((k) => `tile[own + ${4 * j + k}u] = ${v}.${'xyzw'[k]};`).join(' '))}
  }`;

/**
 * Statements that take v0 … v7 from there, so that they need no registers in between: the place is written so that the
 * compiler does not see it is the same (words.items is never 2^32 − 1).
 */
export const takeAgain = (tile: FusedTile): string => `{
    let own = ${slotOf(tile)('thread')} + select(0u, 1u, words.items == 0xffffffffu);
    ${eachVector((v, j) => `${v} = vec4f(${[0, 1, 2, 3].map((k) => `tile[own + ${4 * j + k}u]`).join(', ')});`)}
  }`;

/** Each thread takes its chunk. */
const take = (tile: FusedTile) => `workgroupBarrier();
  let mine = ${slotOf(tile)('thread')};
  ${eachVector((v, j) => `var ${v} = vec4f(${[0, 1, 2, 3].map((k) => `tile[mine + ${4 * j + k}u]`).join(', ')});`)}`;

function alongRows(tile: FusedTile, n: Names): string {
  const { source, rows, cols, blockSize, signs, threads } = tile;
  const total = (rows * cols) / heldValues;
  const turned = (v: string, at: string) =>
    signs === 'first' ? `${v} *= ${n.signs}[(${at}) % ${blockSize / 4}u];` : '';
  if (source.dtype === 'packed')
    return `let source = ${within('chunk', total, total % threads === 0)};
  let row = source / ${cols / heldValues}u;
  let col = source % ${cols / heldValues}u * ${heldValues}u;
  ${[0, 1, 2, 3]
    .map(
      (k) => `let eight${k} = xEight(row, col + ${8 * k}u);
  var v${2 * k} = unfused(eight${k}.low);
  var v${2 * k + 1} = unfused(eight${k}.high);`,
    )
    .join('\n  ')}
  ${eachVector((v, j) => turned(v, `col / 4u + ${j}u`))}`;
  const vectors = total * heldVectors;
  const at = (j: number) => `item * ${threads * heldVectors}u + thread + ${threads * j}u`;
  return `let to = thread / ${heldVectors}u * ${pitch}u + thread % ${heldVectors}u * 4u;
  ${eachVector((_, j) => `var a${j} = ${n.x}[${within(at(j), vectors, total % threads === 0)}];`)}
  ${eachVector((_, j) => turned(`a${j}`, `thread + ${threads * j}u`))}
  ${eachVector((_, j) =>
    [0, 1, 2, 3].map((k) => `tile[to + ${(threads / heldVectors) * pitch * j + k}u] = a${j}.${'xyzw'[k]};`).join(' '),
  )}
  ${take(tile)}`;
}

function alongColumns(tile: FusedTile, n: Names): string {
  const { source, rows, cols, blockSize, signs, threads } = tile;
  const columns = tileColumns(tile);
  const strip = columns * pitch + skew;
  const [allRows, allColumns] = [cols % tileRows === 0, rows % columns === 0];
  const values = (tileRows * columns) / threads;
  const row = (at: string) => within(`row0 + ${at}`, cols, allRows);
  const to = (r: string, c: string) => `${r} / ${heldValues}u * ${strip}u + ${c} * ${pitch}u + ${r} % ${heldValues}u`;
  const sign = (r: string) => (signs === 'first' ? ` * ${n.signs}[${r} % ${blockSize}u]` : '');
  const put = (vector: string, at: string, first = 0) =>
    [0, 1, 2, 3].map((k) => `tile[${at} + ${(first + k) * pitch}u] = ${vector}.${'xyzw'[k]};`).join(' ');
  if (source.dtype === 'packed') {
    // neighbouring threads read neighbouring eights of a row
    const across = columns / 8;
    const part = (k: number) => `let i${k} = thread + ${threads * k}u;
  let r${k} = i${k} / ${across}u;
  let c${k} = i${k} % ${across}u * 8u;
  let eight${k} = xEight(${row(`r${k}`)}, ${within(`column0 + c${k}`, Math.ceil(rows / 8) * 8 - 7, allColumns)});`;
    const store = (k: number) => `{ let at = ${to(`r${k}`, `c${k}`)};
    let low = eight${k}.low${sign(`r${k}`)};
    let high = eight${k}.high${sign(`r${k}`)};
    ${put('low', 'at')} ${put('high', 'at', 4)} }`;
    const parts = Array.from({ length: values / 8 }, (_, k) => k);
    return `${parts.map(part).join('\n  ')}\n  ${parts.map(store).join('\n  ')}\n  ${take(tile)}`;
  }
  if (rows % 4 !== 0)
    return `for (var j = 0u; j < ${values}u; j++) {
    let i = thread + ${threads}u * j;
    let r = i / ${columns}u;
    let c = i % ${columns}u;
    let value = ${n.x}[${row('r')} * ${rows}u + ${within('column0 + c', rows, false)}]${sign('r')};
    tile[${to('r', 'c')}] = value;
  }
  ${take(tile)}`;
  // strips of 32 columns: eight threads for the 128 bytes of a row
  const across = Math.min(8, columns / 4);
  const part = (k: number) => `let i${k} = thread + ${threads * k}u;
  let r${k} = i${k} / ${across}u % ${tileRows}u;
  let c${k} = i${k} % ${across}u * 4u + i${k} / ${across * tileRows}u * 32u;
  let a${k} = ${n.x}[${row(`r${k}`)} * ${rows / 4}u + ${within(`(column0 + c${k}) / 4u`, rows / 4, allColumns)}]${sign(`r${k}`)};`;
  return `${eachVector((_, k) => part(k))}
  ${eachVector((_, k) => `{ let at = ${to(`r${k}`, `c${k}`)}; ${put(`a${k}`, 'at')} }`)}
  ${take(tile)}`;
}
