// The tensor-core kernels are valid WGSL. Dawn's null backend has every feature but runs nothing; results are compared
// with float64 in bench/webgpu-matmul.ts, on a GPU.

import { beforeAll, describe, expect, it } from 'vitest';
import { openNullDevice, wgslProblems } from '../../../../test/support/null-gpu.ts';
import type { SubgroupTile } from './matmul-subgroup.ts';
import { int8Matmul, type SubgroupMatmul, subgroupMatmul } from './matmul-subgroup-source.ts';

const tile: SubgroupTile = {
  blockM: 128,
  blockN: 128,
  blockK: 32,
  subgroupsM: 2,
  subgroupsN: 2,
  buffers: 1,
  group: 0,
  edge: 16,
  lanes: 32,
};
const sizes = { M: 256, N: 384, K: 512 };
const f16 = { storage: 'f16', contiguous: 'k' } as const;
const across = { storage: 'f16', contiguous: 'outer' } as const;
const mxfp4 = { storage: 'mxfp4', contiguous: 'k' } as const;
const int4 = { storage: 'int4-g128', contiguous: 'k' } as const;

let device: GPUDevice;
beforeAll(async () => {
  device = await openNullDevice();
});

const problems = (code: string) => wgslProblems(device, code);

describe('kernels for tensor cores are valid WGSL', () => {
  it.each<[string, Pick<SubgroupMatmul, 'a' | 'b'>, Partial<SubgroupTile>]>([
    ['f16 NT', { a: f16, b: f16 }, {}],
    ['f16 NN', { a: f16, b: across }, {}],
    ['f16 TN', { a: across, b: across }, {}],
    ['f16 NT, two buffers, in bands', { a: f16, b: f16 }, { buffers: 2, group: 2 }],
    ['mxfp4 weight', { a: f16, b: mxfp4 }, {}],
    ['int4 weight', { a: f16, b: int4 }, {}],
    ['both mxfp4', { a: mxfp4, b: mxfp4 }, {}],
    ['sizes that no tile cuts', { a: f16, b: across }, { blockM: 192, blockN: 256, blockK: 64 }],
  ])('%s', async (_, operands, changes) => {
    const { code } = subgroupMatmul({ ...sizes, ...operands, tile: { ...tile, ...changes } });
    expect(await problems(code)).toEqual([]);
    expect(await problems(code.replace('workgroupBarrier()', 'workgroupBarrier(1)'))).not.toEqual([]);
  });

  it('int8', async () => {
    expect(await problems(int8Matmul(256, 384, 512, { ...tile, blockK: 64, depth: 32 }).code)).toEqual([]);
  });

  it('refuses what cannot be cut into chunks', () => {
    expect(() => subgroupMatmul({ ...sizes, a: f16, b: { ...mxfp4, contiguous: 'outer' }, tile })).toThrow('along K');
    expect(() => subgroupMatmul({ ...sizes, a: mxfp4, b: mxfp4, tile: { ...tile, subgroupsN: 4 } })).toThrow('divide');
    expect(() => int8Matmul(256, 384, 500, { ...tile, blockK: 64, depth: 32 })).toThrow('rows of 500 codes');
  });
});
