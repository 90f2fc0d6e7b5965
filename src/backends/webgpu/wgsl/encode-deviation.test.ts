// Scales by the deviation of tiles at which it all but equals a bound between two scales, against the float64 reference.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../../test/support/software-gpu.ts';
import { dequantize as decode, quantize as encode } from '../../../formats/quantize.ts';
import { parseFormat } from '../../../formats/registry.ts';
import { questFactor } from '../../../formats/scale-rules.ts';
import { transpose } from '../../../graph/ops/layout.ts';
import { dequantize, quantize } from '../../../graph/ops/quantize.ts';
import { f32 } from '../../../graph/value-type.ts';
import { gaussian, type OpCase, runOpCase } from '../../op-case.ts';
import type { WebgpuBackend } from '../backend.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

const [tiles, size] = [640, 32];

/**
 * Tiles whose deviation is a bound between scales times 1 + d, d from 0 and 2^-24, where only a far more exact sum than one
 * in f32 decides, to 2^-16; with means of every size, and values of very different sizes.
 */
function tilesAt(bound: number): Float32Array {
  const x = gaussian(9, [tiles, size]);
  for (let t = 0; t < tiles; t++) {
    const tile = x.subarray(t * size, (t + 1) * size);
    const values = Float64Array.from(
      tile,
      (v, i) => (t % 3 === 1 ? v * 2 ** -(i % 24) : v) + (t % 4 === 2 ? t / 99 : 0),
    );
    const mean = values.reduce((sum, v) => sum + v) / size;
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / size);
    const off = [0, 2 ** -24, -(2 ** -24), 2 ** -22, -(2 ** -20), 2 ** -18, -(2 ** -16)][t % 7]!;
    const target = ((bound * 2 ** ((t % 11) - 5) - 1e-8) / questFactor) * (1 + off);
    tile.set(values.map((v) => (v * target) / deviation));
  }
  return x;
}

const turned = (x: Float32Array) => x.map((_, i) => x[(i % tiles) * size + Math.floor(i / tiles)]!);

describe.skipIf(missing)(`scales by the deviation on webgpu${missing ? ` (${missing})` : ''}`, () => {
  const gpu = backend as WebgpuBackend;
  afterAll(() => gpu.dispose());

  const bounds = [
    ['mxfp4-quest-tozero', 1],
    ['mxfp4-questnearest-tozero', Math.SQRT2],
  ] as const;
  const cases = bounds.flatMap(([name, bound]) => [false, true].map((fused) => [name, fused, bound] as const));
  it.each(cases)('%s, in a chain: %s', async (name, fused, bound) => {
    const format = parseFormat(name);
    const rows = tilesAt(bound);
    const opCase: OpCase = {
      name,
      tolerance: 'exact',
      build(g) {
        const x = g.input('x', f32(fused ? [size, tiles] : [tiles, size]));
        g.output('y', dequantize(quantize(fused ? transpose(x, [1, 0]) : x, format)));
      },
      runs: [{ x: fused ? turned(rows) : rows }],
    };
    const [outputs] = await runOpCase(gpu, opCase);
    expect(outputs!.get('y')!.data).toEqual(decode(encode(rows, tiles, size, format)));
  });
});
