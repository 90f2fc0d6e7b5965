// Matrix product on subgroup matrices (tensor cores): f16 operands, f32 sums. C [M, N] = A · B.
//
// Thread map: a workgroup makes a blockM × blockN tile of C, cut among subgroupsM × subgroupsN subgroups; a subgroup
// holds its part as 16 × 16 accumulators in registers. Along K both operands pass through workgroup memory, blockK at a
// time. The next tiles are loaded from storage into registers while these are multiplied.
// Memory: workgroup, (blockM + blockN) · (blockK + 8) · 2 bytes, twice with `buffers: 2`. Features: shader-f16, subgroups,
// chromium-experimental-subgroup-matrix with a 16 × 16 × 16 f16 → f32 configuration, 32 lanes.
// Either operand may have K or its outer axis contiguous, so that NN, NT and TN need no transposing pass.
// Requires: M, N multiples of the tile, K of blockK. Other sizes take the tiled f32 kernel.

import type { KernelSource } from '../kernel-source.ts';
import { type OperandAxis, type OperandStorage, perVector, type TileOperand, tileCode } from './matmul-operand.ts';

export interface SubgroupTile {
  readonly blockM: number;
  readonly blockN: number;
  readonly blockK: number;
  readonly subgroupsM: number;
  readonly subgroupsN: number;
  /** Tiles in workgroup memory: with 2 one barrier a step instead of two. */
  readonly buffers: 1 | 2;
  /** Rows of workgroups that run side by side so that tiles of B are read from cache; 0: as dispatched. */
  readonly group: number;
}

export interface SubgroupMatmul {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly a: { readonly storage: OperandStorage; readonly contiguous: OperandAxis };
  readonly b: { readonly storage: OperandStorage; readonly contiguous: OperandAxis };
  readonly tile: SubgroupTile;
}

const matrix = 16;
const lanes = 32;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Throws where the sizes do not fit the tile. Bindings: those of A, those of B, C, in this order from 0. */
export function subgroupMatmul({ M, N, K, a, b, tile }: SubgroupMatmul): KernelSource {
  const { blockM, blockN, blockK, subgroupsM, subgroupsN, buffers, group } = tile;
  if (M % blockM || N % blockN || K % blockK) throw new Error(`matmul: ${M} × ${N} × ${K} is not cut by the tile`);
  const threads = subgroupsM * subgroupsN * lanes;
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const [tilesM, tilesN] = [partM / matrix, partN / matrix];
  const common = { k: K, tileK: blockK, threads };
  const left = tileCode({ ...common, name: 'a', ...a, outer: M, tileOuter: blockM, origin: 'row0' } as TileOperand);
  const right = tileCode({ ...common, name: 'b', ...b, outer: N, tileOuter: blockN, origin: 'column0' } as TileOperand);
  const bindings = [...left.bindings, ...right.bindings, 'var<storage, read_write> c: array<f32>'];
  const offset = (code: typeof left) => (buffers === 2 ? `buffer * ${code.tileVectors}u` : '0u');
  const other = (code: typeof left) => (buffers === 2 ? `(1u - buffer) * ${code.tileVectors}u` : '0u');
  const store = (at: (code: typeof left) => string) => `${left.store(at(left))}\n${right.store(at(right))}`;
  const load = `${left.load}\n${right.load}`;
  const multiply = multiplyTiles(left, right, a.contiguous, b.contiguous, tile, offset);
  const rows = M / blockM;
  const columns = N / blockN;
  const code = `enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;
${bindings.map((binding, i) => `@group(0) @binding(${i}) ${binding};`).join('\n')}
var<workgroup> a_tile: array<vec4<u32>, ${buffers * left.tileVectors}>;
var<workgroup> b_tile: array<vec4<u32>, ${buffers * right.tileVectors}>;
${[...new Set([left.declarations, right.declarations])].join('\n')}
@compute @workgroup_size(${threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32) {
  ${place(rows, columns, group)}
  let row0 = tile_row * ${blockM}u;
  let column0 = tile_column * ${blockN}u;
  let row = (subgroup / ${subgroupsN}u) * ${partM}u;
  let column = (subgroup % ${subgroupsN}u) * ${partN}u;
  ${eachTile(tilesM, tilesN, (i, j) => `var c${i}_${j}: subgroup_matrix_result<f32, ${matrix}, ${matrix}>;`)}
  ${left.registers}
  ${right.registers}
  var k0 = 0u;
  ${load}
  ${
    buffers === 2
      ? `var buffer = 0u;
  ${store(offset)}
  workgroupBarrier();
  for (var k = 0u; k < ${K}u; k += ${blockK}u) {
    k0 = k + ${blockK}u;
    let more = k0 < ${K}u;
    if (more) { ${load} }
    ${multiply}
    if (more) { ${store(other)} }
    workgroupBarrier();
    buffer = 1u - buffer;
  }`
      : `for (var k = 0u; k < ${K}u; k += ${blockK}u) {
    ${store(offset)}
    workgroupBarrier();
    k0 = k + ${blockK}u;
    if (k0 < ${K}u) { ${load} }
    ${multiply}
    workgroupBarrier();
  }`
  }
  ${eachTile(tilesM, tilesN, (i, j) => `subgroupMatrixStore<row_major>(&c, (row0 + row + ${i * matrix}u) * ${N}u + column0 + column + ${j * matrix}u, c${i}_${j}, ${N}u);`)}
}
`;
  return { code, workgroups: group > 0 ? [rows * columns, 1, 1] : [columns, rows, 1] };
}

const eachTile = (tilesM: number, tilesN: number, of: (i: number, j: number) => string) =>
  range(tilesM)
    .flatMap((i) => range(tilesN).map((j) => of(i, j)))
    .join('\n  ');

/** Which tile of C a workgroup makes: column by column, or in bands of `group` rows. */
function place(rows: number, columns: number, group: number): string {
  if (group === 0) return 'let tile_row = workgroup.y; let tile_column = workgroup.x;';
  const band = Math.min(group, rows);
  return `let band = workgroup.x / ${band * columns}u;
  let rows_here = min(${band}u, ${rows}u - band * ${band}u);
  let within = workgroup.x % ${band * columns}u;
  let tile_row = band * ${band}u + within % rows_here;
  let tile_column = within / rows_here;`;
}

/** One step along K: every subgroup multiplies its part of the two tiles. */
function multiplyTiles(
  left: { stride: number },
  right: { stride: number },
  axisA: OperandAxis,
  axisB: OperandAxis,
  tile: SubgroupTile,
  offset: (code: never) => string,
): string {
  const tilesM = tile.blockM / tile.subgroupsM / matrix;
  const tilesN = tile.blockN / tile.subgroupsN / matrix;
  const at = (code: { stride: number }, axis: OperandAxis, outer: string, k: number) =>
    axis === 'k'
      ? `${offset(code as never)} + ((${outer}) * ${code.stride}u + ${k}u) / ${perVector}u`
      : `${offset(code as never)} + (${k * code.stride}u + ${outer}) / ${perVector}u`;
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
