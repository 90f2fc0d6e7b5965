// The product of few rows with a weight in four-bit groups by itself, as a text with its own bindings: for timing and for
// checking the WGSL.

import { partBytes } from '../../../formats/empty.ts';
import type { Format } from '../../../formats/format.ts';
import type { KernelSource } from '../kernel-source.ts';
import { rowsOfGroup, type VectorTile, vectorProduct } from './vector-product.ts';
import { fourBitWeight, type VectorWeight } from './vector-weight.ts';

export interface VectorMatmul {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly format: Format;
  readonly tile: VectorTile;
  /** How w is read, when not as its format says. */
  readonly weight?: VectorWeight;
}

/**
 * Bindings: a (f32), codes, scales (with the tensor scale behind them, where there is one), y. Throws where the format has
 * no four-bit groups along K.
 */
export function vectorMatmul({ M, N, K, format, tile, ...rest }: VectorMatmul): KernelSource {
  const arrays = { codes: 'codes', scales: 'scales', tensorScale: partBytes(format, N, K)[1] / 4 };
  const { weight = fourBitWeight(format, K, arrays) } = rest;
  const { prelude, body } = vectorProduct({
    ...{ M, K, weight, tile, subgroups: true, a: 'a', y: 'y' },
    N: `${N}u`,
    across: `${Math.ceil(N / rowsOfGroup(tile))}u`,
    rowOfA: (m) => m,
    matrix: '0u',
  });
  const code = `enable f16; enable subgroups;
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> scales: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
${prelude}
@compute @workgroup_size(${tile.threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) thread: u32) {
  let item = workgroup.x;
  ${body}
}
`;
  return { code, workgroups: [Math.ceil(N / rowsOfGroup(tile)), 1, 1] };
}
