import { describe, expect, it } from 'vitest';
import { knownFragments, tensorCoreTraits } from '../../../test/support/null-gpu.ts';

import { fragmentsOf, integerFragmentsOf, type SubgroupMatrix } from './fragments.ts';

const matrix = (componentType: string, resultComponentType: string, M: number, N = M, K = M): SubgroupMatrix => ({
  ...{ componentType, resultComponentType },
  ...{ M, N, K },
});
const adapter = (subgroupMatrices: SubgroupMatrix[], lanes: readonly [number, number] = [32, 32]) => ({
  ...tensorCoreTraits('exact'),
  subgroupMatrices,
  subgroupMinSize: lanes[0],
  subgroupMaxSize: lanes[1],
});

describe('matrices of an adapter', () => {
  it('are found as the adapters that we know list them', () => {
    for (const known of knownFragments) expect(fragmentsOf(tensorCoreTraits('exact', 49_152, known))).toEqual(known);
    // an H100's list
    const h100 = adapter([
      matrix('f16', 'f16', 16),
      matrix('f16', 'f32', 16, 8, 16),
      matrix('f16', 'f32', 16, 8, 8),
      matrix('f16', 'f32', 16),
      matrix('i8', 'i32', 16, 8, 32),
      matrix('i8', 'i32', 16, 16, 32),
      matrix('u8', 'u32', 16, 16, 32),
    ]);
    expect(fragmentsOf(h100)).toEqual({ edge: 16, lanes: 32 });
    expect(integerFragmentsOf(h100)).toEqual({ edge: 16, depth: 32, lanes: 32 });
    const lavapipe = adapter([matrix('f16', 'f16', 8), matrix('f16', 'f32', 8), matrix('i8', 'i32', 8)], [8, 8]);
    expect(fragmentsOf(lavapipe)).toEqual({ edge: 8, lanes: 8 });
    expect(integerFragmentsOf(lavapipe)).toEqual({ edge: 8, depth: 8, lanes: 8 });
  });

  it('are not used where kernels cannot rely on them', () => {
    const f32Sums = [matrix('f16', 'f32', 16)];
    expect(fragmentsOf(adapter(f32Sums, [16, 32]))).toBeUndefined();
    expect(fragmentsOf(adapter(f32Sums, [64, 64]))).toBeUndefined();
    expect(fragmentsOf(adapter(f32Sums, [8, 8]))).toBeUndefined();
    expect(fragmentsOf({ ...adapter(f32Sums), workgroupBytes: 16_384 })).toBeUndefined();
    expect(fragmentsOf({ ...adapter(f32Sums), features: new Set(['shader-f16', 'subgroups']) })).toBeUndefined();
    expect(fragmentsOf(adapter([matrix('f16', 'f16', 16), matrix('f16', 'f32', 8, 16, 16)]))).toBeUndefined();
    expect(integerFragmentsOf(adapter(f32Sums))).toBeUndefined();
  });
});
