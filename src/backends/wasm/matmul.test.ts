import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ggmlTypeNames } from '../../formats/ggml/types.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussian } from '../op-case.ts';
import { matmulIntKernel } from './kernel-ids.ts';
import { denseOperand, packedOperand, prepareProduct } from './matmul-testing.ts';
import { createPool, type Pool } from './pool.ts';

let pools: Pool[];
beforeAll(async () => {
  pools = [await createPool('engine', { threads: 1 }), await createPool('engine', { threads: 2 })];
});
afterAll(() => pools.forEach((pool) => void pool.dispose()));

/** The product on one thread and on two, which must be the same bits. */
function onAllPools(compute: (pool: Pool) => Float32Array): Float32Array {
  const [one, two] = pools.map(compute);
  expect(new Uint32Array(two!.buffer).join()).toBe(new Uint32Array(one!.buffer).join());
  return one!;
}

/** Largest |found − Σ a·b| relative to Σ |a·b|, the sums in float64. */
function worstError(
  found: Float32Array,
  [M, N, K]: readonly [number, number, number],
  a: (m: number, k: number) => number,
  b: (n: number, k: number) => number,
): number {
  let worst = 0;
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) {
      let sum = 0;
      let size = 0;
      for (let k = 0; k < K; k++) {
        const term = a(m, k) * b(n, k);
        sum += term;
        size += Math.abs(term);
      }
      const error = Math.abs(found[m * N + n]! - sum) / (size || 1);
      worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
    }
  }
  return worst;
}

describe('f32 products', () => {
  // Every K up to 67 with changing M and N, then depths around the panel of 512 and widths around the block of 256.
  const shapes: [number, number, number][] = Array.from({ length: 67 }, (_, i) => [
    1 + ((i * 5) % 14),
    1 + ((i * 7) % 19),
    i + 1,
  ]);
  shapes.push([7, 9, 511], [5, 17, 512], [13, 8, 513], [6, 263, 40], [31, 1, 1030], [1, 300, 700], [64, 64, 64]);
  const orders = [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ] as const;
  it.each(orders)('transposeA %s, transposeB %s', (transposeA, transposeB) => {
    for (const [M, N, K] of shapes) {
      const a = gaussian(1, [M, K]);
      const b = gaussian(2, [N, K]);
      const found = onAllPools((pool) => {
        const product = prepareProduct(
          pool,
          denseOperand(pool, transposeA ? [K, M] : [M, K], a),
          denseOperand(pool, transposeB ? [N, K] : [K, N], b),
          [M, N],
          { transposeA, transposeB },
        );
        product.run();
        return product.read();
      });
      const at = (m: number, k: number) => a[transposeA ? k * M + m : m * K + k]!;
      const bt = (n: number, k: number) => b[transposeB ? n * K + k : k * N + n]!;
      expect(worstError(found, [M, N, K], at, bt), `${M}×${N}×${K}`).toBeLessThan(1e-6);
    }
  });
});

describe('packed weights are decoded to the exact values of the reference', () => {
  const formats = [
    ...['f32', 'f16', 'bf16', 'hif4', 'nf4', 'if4', 'ternary', 'int8', 'int8-g32-asym', 'int2-g32', 'int3-g32'],
    ...['int4-g32', 'int4-g32-asym', 'int5-g32-asym', 'int6-g32', 'int7', 'mxfp4', 'mxfp6-e2m3', 'mxfp6-e3m2'],
    ...['mxfp8-e4m3', 'mxfp8-e5m2', 'mxint8', 'nvfp4', 'fp8-e4m3', 'fp8-e4m3-tile128x128', 'e4m3fnuz-channel'],
    ...ggmlTypeNames,
  ];
  it.each(formats)('%s', (name) => {
    // Rows of the identity pick single weights: every product but one is zero, so nothing is rounded.
    const [N, K] = [5, 768];
    const weight = quantize(gaussian(3, [N, K]), N, K, parseFormat(name));
    const expected = dequantize(weight);
    for (const rows of [Array.from({ length: K }, (_, k) => k), [0, 31, K - 1]]) {
      const identity = new Float32Array(rows.length * K);
      rows.forEach((k, m) => {
        identity[m * K + k] = 1;
      });
      const found = onAllPools((pool) => {
        const b = packedOperand(pool, [N, K], weight);
        const product = prepareProduct(pool, denseOperand(pool, [rows.length, K], identity), b, [rows.length, N]);
        product.run();
        return product.read();
      });
      const wrong = rows.flatMap((k, m) =>
        Array.from({ length: N }, (_, n) => n)
          .filter((n) => found[m * N + n] !== expected[n * K + k])
          .map((n) => `[${n}, ${k}]: ${found[m * N + n]} instead of ${expected[n * K + k]}`),
      );
      expect(wrong).toEqual([]);
    }
  });
});

describe('two packed operands', () => {
  const weights = [
    'int8',
    'int8-g64',
    'int4-g32',
    'int4-g32-asym',
    'int4-g128',
    'int3-g32',
    'mxfp4',
    'nvfp4',
    'mxint8',
  ];
  const activations = ['int8', 'int8-g32', 'int4-g32', 'int4-g32-asym', 'mxfp4', 'nvfp4', 'mxfp6-e2m3'];
  const floats = ['mxfp8-e4m3', 'bf16', 'q8_0', 'int8-g32-asym'];
  const shape = [13, 19, 384] as const;
  const [M, N, K] = shape;

  it.each([...activations, ...floats])('%s activations with every weight', (activation) => {
    const a = quantize(gaussian(4, [M, K]), M, K, parseFormat(activation));
    const da = dequantize(a);
    for (const name of [...weights, ...floats]) {
      const b = quantize(gaussian(5, [N, K]), N, K, parseFormat(name));
      const db = dequantize(b);
      let kernels: number[] = [];
      const found = onAllPools((pool) => {
        const product = prepareProduct(pool, packedOperand(pool, [M, K], a), packedOperand(pool, [N, K], b), [M, N]);
        kernels = product.commands.map((command) => command.kernel);
        product.run();
        return product.read();
      });
      const integers = !floats.includes(activation) && !floats.includes(name);
      expect(kernels.includes(matmulIntKernel), `${activation} × ${name}`).toBe(integers);
      const error = worstError(
        found,
        shape,
        (m, k) => da[m * K + k]!,
        (n, k) => db[n * K + k]!,
      );
      expect(error, `${activation} × ${name}`).toBeLessThan(1e-6);
    }
  });
});

describe('batches', () => {
  const [B, M, N, K] = [3, 5, 9, 64];
  const decodedAt = (values: Float32Array, rows: number) => (batch: number) => (row: number, k: number) =>
    values[(batch * rows + row) * K + k]!;
  const cases = [
    ['dense × dense', 'f32', 'f32', true],
    ['dense × mxfp4', 'f32', 'mxfp4', true],
    ['dense × one mxfp4', 'f32', 'mxfp4', false],
    ['int8 × mxfp4', 'int8-token', 'mxfp4', true],
    ['int8 × one int4', 'int8-token', 'int4-g32', false],
    ['fp8 × q8_0', 'mxfp8-e4m3', 'q8_0', true],
  ] as const;
  it.each(cases)('%s', (_, formatA, formatB, batchedB) => {
    const rowsB = batchedB ? B * N : N;
    const qa = quantize(gaussian(6, [B * M, K]), B * M, K, parseFormat(formatA));
    const qb = quantize(gaussian(7, [rowsB, K]), rowsB, K, parseFormat(formatB));
    const [da, db] = [dequantize(qa), dequantize(qb)];
    const found = onAllPools((pool) => {
      const shapeB = batchedB ? [B, N, K] : [N, K];
      const a = formatA === 'f32' ? denseOperand(pool, [B, M, K], da) : packedOperand(pool, [B, M, K], qa);
      const b = formatB === 'f32' ? denseOperand(pool, shapeB, db) : packedOperand(pool, shapeB, qb);
      const product = prepareProduct(pool, a, b, [B, M, N]);
      product.run();
      return product.read();
    });
    for (let batch = 0; batch < B; batch++) {
      const part = found.subarray(batch * M * N, (batch + 1) * M * N);
      const at = decodedAt(da, M)(batch);
      const bt = decodedAt(db, N)(batchedB ? batch : 0);
      expect(worstError(part, [M, N, K], at, bt)).toBeLessThan(1e-6);
    }
  });

  it('one b for all batches of a transposed a', () => {
    const a = gaussian(8, [B, K, M]);
    const b = gaussian(9, [N, K]);
    const found = onAllPools((pool) => {
      const operands = [denseOperand(pool, [B, K, M], a), denseOperand(pool, [N, K], b)] as const;
      const product = prepareProduct(pool, ...operands, [B, M, N], { transposeA: true, transposeB: true });
      product.run();
      return product.read();
    });
    for (let batch = 0; batch < B; batch++) {
      const part = found.subarray(batch * M * N, (batch + 1) * M * N);
      const at = (m: number, k: number) => a[(batch * K + k) * M + m]!;
      expect(worstError(part, [M, N, K], at, (n, k) => b[n * K + k]!)).toBeLessThan(1e-6);
    }
  });
});
