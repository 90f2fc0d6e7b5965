// Matrix product on subgroup matrices (tensor cores): f16 operands, f32 sums. C [M, N] = A · B.
//
// Thread map: a workgroup makes a blockM × blockN tile of C, cut among subgroupsM × subgroupsN subgroups; a subgroup
// holds its part as accumulators of the adapter's matrices (16 × 16 or 8 × 8) in registers. Along K both operands pass through workgroup memory, blockK at a
// time. The next tiles are loaded from storage into registers while these are multiplied. Tiles are made in bands of
// `group` rows, so that tiles of B are read from cache.
// Memory: workgroup, (blockM + blockN) · (blockK + 8) · 2 bytes (twice with `buffers: 2`), an f32 accumulator a subgroup
// where tiles do not cut C. Features: shader-f16, subgroups, chromium-experimental-subgroup-matrix (fragments.ts).
// Either operand may have K or its outer axis contiguous, so that NN, NT and TN need no transposing pass.
// Edges: loads are kept inside the operands; tiles that reach over C go through workgroup memory.
// Scale: the sums are multiplied by two WGSL expressions, one after the other (inverse factors and tensor scales).

import type { Fragments } from '../fragments.ts';
import { type OperandAxis, perVector, type TileCode, tileCode } from './matmul-operand.ts';
import { isFp4, type OperandStorage } from './operand-storage.ts';

/** A workgroup's tile and the matrices it is made of. */
export interface SubgroupTile extends Fragments {
  readonly blockM: number;
  readonly blockN: number;
  readonly blockK: number;
  readonly subgroupsM: number;
  readonly subgroupsN: number;
  /** Tiles in workgroup memory: with 2 the loop is unrolled twice and has one barrier a step. */
  readonly buffers: 1 | 2;
  /** Rows of tiles in a band. */
  readonly group: number;
}

export interface SubgroupSide {
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** WGSL names of the bound arrays. */
  readonly array: string;
  readonly scales?: string;
  /** The operand has a matrix for each product of a batch. */
  readonly batched?: boolean;
}

export interface SubgroupProduct {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: SubgroupSide;
  readonly b: SubgroupSide;
  readonly tile: SubgroupTile;
  /** Products side by side (default 1). */
  readonly batch?: number;
  /** Pieces along K, each a multiple of blockK (default 1); piece s writes the s-th matrix of C. */
  readonly splits?: number;
  /** WGSL name of C. */
  readonly c: string;
  /**
   * The text that defines NAME_factor and NAME_exponent of an operand, from what its workgroup's tiles are
   * (matmul-bound.ts); nothing where operands need none.
   */
  readonly factors?: (a: TileScope, b: TileScope) => SubgroupText;
  /** Factors of the result, f32 expressions. */
  readonly scale?: readonly string[];
}

/** Which lines of an operand the workgroup reads, as WGSL expressions; along K from `begin` to `end`, at most `slice`. */
export interface TileScope {
  readonly firstLine: string;
  readonly origin: string;
  readonly tileLines: number;
  readonly lines: number;
  readonly K: number;
  readonly slice: number;
}

/** Threads of a workgroup, and how many workgroups there are. */
export function subgroupGrid({ M, N, tile, batch = 1, splits = 1 }: Omit<SubgroupProduct, 'a' | 'b' | 'c' | 'K'>) {
  const [rows, columns] = [Math.ceil(M / tile.blockM), Math.ceil(N / tile.blockN)];
  return {
    threads: tile.subgroupsM * tile.subgroupsN * tile.lanes,
    count: rows * columns * batch * splits,
    ...{ rows, columns },
  };
}

/** The kernel but its bindings and entry point. Runs where `item` and `thread` are defined. */
export interface SubgroupText {
  readonly prelude: string;
  readonly body: string;
}

/** WGSL extensions and entry point parameters that the text needs. */
export const subgroupFeatures = ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'] as const;
export const subgroupParameters = '@builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Length of the pieces along K. */
export const sliceLength = (K: number, splits: number, blockK: number) => Math.ceil(K / blockK / splits) * blockK;

/** Throws where an operand cannot be cut into chunks. */
export function subgroupProduct(product: SubgroupProduct): SubgroupText {
  const { M, N, K, a, b, tile, batch = 1, splits = 1, c, scale = [], factors } = product;
  const { blockM, blockN, blockK, subgroupsM, subgroupsN, buffers, group, edge: matrix, lanes } = tile;
  const { threads, rows, columns } = subgroupGrid(product);
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const [tilesM, tilesN] = [partM / matrix, partN / matrix];
  const paired = [a, b].some(({ storage }) => isFp4(storage));
  const firstLineOf = (s: SubgroupSide, lines: number) => (s.batched && batch > 1 ? `batch * ${lines}u` : '0u');
  const side = (name: 'a' | 'b', s: SubgroupSide, outer: number, tileOuter: number, origin: string) => {
    const firstLine = firstLineOf(s, s.contiguous === 'k' ? outer : K);
    return tileCode({ name, ...s, outer, k: K, tileOuter, tileK: blockK, threads, origin, firstLine, paired });
  };
  const left = side('a', a, M, blockM, 'row0');
  const right = side('b', b, N, blockN, 'column0');
  const slice = sliceLength(K, splits, blockK);
  const scope = (s: SubgroupSide, lines: number, tileLines: number, origin: string): TileScope => ({
    ...{ firstLine: firstLineOf(s, lines), origin, tileLines, lines, K, slice },
  });
  const found = factors?.(scope(a, M, blockM, 'row0'), scope(b, N, blockN, 'column0'));
  const edges = M % blockM !== 0 || N % blockN !== 0 || N % 4 !== 0;
  const code: LoopCode = {
    load: `${left.load}\n${right.load}`,
    store: (buffer) => `${left.store(buffer * left.tileVectors)}\n${right.store(buffer * right.tileVectors)}`,
    multiply: (buffer) => multiplyTiles(left, right, a.contiguous, b.contiguous, tile, buffer),
  };
  const each = (of: (i: number, j: number) => string) =>
    range(tilesM)
      .flatMap((i) => range(tilesN).map((j) => of(i, j)))
      .join('\n  ');
  const scaled = scale.map((s) => each((i, j) => `c${i}_${j} = subgroupMatrixScalarMultiply(c${i}_${j}, ${s});`));
  const direct = each(
    (i, j) =>
      `subgroupMatrixStore<row_major>(&${c}, first + (row0 + row + ${i * matrix}u) * ${N}u + column0 + column + ${j * matrix}u, c${i}_${j}, ${N}u);`,
  );
  const staged = each(
    (i, j) => `workgroupBarrier();
  subgroupMatrixStore<row_major>(&staging, subgroup * ${matrix * matrix}u, c${i}_${j}, ${matrix}u);
  workgroupBarrier();
  for (var e = lane; e < ${matrix * matrix}u; e += ${lanes}u) {
    let m = row0 + row + ${i * matrix}u + e / ${matrix}u;
    let n = column0 + column + ${j * matrix}u + e % ${matrix}u;
    if (m < ${M}u && n < ${N}u) { ${c}[first + m * ${N}u + n] = staging[subgroup * ${matrix * matrix}u + e]; }
  }`,
  );
  const whole = N % 4 === 0 && M >= blockM && N >= blockN;
  const inside = whole ? `row0 + ${blockM}u <= ${M}u && column0 + ${blockN}u <= ${N}u` : '';
  const prelude = `
var<workgroup> a_tile: array<vec4<u32>, ${buffers * left.tileVectors}>;
var<workgroup> b_tile: array<vec4<u32>, ${buffers * right.tileVectors}>;
${edges ? `var<workgroup> staging: array<f32, ${subgroupsM * subgroupsN * matrix * matrix}>;` : ''}
${distinct(left.declarations, right.declarations)}
${found?.prelude ?? ''}`;
  const body = `
  let tiles = item % ${rows * columns}u;
  let outer = item / ${rows * columns}u;
  let batch = outer % ${batch}u;
  let split = outer / ${batch}u;
  ${tilePlace(rows, columns, group)}
  let row0 = tile_row * ${blockM}u;
  let column0 = tile_column * ${blockN}u;
  let row = (subgroup / ${subgroupsN}u) * ${partM}u;
  let column = (subgroup % ${subgroupsN}u) * ${partN}u;
  let first = outer * ${M * N}u;
  ${each((i, j) => `var c${i}_${j}: subgroup_matrix_result<f32, ${matrix}, ${matrix}>;`)}
  ${left.registers}
  ${right.registers}
  let begin = split * ${slice}u;
  let end = ${splits === 1 ? `${K}u` : `min(begin + ${slice}u, ${K}u)`};
  var k0 = begin;
  ${code.load}
  ${found?.body ?? ''}
  ${buffers === 2 ? twoBuffers(code, blockK) : oneBuffer(code, blockK)}
  ${scaled.join('\n  ')}
  ${edges ? (inside ? `if (${inside}) {\n  ${direct}\n  } else {\n  ${staged}\n  }` : staged) : direct}`;
  return { prelude, body };
}

/** Declarations of both sides, each function once. */
function distinct(left: string, right: string): string {
  const parts = [left, right].flatMap((text) => text.split(/\n(?=fn )/).map((part) => part.trim()));
  return [...new Set(parts)].filter(Boolean).join('\n');
}

interface LoopCode {
  readonly load: string;
  store(buffer: number): string;
  multiply(buffer: number): string;
}

const oneBuffer = (
  { load, store, multiply }: LoopCode,
  blockK: number,
) => `for (var k = begin; k < end; k += ${blockK}u) {
    ${store(0)}
    workgroupBarrier();
    k0 = k + ${blockK}u;
    if (k0 < end) { ${load} }
    ${multiply(0)}
    workgroupBarrier();
  }`;

/** Two steps a pass, so that the addresses of both buffers are constants. */
const twoBuffers = ({ load, store, multiply }: LoopCode, blockK: number) => `${store(0)}
  workgroupBarrier();
  for (var k = begin; k < end; k += ${2 * blockK}u) {
    k0 = k + ${blockK}u;
    if (k0 >= end) {
      ${multiply(0)}
      break;
    }
    ${load}
    ${multiply(0)}
    ${store(1)}
    workgroupBarrier();
    k0 = k + ${2 * blockK}u;
    if (k0 < end) { ${load} }
    ${multiply(1)}
    if (k0 < end) { ${store(0)} }
    workgroupBarrier();
  }`;

/** Which tile of C a workgroup makes: in bands of `group` rows, column by column. */
export function tilePlace(rows: number, columns: number, group: number): string {
  const band = Math.max(1, Math.min(group, rows));
  return `let band = tiles / ${band * columns}u;
  let rows_here = min(${band}u, ${rows}u - band * ${band}u);
  let within = tiles % ${band * columns}u;
  let tile_row = band * ${band}u + within % rows_here;
  let tile_column = within / rows_here;`;
}

/** One step along K: every subgroup multiplies its part of the two tiles. */
function multiplyTiles(
  left: TileCode,
  right: TileCode,
  axisA: OperandAxis,
  axisB: OperandAxis,
  tile: SubgroupTile,
  buffer: number,
): string {
  const matrix = tile.edge;
  const tilesM = tile.blockM / tile.subgroupsM / matrix;
  const tilesN = tile.blockN / tile.subgroupsN / matrix;
  const at = (code: TileCode, axis: OperandAxis, outer: string, k: number) =>
    axis === 'k'
      ? `${buffer * code.tileVectors}u + ((${outer}) * ${code.stride}u + ${k}u) / ${perVector}u`
      : `${buffer * code.tileVectors}u + (${k * code.stride}u + ${outer}) / ${perVector}u`;
  const step = (k: number) => `{
    ${range(tilesM)
      .map(
        (i) =>
          `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${matrix}, ${matrix}>, ${axisA === 'k' ? 'row_major' : 'col_major'}>(&a_tile, ${at(left, axisA, `row + ${i * matrix}u`, k)}, ${left.stride / perVector}u);`,
      )
      .join('\n    ')}
    ${range(tilesN)
      .map(
        (j) => `{
      let b = subgroupMatrixLoad<subgroup_matrix_right<f16, ${matrix}, ${matrix}>, ${axisB === 'k' ? 'col_major' : 'row_major'}>(&b_tile, ${at(right, axisB, `column + ${j * matrix}u`, k)}, ${right.stride / perVector}u);
      ${range(tilesM)
        .map((i) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});`)
        .join('\n      ')}
    }`,
      )
      .join('\n    ')}
  }`;
  return range(tile.blockK / matrix)
    .map((i) => step(i * matrix))
    .join('\n    ');
}
