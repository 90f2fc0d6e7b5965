// Products of few rows are valid WGSL where f16 and subgroups are real (Dawn's null backend), and their tiles fit. Results:
// emulated-vector.test.ts, packed.test.ts.

import { beforeAll, describe, expect, it } from 'vitest';
import { openNullDevice, wgslProblems } from '../../../../test/support/null-gpu.ts';
import { parseFormat } from '../../../formats/registry.ts';
import { mostRows, vectorTile } from './matmul-vector.ts';
import { vectorMatmul } from './matmul-vector-source.ts';
import type { VectorTile } from './vector-product.ts';
import { hasFourBitSteps } from './vector-weight.ts';

const tile: VectorTile = { rows: 4, threads: 128, lanes: 32, segment: 32 };

let device: GPUDevice;
beforeAll(async () => {
  device = await openNullDevice();
});

describe('products of few rows', () => {
  it.each<[format: string, M: number, Partial<VectorTile>]>([
    ['mxfp4', 1, {}],
    ['mxfp4', 8, { rows: 2, lanes: 16, segment: 16 }],
    ['nvfp4', 3, { segment: 64 }],
    ['nvfp4', 1, { rows: 8, threads: 256 }],
    ['int4-g32', 1, {}],
    ['int4-g128', 2, { rows: 1, threads: 32 }],
  ])('of %s, %i rows, %o are valid WGSL', async (format, M, changes) => {
    const sizes = { M, N: 67, K: 1280, format: parseFormat(format) };
    const { code, workgroups } = vectorMatmul({ ...sizes, tile: { ...tile, ...changes } });
    expect(await wgslProblems(device, code)).toEqual([]);
    expect(await wgslProblems(device, code.replace('workgroupBarrier()', 'workgroupBarrier(1)'))).not.toEqual([]);
    const { rows, threads, lanes } = { ...tile, ...changes };
    expect(workgroups).toEqual([Math.ceil(67 / ((rows * threads) / lanes)), 1, 1]);
  });

  it.each<[format: string, K: number, has: boolean]>([
    ['mxfp4', 96, true],
    ['mxfp4-fourthirds', 96, true],
    ['nvfp4', 96, true],
    ['int4-g128', 384, true],
    ['nvfp4', 48, false],
    ['int4-g48', 96, false],
    ['int4-g32-asym', 96, false],
    ['int4-channel', 96, false],
    ['int8-g32', 96, false],
    ['f16', 96, false],
    ['q4_0', 96, false],
  ])('%s in rows of %i is read in steps of 32: %s', (format, K, has) => {
    expect(hasFourBitSteps(parseFormat(format), K)).toBe(has);
    const text = () => vectorMatmul({ M: 1, N: 4, K, format: parseFormat(format), tile });
    if (has) expect(text).not.toThrow();
    else expect(text).toThrow(`no four-bit groups along rows of ${K}`);
  });

  it('have tiles that fit workgroup memory and divide among lanes', () => {
    for (const features of [new Set<string>(), new Set(['subgroups'])])
      for (let M = 1; M <= mostRows; M++)
        for (const unit of [8, 32] as const)
          for (const K of [8, 32, 96, 4096, 8224, 14336])
            for (const N of [1, 1031, 65536]) {
              const product = { M, N, K, batch: 1 };
              const { subgroups, ...found } = vectorTile(product, unit, {
                features,
                subgroupMinSize: 32,
                workgroupThreads: 1024,
              });
              const { rows, threads, lanes, segment } = found;
              const bytes = 4 * M * unit * segment + (subgroups ? 0 : 4 * threads * M * rows);
              const label = JSON.stringify({ ...product, unit, ...found });
              expect(bytes, label).toBeLessThanOrEqual(16_384);
              expect([segment % 8, segment % lanes, threads % lanes, 32 % lanes], label).toEqual([0, 0, 0, 0]);
              expect(segment, label).toBeGreaterThan(0);
              expect(subgroups).toBe(features.has('subgroups'));
            }
  });
});
