// Matrix-vector product with a packed MXFP4 weight: y [N] = W [N, K] · x [K], f32 sums.
//
// Bound by reading W. Thread map: a subgroup makes `rows` elements of y at a time, so that a part of x is read once for
// all of them; its lanes take successive blocks of 32 along K (one 16-byte load of codes, one scale), and subgroupAdd
// joins their sums. Memory: no workgroup memory. Features: shader-f16, subgroups.
// Bindings: codes, scales (E8M0, four a u32), x (f32), y.

import type { KernelSource } from '../kernel-source.ts';
import { fp4BitsSource } from './matmul-operand.ts';

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
${fp4BitsSource}
fn fp4_quad(codes: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<f16>>(vec2<u32>(
    fp4_bits(codes & 15u) | (fp4_bits((codes >> 4u) & 15u) << 16u),
    fp4_bits((codes >> 8u) & 15u) | (fp4_bits((codes >> 12u) & 15u) << 16u))));
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
    ${range(8)
      .map(
        (v) => `{ let part = x[block * 8u + ${v}u];
    ${range(rows)
      .map((r) => `part${r} += dot(fp4_quad(w${r}[${v >> 1}] >> ${16 * (v & 1)}u), part);`)
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
