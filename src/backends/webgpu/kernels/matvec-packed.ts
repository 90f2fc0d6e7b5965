// Matrix-vector product with a packed MXFP4 weight: y [N] = W [N, K] · x [K], f32 sums.
//
// Bound by reading W. Thread map: a subgroup makes `rows` elements of y at a time, so that a part of x is read once for
// all of them; its lanes take successive blocks of 32 along K (one 16-byte load of codes, one scale), and subgroupAdd
// joins their sums. Memory: no workgroup memory. Features: shader-f16, subgroups.
// Bindings: codes, scales (E8M0, four a u32), x (f32), y.

import type { KernelSource } from '../kernel-source.ts';
import { fp4Source } from './operand-storage.ts';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

export interface MatvecShape {
  readonly N: number;
  readonly K: number;
  /** Rows that a subgroup makes at a time. */
  readonly rows: number;
  readonly subgroups: number;
}

/** Throws where K is no multiple of 128 or N none of the rows of a workgroup. */
export function mxfp4Matvec({ N, K, rows, subgroups }: MatvecShape): KernelSource {
  const perWorkgroup = rows * subgroups;
  if (K % 128 || N % perWorkgroup) throw new Error(`matvec: ${N} × ${K} is not cut by ${perWorkgroup} rows`);
  const code = `enable f16; enable subgroups;
@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
${fp4Source}fn products(codes: u32, low: vec4<f32>, high: vec4<f32>) -> f32 {
  let pairs = fp4_eight(codes, 0.25h);
  let first = vec4<f32>(bitcast<vec4<f16>>(pairs.xy));
  let second = vec4<f32>(bitcast<vec4<f16>>(pairs.zw));
  return dot(first, vec4<f32>(low.x, high.x, low.y, high.y)) + dot(second, vec4<f32>(low.z, high.z, low.w, high.w));
}
@compute @workgroup_size(${32 * subgroups}) fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32) {
  let row0 = (workgroup.x * ${subgroups}u + subgroup) * ${rows}u;
  ${range(rows)
    .map((r) => `var sum${r} = 0.0;`)
    .join(' ')}
  for (var block = lane; block < ${K / 32}u; block += 32u) {
    ${range(rows)
      .map(
        (r) => `let at${r} = (row0 + ${r}u) * ${K / 32}u + block; let w${r} = codes[at${r}]; var part${r} = 0.0;
    let scale${r} = bitcast<f32>(((scales[at${r} / 4u] >> (8u * (at${r} % 4u))) & 0xffu) << 23u);`,
      )
      .join('\n    ')}
    ${range(4)
      .map(
        (v) => `{ let low = x[block * 8u + ${2 * v}u]; let high = x[block * 8u + ${2 * v + 1}u];
    ${range(rows)
      .map((r) => `part${r} += products(w${r}[${v}], low, high);`)
      .join('\n    ')} }`,
      )
      .join('\n    ')}
    ${range(rows)
      .map((r) => `sum${r} += part${r} * scale${r};`)
      .join(' ')}
  }
  ${range(rows)
    .map((r) => `let total${r} = subgroupAdd(sum${r});`)
    .join(' ')}
  if (lane == 0u) { ${range(rows)
    .map((r) => `y[row0 + ${r}u] = total${r};`)
    .join(' ')} }
}
`;
  return { code, workgroups: [N / perWorkgroup, 1, 1] };
}
