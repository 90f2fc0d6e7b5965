// Matrix product of integers on subgroup matrices: i8 operands along K, exact i32 sums.
//
// Thread map and pipeline as matmul-subgroup.ts. Both operands pass through workgroup memory as bytes, sixteen integers a
// chunk; fragments are opaque, so that sums leave through a strip of workgroup memory a subgroup, where a statement of
// the caller's scales and stores each. Factors of rows and columns are read before the loop, while nobody waits for them.
// Memory: workgroup, (blockM + blockN) · (blockK + 16) bytes, 128 · edge bytes a subgroup, 4 bytes a factor. Features:
// subgroups, chromium-experimental-subgroup-matrix with i8 → i32 (fragments.ts).

import type { IntegerFragments } from '../fragments.ts';
import { spreadLine } from './matmul-operand.ts';
import { type SubgroupText, type SubgroupTile, subgroupGrid, tilePlace } from './matmul-subgroup.ts';

export type IntegerTile = SubgroupTile & IntegerFragments;

export interface IntegerProduct {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch?: number;
  /** b has a matrix for each product of the batch; a always has. */
  readonly batchedB?: boolean;
  /** One buffer in workgroup memory; parts of subgroups and blockK are multiples of 32. */
  readonly tile: IntegerTile;
  /** Statement that stores `sum` (i32) of row `m` and column `n` of product `batch`; sees factors as rowFactor, columnFactor. */
  readonly store: string;
  /** f32 expressions of `row`, a row of all products' a, and of `column`, one of b. */
  readonly factors?: { readonly row: string; readonly column: string };
  /** Statements before the sums are stored, that all threads run. */
  readonly before?: string;
}

const chunk = 16;
/** Sums of a row that a subgroup stores at a time. */
const strip = 32;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Bytes of workgroup memory with factors. */
export const integerTileBytes = ({ blockM, blockN, blockK, subgroupsM, subgroupsN, edge }: IntegerTile): number =>
  (blockM + blockN) * (blockK + chunk + 4) + subgroupsM * subgroupsN * edge * strip * 4;

/** Needs `aSixteen(row, k) -> vec4<u32>`, integers k … k + 15 of a row of all products' a, zeros from K on, and bSixteen. */
export function integerSubgroupProduct(product: IntegerProduct): SubgroupText {
  const { M, N, K, batch = 1, batchedB = false, tile, store, factors, before = '' } = product;
  const { blockM, blockN, blockK, subgroupsM, subgroupsN, group, edge, depth, lanes } = tile;
  const { threads, rows, columns } = subgroupGrid({ M, N, tile, batch });
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  // a fragment begins at a whole element of the array
  const perVector = Math.min(chunk, depth);
  const stride = (blockK + chunk) / perVector;
  const perLine = blockK / chunk;
  const operands = [
    { name: 'a', lines: blockM, origin: 'row0', last: M - 1, first: batch > 1 ? `batch * ${M}u` : '0u' },
    { name: 'b', lines: blockN, origin: 'column0', last: N - 1, first: batchedB ? `batch * ${N}u` : '0u' },
  ];
  const each = (of: (o: (typeof operands)[number], i: number, line: string, column: string) => string) =>
    operands
      .flatMap((o) =>
        range((o.lines * perLine) / threads).map((i) => {
          const at = `(thread + ${i * threads}u)`;
          const line = spreadLine(`(${at} / ${perLine}u)`, (blockK + chunk) / chunk, perLine, perLine);
          return of(o, i, line, `(${at} % ${perLine}u * ${chunk}u)`);
        }),
      )
      .join('\n    ');
  const load = each(({ name, origin, last, first }, i, line, column) => {
    const row = `${first} + min(${origin} + ${line}, ${last}u)`;
    const read = `${name}_${i} = ${name}Sixteen(${row}, k0 + ${column});`;
    return K % blockK === 0 ? read : `${name}_${i} = vec4<u32>();\n    if (k0 + ${column} < ${K}u) { ${read} }`;
  });
  const keep = each(({ name }, i, line, column) => {
    const to = `${line} * ${stride}u + ${column} / ${perVector}u`;
    return perVector === chunk
      ? `${name}_tile[${to}] = ${name}_${i};`
      : `${name}_tile[${to}] = ${name}_${i}.xy; ${name}_tile[${to} + 1u] = ${name}_${i}.zw;`;
  });
  const [tilesM, tilesN] = [range(partM / edge), range(partN / edge)];
  const tiles = (of: (i: number, j: number) => string) =>
    tilesM.flatMap((i) => tilesN.map((j) => of(i, j))).join('\n  ');
  const place = (origin: string, i: number, k: number) =>
    `(${origin} + ${i * edge}u) * ${stride}u + ${k / perVector}u, ${stride}u`;
  const step = (k: number) => `{
    ${tilesM
      .map(
        (i) =>
          `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<i8, ${depth}, ${edge}>, row_major>(&a_tile, ${place('row', i, k)});`,
      )
      .join('\n    ')}
    ${tilesN
      .map(
        (j) => `{
      let b = subgroupMatrixLoad<subgroup_matrix_right<i8, ${edge}, ${depth}>, col_major>(&b_tile, ${place('column', j, k)});
      ${tilesM.map((i) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});`).join('\n      ')}
    }`,
      )
      .join('\n    ')}
  }`;
  const perStrip = strip / edge;
  const strips = tilesM.flatMap((i) =>
    range(partN / strip).map(
      (s) => `${range(perStrip)
        .map(
          (j) =>
            `subgroupMatrixStore<row_major>(&sums, subgroup * ${edge * strip}u + ${j * edge}u, c${i}_${s * perStrip + j}, ${strip}u);`,
        )
        .join('\n  ')}
  workgroupBarrier();
  for (var e = lane; e < ${edge * strip}u; e += ${lanes}u) {
    let m = row0 + row + ${i * edge}u + e / ${strip}u;
    let n = column0 + column + ${s * strip}u + e % ${strip}u;
    if (m < ${M}u && n < ${N}u) {
      let sum = sums[subgroup * ${edge * strip}u + e];
      ${factors ? 'let rowFactor = row_factors[m - row0];\n      let columnFactor = column_factors[n - column0];' : ''}
      ${store}
    }
  }
  workgroupBarrier();`,
    ),
  );
  const vector = `vec${perVector / 4}<u32>`;
  const prelude = `
var<workgroup> a_tile: array<${vector}, ${blockM * stride}>;
var<workgroup> b_tile: array<${vector}, ${blockN * stride}>;
var<workgroup> sums: array<i32, ${subgroupsM * subgroupsN * edge * strip}>;
${
  factors
    ? `var<workgroup> row_factors: array<f32, ${blockM}>;\nvar<workgroup> column_factors: array<f32, ${blockN}>;`
    : ''
}
`;
  const [rowsOf, columnsOf] = operands;
  const readFactors = factors
    ? `for (var i = thread; i < ${blockM}u; i += ${threads}u) {
    let row = ${rowsOf.first} + min(row0 + i, ${rowsOf.last}u);
    row_factors[i] = ${factors.row};
  }
  for (var i = thread; i < ${blockN}u; i += ${threads}u) {
    let column = ${columnsOf.first} + min(column0 + i, ${columnsOf.last}u);
    column_factors[i] = ${factors.column};
  }`
    : '';
  const body = `
  let tiles = item % ${rows * columns}u;
  let batch = item / ${rows * columns}u;
  ${tilePlace(rows, columns, group)}
  let row0 = tile_row * ${blockM}u;
  let column0 = tile_column * ${blockN}u;
  let row = (subgroup / ${subgroupsN}u) * ${partM}u;
  let column = (subgroup % ${subgroupsN}u) * ${partN}u;
  ${tiles((i, j) => `var c${i}_${j}: subgroup_matrix_result<i32, ${edge}, ${edge}>;`)}
  ${each(({ name }, i) => `var ${name}_${i}: vec4<u32>;`)}
  var k0 = 0u;
  ${load}
  ${readFactors}
  for (var k = 0u; k < ${K}u; k += ${blockK}u) {
    ${keep}
    workgroupBarrier();
    k0 = k + ${blockK}u;
    if (k0 < ${K}u) { ${load} }
    ${range(blockK / depth)
      .map((i) => step(i * depth))
      .join('\n    ')}
    workgroupBarrier();
  }
  ${before}
  ${strips.join('\n  ')}`;
  return { prelude, body };
}
