import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate, largestDifference, real, whole } from '../../../test/support/evaluate.ts';
import { dequantize as decode, quantize as encode } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { qtensor } from '../../tensor/tensor.ts';
import { gaussian } from '../op-case.ts';
import { createReferenceBackend } from './reference-backend.ts';

type Matrix = number[][];
const rowsOf = (data: ArrayLike<number>, rows: number, cols: number): Matrix =>
  Array.from({ length: rows }, (_, r) => Array.from({ length: cols }, (_, c) => data[r * cols + c]));
const flip = (m: Matrix): Matrix => m[0].map((_, c) => m.map((row) => row[c]));
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => flip(b).map((column) => row.reduce((sum, x, k) => sum + x * column[k], 0)));

const size = fc.integer({ min: 1, max: 7 });

describe('matmul', () => {
  it('agrees with products of rows and columns for every transposition and batching', async () => {
    const options = fc.record({ transposeA: fc.boolean(), transposeB: fc.boolean(), batchedB: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(size, size, size, size, options, fc.nat(1000), async (batch, M, N, K, o, seed) => {
        const aShape = [batch, ...(o.transposeA ? [K, M] : [M, K])];
        const bMatrix = o.transposeB ? [N, K] : [K, N];
        const bShape = o.batchedB ? [batch, ...bMatrix] : bMatrix;
        const [a, b] = [gaussian(seed, aShape), gaussian(seed + 1, bShape)];
        const expected = Array.from({ length: batch }, (_, i) => {
          const left = rowsOf(a.subarray(i * M * K), aShape[1], aShape[2]);
          const right = rowsOf(b.subarray(o.batchedB ? i * K * N : 0), bMatrix[0], bMatrix[1]);
          return product(o.transposeA ? flip(left) : left, o.transposeB ? flip(right) : right);
        });
        const found = await evaluate((x, y) => matmul(x, y, o), real(aShape, a), real(bShape, b));
        expect(largestDifference(found, expected.flat(2))).toBeLessThan(1e-12);
      }),
      { numRuns: 80 },
    );
  });
});

const formats = ['mxfp4', 'nvfp4', 'int4-g32-asym', 'int8-channel', 'q4_0', 'bf16'];
const weightData = gaussian(7, [6, 64]);
const weightOf = (format: string) => encode(weightData, 6, 64, parseFormat(format));

/** Runs ops on a packed parameter w of the given shape. */
async function withWeight(
  format: string,
  shape: number[],
  build: Parameters<typeof trace>[0],
  inputs: Record<string, Float32Array | Int32Array>,
) {
  const backend = createReferenceBackend({ precision: 'f64' });
  const w = await backend.upload(qtensor(shape, weightOf(format)));
  const run = await backend.compile(trace(build), { params: new Map([['w', w]]) });
  for (const [name, data] of Object.entries(inputs)) run.write(name, data);
  run.run();
  return [...(await run.read('y')).data];
}

describe.each(formats)('packed weight %s', (format) => {
  const dense = rowsOf(decode(weightOf(format)), 6, 64);
  const x = gaussian(8, [3, 64]);

  it('multiplies with its dequantized values', async () => {
    const found = await withWeight(
      format,
      [6, 64],
      (g) =>
        void g.output(
          'y',
          matmul(g.input('x', f32([3, 64])), g.param('w', packed([6, 64], parseFormat(format))), { transposeB: true }),
        ),
      { x },
    );
    expect(largestDifference(found, product(rowsOf(x, 3, 64), flip(dense)).flat())).toBeLessThan(1e-12);
  });

  it('multiplies with packed activations as with their dequantized values', async () => {
    const activation = parseFormat('mxfp8-e4m3');
    const found = await withWeight(
      format,
      [6, 64],
      (g) => {
        const a = quantize(g.input('x', f32([3, 64])), activation);
        g.output('y', matmul(a, g.param('w', packed([6, 64], parseFormat(format))), { transposeB: true }));
      },
      { x },
    );
    const rounded = rowsOf(decode(encode(x, 3, 64, activation)), 3, 64);
    expect(largestDifference(found, product(rounded, flip(dense)).flat())).toBeLessThan(1e-12);
  });

  it('serves as an embedding table', async () => {
    const found = await withWeight(
      format,
      [6, 64],
      (g) =>
        void g.output('y', embedding(g.param('w', packed([6, 64], parseFormat(format))), g.input('ids', i32([2, 2])))),
      { ids: Int32Array.of(5, 0, 3, 3) },
    );
    expect(found).toEqual([dense[5], dense[0], dense[3], dense[3]].flat());
  });

  it('serves as a stack of experts', async () => {
    const chosen = [2, 0, 1, 1, 0, 2];
    const found = await withWeight(
      format,
      [3, 2, 64],
      (g) =>
        void g.output(
          'y',
          expertMatmul(
            g.input('x', f32([3, 64])),
            g.param('w', packed([3, 2, 64], parseFormat(format))),
            g.input('e', i32([3, 2])),
          ),
        ),
      { x, e: Int32Array.from(chosen) },
    );
    const expected = chosen.flatMap((e, i) => {
      const row = rowsOf(x, 3, 64)[Math.floor(i / 2)];
      return [0, 1].map((m) => row.reduce((sum, v, k) => sum + v * dense[e * 2 + m][k], 0));
    });
    expect(largestDifference(found, expected)).toBeLessThan(1e-12);
  });
});

describe('expertMatmul', () => {
  it('takes an input for each slot when x is 3-D', async () => {
    // Expert e multiplies by e + 1.
    const found = await evaluate(
      expertMatmul,
      real([2, 2, 1], [1, 2, 3, 4]),
      real([3, 1, 1], [1, 2, 3]),
      whole([2, 2], [0, 1, 2, 0]),
    );
    expect(found).toEqual([1, 4, 9, 4]);
  });

  it('refuses an expert that does not exist', async () => {
    const run = evaluate(expertMatmul, real([1, 1], [1]), real([3, 1, 1], [1, 2, 3]), whole([1, 2], [0, 3]));
    await expect(run).rejects.toThrow(
      'expertMatmul: expert index at position 1 is out of range, got 3, expected 0 … 2',
    );
  });
});

describe('embedding', () => {
  it('refuses an id outside the table', async () => {
    const run = evaluate(embedding, real([3, 2], [1, 2, 3, 4, 5, 6]), whole([2], [1, -1]));
    await expect(run).rejects.toThrow(
      'embedding: id at position 1 is out of range, got -1, expected 0 … 2 (tensor embedding#0); check the data',
    );
  });
});

describe('quantize', () => {
  it('is the reference codec', async () => {
    const x = gaussian(3, [2, 3, 64]);
    for (const name of ['mxfp4', 'nvfp4', 'int4-g32', 'int8-token', 'hif4', 'q8_0']) {
      const found = await evaluate((v) => dequantize(quantize(v, parseFormat(name))), real([2, 3, 64], x));
      expect(found, name).toEqual([...decode(encode(x, 6, 64, parseFormat(name)))]);
    }
  });

  it('rounds stochastically: unbiased, the same for one key, different for another', async () => {
    // Blocks whose amax 6 fixes the scale at 1; 0.7 lies between the codes 0.5 and 1 of E2M1.
    const x = Float32Array.from({ length: 32 * 200 }, (_, i) => (i % 32 === 0 ? 6 : 0.7));
    const format = parseFormat('mxfp4-sr');
    const round = (seed: number, stream: number) =>
      evaluate((v) => dequantize(quantize(v, format, { seed, stream })), real([200, 32], x));
    const first = await round(1, 2);
    expect(new Set(first)).toEqual(new Set([6, 0.5, 1]));
    const mean = first.filter((v) => v < 6).reduce((a, b) => a + b, 0) / (31 * 200);
    // Standard error of the mean: 0.5·√(0.4·0.6/6200) = 0.0031.
    expect(Math.abs(mean - 0.7)).toBeLessThan(4 * 0.0031);
    expect(await round(1, 2)).toEqual(first);
    expect(await round(2, 2)).not.toEqual(first);
    expect(await round(1, 3)).not.toEqual(first);
  });
});
