// Rounding on the device gives the bytes of the reference codec: codes, scales, zero points and the tensor scale.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { uniformSource } from '../../formats/random.ts';
import { parseFormat } from '../../formats/registry.ts';
import { questFactor } from '../../formats/scale-rules.ts';
import { dequantize, quantize, quantizeWithBits } from '../../graph/ops/quantize.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { differences, gaussian, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

/** Blocks of very different sizes, zeros, ties of every format, and values of one sign. */
function values(rows: number, cols: number): Float32Array {
  const x = gaussian(5, [rows, cols]);
  const random = uniformSource(9, 1);
  return x.map((v, i) => {
    const block = Math.floor(i / 16);
    const kind = block % 7;
    if (kind === 1) return Math.round(v * 4) / 4;
    if (kind === 2) return Math.abs(v) * 2 ** -11;
    if (kind === 3) return i % 3 === 0 ? -0 : 0;
    if (kind === 4) return -Math.abs(v) * 300;
    if (kind === 5) return v * 2 ** (40 * (random.at(block) - 0.5));
    return v;
  });
}

const rounding = (format: string, rows: number, cols: number): OpCase => ({
  name: format,
  tolerance: 'exact',
  build(g) {
    const q = quantize(g.input('x', f32([rows, cols])), parseFormat(format), { seed: 7, stream: -3 });
    g.output('y', dequantize(q));
  },
  runs: [{ x: values(rows, cols) }],
});

/** Rounding with the bits of what is not clipped, drawn anew in each of three steps. */
const marking = (format: string, rows: number, cols: number): OpCase => ({
  name: format,
  tolerance: 'exact',
  build(g) {
    const key = { seed: 7, stream: -3, step: g.input('step', i32([1])) };
    const { packed, bits } = quantizeWithBits(g.input('x', f32([rows, cols])), parseFormat(format), 1.5, key);
    g.output('y', dequantize(packed));
    g.output('bits', bits);
  },
  runs: [0, 3, -1].map((step) => ({ x: values(rows, cols), step: Int32Array.of(step) })),
});

/** Blocks of 32 whose scale by the deviation lies on a bound between two powers of two, or within a few units of it. */
function onScaleBounds(): Float32Array {
  const bound = (k: number) => (2 ** (k - 40) * (k % 2 === 0 ? 1 : Math.SQRT2)) / questFactor;
  return Float32Array.from({ length: 80 * 7 * 32 }, (_, i) => {
    const [block, at] = [i >> 5, i & 31];
    const off = (block % 7) - 3;
    const deviation = Math.fround(bound(Math.floor(block / 7))) * (1 + off * 2 ** -23);
    const mean = [0, 3, 1000][block % 3] * deviation;
    return mean + (at % 2 === 0 ? 1 : -1) * deviation * (block % 5 === 0 ? [0.6, 0.8, 1, Math.sqrt(2)][at >> 3] : 1);
  });
}

/** FP4 blocks of 64 under f32 scales: levels and middles times the step, and their neighbours in float32, of both signs. */
function aroundThresholds(): Float32Array {
  const points = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6];
  const random = uniformSource(2, 2);
  const bits = new Int32Array(1);
  return Float32Array.from({ length: 64 * 64 }, (_, i) => {
    const [block, at] = [i >> 6, i & 63];
    const amax = Math.fround((1 + random.at(block)) * 2 ** (block % 9));
    const step = Math.fround(amax / 6);
    if (at >= 45) return at === 45 ? amax : gaussian(i, [1], step)[0];
    bits[0] = new Int32Array(Float32Array.of(step * points[Math.floor(at / 3)]).buffer)[0] + (at % 3) - 1;
    const x = new Float32Array(bits.buffer)[0];
    return Number.isNaN(x) || Math.abs(x) > amax ? 0 : block % 2 === 0 ? x : -x;
  });
}

const cases: [format: string, rows: number, cols: number][] = [
  ['f16', 3, 7],
  ['bf16', 3, 7],
  ['q4_0', 3, 96],
  ['q8_0', 3, 96],
  ['hif4', 3, 192],
  ['mxfp4', 5, 96],
  ['mxfp4-sr', 5, 96],
  ['mxfp4-even', 5, 96],
  ['mxfp4-ceil', 5, 96],
  ['mxfp4-rceil', 5, 96],
  ['mxfp4-te', 5, 96],
  ['mxfp4-nearest', 37, 96],
  ['mxfp8-e4m3-deepseek', 37, 96],
  ['mxfp6-e2m3', 5, 96],
  ['mxfp6-e3m2-sr', 5, 96],
  ['mxfp8-e4m3', 5, 96],
  ['mxfp8-e5m2', 5, 96],
  ['mxint8', 5, 96],
  ['nvfp4', 5, 96],
  ['nvfp4-sr', 37, 96],
  ['nvfp4-46', 37, 96],
  ['nvfp4-46-mae', 37, 96],
  ['nvfp4-46-absmax-sr', 37, 96],
  ['nvfp4-46-sr', 5, 96],
  ['nvfp4-mseden', 37, 96],
  ['int4-g32', 5, 96],
  ['int4-g32-asym', 5, 96],
  ['int4-g64-asym-f16s', 5, 128],
  ['int3-g32-asymf', 5, 96],
  ['int2-g16-asymf', 5, 96],
  ['int8-g128', 5, 256],
  ['int4-channel', 3, 21],
  ['int8-token', 9, 67],
  ['int8-token', 9, 1360],
  ['int8-token-sr', 3, 68],
  ['int6-channel', 3, 48],
  ['int4-channel-asymf', 3, 2056],
  ['fp8-e4m3-token', 5, 64],
  ['int8-channel-asym', 9, 64],
  ['int5-channel', 3, 37],
  ['int4-g32-signed', 3, 64],
  ['int4-g32-half', 3, 64],
  ['mxfp4-quest', 37, 96],
  ['mxfp4-quest-tozero', 5, 96],
  ['mxfp4-questnearest', 37, 96],
  ['fp4-e2m1-g32-quest', 5, 96],
  ['fp4-e2m1-g64-quest', 3, 128],
  ['fp4-e2m1-token-quest', 3, 72],
  ['fp4-e2m1-tile3x5-quest', 7, 13],
  ['fp4-e2m1-tensor-quest', 3, 17],
  ['fp8-e4m3-tensor', 9, 33],
  ['fp8-e5m2-channel', 9, 33],
  ['fp8-e4m3-tile2x3', 7, 10],
  ['fp8-e4m3-tile1x128', 3, 200],
  ['fp8-e4m3-tile128x128', 37, 96],
  ['fp8-e4m3-tile128x128', 130, 160],
  ['int8-channel-asym', 1, 12],
  ['int8-channel-f16s', 1, 12],
  ['int8-tensor', 7, 10],
];

describe.skipIf(!backend)(`rounding on webgpu${missing ? ` (${missing})` : ''}`, () => {
  const gpu = backend as WebgpuBackend;
  afterAll(() => gpu.dispose());

  it.each(cases)('%s, [%i, %i]', async (format, rows, cols) => {
    const opCase = rounding(format, rows, cols);
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });

  it.each<[format: string, rows: number, cols: number]>([
    ['mxfp4-sr', 37, 96],
    ['nvfp4-sr', 5, 96],
    ['mxint8', 5, 96],
    ['mxfp6-e3m2-sr', 5, 96],
    ['int8-token-sr', 3, 160],
    ['fp8-e4m3-tile2x3', 7, 64],
    ['fp8-e4m3-tile1x128', 3, 160],
    ['int4-g32-signed', 3, 64],
    ['int5-channel-sr', 3, 32],
    ['nvfp4-mseden', 37, 96],
  ])('%s, [%i, %i], with bits and steps', async (format, rows, cols) => {
    const opCase = marking(format, rows, cols);
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });

  it.each(['', '-tozero', '-away', '-up', '-trunc', '-sr'])('fp4-e2m1-g64%s next to every threshold', async (rule) => {
    const opCase = { ...rounding(`fp4-e2m1-g64${rule}`, 64, 64), runs: [{ x: aroundThresholds() }] };
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });

  it.each(['mxfp4-quest', 'mxfp4-questnearest'])('%s decides as float64 does', async (format) => {
    const opCase = { ...rounding(format, 560, 32), runs: [{ x: onScaleBounds() }] };
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });

  it.each([-60, 0, 60])('nvfp4-mseden decides as float64 does, values of 2^%i', async (power) => {
    // Squares of the smallest and largest leave the range of f32 sums.
    const x = gaussian(3, [64, 256], 2 ** power);
    const opCase = { ...rounding('nvfp4-mseden', 64, 256), runs: [{ x }] };
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });

  it.each(['mxfp4', 'int8-token', 'q8_0', 'hif4', 'nvfp4'])('%s reports what is not finite', async (format) => {
    for (const bad of [Number.NaN, -Infinity]) {
      const opCase = rounding(format, 3, 64);
      opCase.runs[0].x[77] = bad;
      await expect(runOpCase(gpu, opCase)).rejects.toThrow('quantize: x holds a NaN or an infinity');
    }
  });

  it.each(['nf4-g64', 'mxfp4-mse', 'q4_k', 'nvfp4-modelopt'])('says that it cannot round to %s', async (format) => {
    const graph = trace(rounding(format, 1, 256).build);
    await expect(gpu.compile(graph, { params: new Map() })).rejects.toThrow(
      `the webgpu backend has no kernel for rounding to ${format}`,
    );
  });
});
