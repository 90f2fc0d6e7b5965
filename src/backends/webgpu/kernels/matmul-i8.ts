// Matrix product of int8 operands on subgroup matrices: C [M, N] i32 = A [M, K] · B [N, K]ᵀ, exact.
//
// Thread map and pipeline as matmul-subgroup.ts; a step takes 32 numbers of K. Row and column scales are applied by the
// kernel that reads C: fragments are opaque, so a scale per element would need a detour through workgroup memory.
// Memory: workgroup, (blockM + blockN) · (blockK + 16) bytes. Features: subgroups, chromium-experimental-subgroup-matrix
// with a 16 × 16 × 32 i8 → i32 configuration, 32 lanes. Requires: M, N, K multiples of the tile.

import type { KernelSource } from '../kernel-source.ts';
import type { SubgroupTile } from './matmul-subgroup.ts';

const matrix = 16;
const depth = 32;
/** int8 in an element of workgroup memory. */
const perVector = 16;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Bindings: A, B (four codes a u32, lowest byte first), C. Throws where the sizes do not fit the tile. */
export function int8Matmul(M: number, N: number, K: number, tile: SubgroupTile): KernelSource {
  const { blockM, blockN, blockK, subgroupsM, subgroupsN } = tile;
  if (M % blockM || N % blockN || K % blockK) throw new Error(`matmul: ${M} × ${N} × ${K} is not cut by the tile`);
  const threads = subgroupsM * subgroupsN * 32;
  const [partM, partN] = [blockM / subgroupsM, blockN / subgroupsN];
  const stride = blockK / perVector + 1;
  const perLine = blockK / perVector;
  const operands = [
    { name: 'a', lines: blockM, origin: 'row0' },
    { name: 'b', lines: blockN, origin: 'column0' },
  ].map((o) => ({ ...o, chunks: range((o.lines * perLine) / threads) }));
  const line = (i: number) => `((local + ${i * threads}u) / ${perLine}u)`;
  const part = (i: number) => `((local + ${i * threads}u) % ${perLine}u)`;
  const each = (of: (o: (typeof operands)[number], i: number) => string) =>
    operands.flatMap((o) => o.chunks.map((i) => of(o, i))).join('\n    ');
  const load = each(
    ({ name, origin }, i) =>
      `${name}_${i} = ${name}[(${origin} + ${line(i)}) * ${K / perVector}u + k0 / ${perVector}u + ${part(i)}];`,
  );
  const tiles = (of: (i: number, j: number) => string) =>
    range(partM / matrix)
      .flatMap((i) => range(partN / matrix).map((j) => of(i, j)))
      .join('\n  ');
  const step = (k: number) => `{
    ${range(partM / matrix)
      .map(
        (i) =>
          `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<i8, ${depth}, ${matrix}>, row_major>(&a_tile, (row + ${i * matrix}u) * ${stride}u + ${k / perVector}u, ${stride}u);`,
      )
      .join('\n    ')}
    ${range(partN / matrix)
      .map(
        (
          j,
        ) => `{ let b = subgroupMatrixLoad<subgroup_matrix_right<i8, ${matrix}, ${depth}>, col_major>(&b_tile, (column + ${j * matrix}u) * ${stride}u + ${k / perVector}u, ${stride}u);
      ${range(partM / matrix)
        .map((i) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b, c${i}_${j});`)
        .join('\n      ')} }`,
      )
      .join('\n    ')}
  }`;
  const code = `enable subgroups; enable chromium_experimental_subgroup_matrix;
@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> c: array<i32>;
var<workgroup> a_tile: array<vec4<u32>, ${blockM * stride}>;
var<workgroup> b_tile: array<vec4<u32>, ${blockN * stride}>;
@compute @workgroup_size(${threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32) {
  let row0 = workgroup.y * ${blockM}u;
  let column0 = workgroup.x * ${blockN}u;
  let row = (subgroup / ${subgroupsN}u) * ${partM}u;
  let column = (subgroup % ${subgroupsN}u) * ${partN}u;
  ${tiles((i, j) => `var c${i}_${j}: subgroup_matrix_result<i32, ${matrix}, ${matrix}>;`)}
  ${each(({ name }, i) => `var ${name}_${i}: vec4<u32>;`)}
  var k0 = 0u;
  ${load}
  for (var k = 0u; k < ${K}u; k += ${blockK}u) {
    ${each(({ name }, i) => `${name}_tile[${line(i)} * ${stride}u + ${part(i)}] = ${name}_${i};`)}
    workgroupBarrier();
    k0 = k + ${blockK}u;
    if (k0 < ${K}u) { ${load} }
    ${range(blockK / depth)
      .map((i) => step(i * depth))
      .join('\n    ')}
    workgroupBarrier();
  }
  ${tiles((i, j) => `subgroupMatrixStore<row_major>(&c, (row0 + row + ${i * matrix}u) * ${N}u + column0 + column + ${j * matrix}u, c${i}_${j}, ${N}u);`)}
}
`;
  return { code, workgroups: [N / blockN, M / blockM, 1] };
}
