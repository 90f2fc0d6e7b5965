import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { elementCodec } from '../../formats/element.ts';
import type { Quantized, QuantSpec } from '../../formats/format.ts';
import { scaleLayout } from '../../formats/layout.ts';
import { unpackRows } from '../../formats/packing.ts';
import { quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { decodeScale, readScale } from '../../formats/scale-format.ts';
import { type IntegerPlan, integerCodes, integerPlan } from '../integer-plan.ts';
import { gaussian } from '../op-case.ts';
import type { Command } from './encoder.ts';
import { packedOperand, prepareProduct } from './matmul-testing.ts';
import { createPool, type Pool } from './pool.ts';

let pools: Pool[];
beforeAll(async () => {
  pools = [await createPool('engine', { threads: 1 }), await createPool('engine', { threads: 2 })];
});
afterAll(() => pools.forEach((pool) => void pool.dispose()));

const f = Math.fround;

/** Integers and scales of an operand, read from its bytes. */
function read(q: Quantized) {
  const spec = q.format as QuantSpec;
  const { values, bits } = elementCodec(spec);
  const { unit } = integerCodes(spec)!;
  const codes = unpackRows(q.codes, q.cols, bits, 0, q.rows);
  const { tileRows, tileCols, scaleCols } = scaleLayout(spec.granularity, q.rows, q.cols);
  const at = (row: number, k: number) => Math.floor(row / tileRows) * scaleCols + Math.floor(k / tileCols);
  return {
    integer: (row: number, k: number) =>
      values[codes[row * q.cols + k]!]! / unit - (q.zeroPoints ? q.zeroPoints[at(row, k)]! : 0),
    scale: (row: number, k: number) =>
      decodeScale(spec.scale.format, readScale(spec.scale.format, q.scales, at(row, k))),
    unit,
  };
}

/** The formula and the order of operations that matmul-int.ts states, one element at a time. */
function statedProduct(a: Quantized, b: Quantized, plan: IntegerPlan): Float32Array {
  const [left, right] = [read(a), read(b)];
  const out = new Float32Array(a.rows * b.rows);
  for (let m = 0; m < a.rows; m++) {
    for (let n = 0; n < b.rows; n++) {
      let result = 0;
      let run = 0;
      for (let k = 0, i = 1; k < a.cols; k += plan.block, i++) {
        let sum = 0;
        for (let j = k; j < Math.min(k + plan.block, a.cols); j++) sum += left.integer(m, j) * right.integer(n, j);
        const scaleA = f((plan.a.perRow ? 1 : left.scale(m, k)) * left.unit);
        const scaleB = f((plan.b.perRow ? 1 : right.scale(n, k)) * right.unit);
        run = f(run + f(f(f(sum) * scaleB) * scaleA));
        if (i % plan.fold === 0) {
          result = f(result + run);
          run = 0;
        }
      }
      const rowB = plan.b.perRow ? right.scale(n, 0) : 1;
      const rowA = plan.a.perRow ? left.scale(m, 0) : 1;
      out[m * b.rows + n] = f(f(f(result * rowB) * rowA) * f(a.tensorScale * b.tensorScale));
    }
  }
  return out;
}

/** The kernels' result, equal on one and two threads. */
function compute(
  a: Quantized,
  b: Quantized,
  edit?: (commands: readonly Command[]) => readonly Command[],
): Float32Array {
  const results = pools.map((pool) => {
    const [x, w] = [packedOperand(pool, [a.rows, a.cols], a), packedOperand(pool, [b.rows, b.cols], b)];
    const product = prepareProduct(pool, x, w, [a.rows, b.rows], undefined, edit);
    product.run();
    return product.read();
  });
  expect(results[1]).toEqual(results[0]);
  return results[0]!;
}

const planOf = (a: Quantized, b: Quantized) => integerPlan(a.format, a.rows, b.format, b.rows, a.cols)!;

/** Forces the two-step product of 8-bit integers, which a host without an exact 8-bit dot product takes. */
const portable = (commands: readonly Command[]) =>
  commands.map(({ kernel, args }) => ({ kernel, args: args.map((word, i) => (i === 9 && word === -1 ? -2 : word)) }));

const withWord19 = (of: (limit: number) => number) => (commands: readonly Command[]) =>
  commands.map(({ kernel, args }) => ({ kernel, args: args.map((w, i) => (i === 19 ? of(w as number) : w)) }));
/** Forces sums of 32 bits, which a host with an exact 8-bit dot product takes. */
const wide = withWord19(() => 0);
/** Forces sums of 16 bits where the plan allows them, which a host without one takes. */
const narrow = withWord19((limit) => (limit > 0 ? ~limit : 0));

/** Blocks of 32 with sizes up to 2^±spread apart, so that some runs fold and some do not. */
function uneven(seed: number, rows: number, cols: number, spread: number): Float32Array {
  const sizes = gaussian(seed + 100, [rows, cols]);
  return gaussian(seed, [rows, cols]).map((v, i) => v * 2 ** Math.round(sizes[i - (i % 32)]! * spread));
}

describe('the stated formula, bit for bit', () => {
  const formats = ['int8-token', 'int8-g32', 'int4-g32', 'int4-g32-asym', 'int4-g128', 'mxfp4', 'nvfp4', 'mxint8'];
  const shapes = [
    [7, 11, 384],
    [1, 1, 256],
    [12, 16, 128],
    [13, 9, 192],
  ] as const;
  it.each(formats)('%s × every format', (name) => {
    for (const [i, [M, N, K]] of shapes.entries()) {
      for (const other of formats) {
        if ((K % 128 !== 0 && (name + other).includes('g128')) || (i > 0 && !other.startsWith('mx'))) continue;
        for (const spread of [0, 0.7, 4]) {
          const a = quantize(uneven(1, M, K, spread), M, K, parseFormat(name));
          const b = quantize(uneven(2, N, K, spread), N, K, parseFormat(other));
          const expected = statedProduct(a, b, planOf(a, b));
          expect(compute(a, b), `${name} × ${other}, ${M}×${N}×${K}, spread ${spread}`).toEqual(expected);
          if (other.startsWith('int8') || other === 'mxint8') expect(compute(a, b, portable)).toEqual(expected);
          if (planOf(a, b).laneLimit === 0) continue;
          expect(compute(a, b, wide), `wide, ${N}×${K}, spread ${spread}`).toEqual(expected);
          expect(compute(a, b, narrow), `narrow, ${N}×${K}, spread ${spread}`).toEqual(expected);
        }
      }
    }
  });

  it('any depth, groups that end inside a vector', () => {
    for (let K = 1; K <= 67; K++) {
      const a = quantize(gaussian(K, [5, K]), 5, K, parseFormat('int8-token'));
      const b = quantize(gaussian(K + 1, [9, K]), 9, K, parseFormat('int4-channel'));
      expect(compute(a, b), `K ${K}`).toEqual(statedProduct(a, b, planOf(a, b)));
    }
    const a = quantize(gaussian(1, [5, 70]), 5, 70, parseFormat('int8-g10'));
    const b = quantize(gaussian(2, [9, 70]), 9, 70, parseFormat('int4-g5-asym'));
    expect(compute(a, b)).toEqual(statedProduct(a, b, planOf(a, b)));
  });
});

it('sums of 16 bits are planned for MXFP4 only', () => {
  const plan = (a: string, b: string, K: number) => integerPlan(parseFormat(a), 8, parseFormat(b), 8, K)?.laneLimit;
  // |w| ≤ 12 shifted by 2: 682 · 48 < 2^15
  expect(plan('mxfp4', 'mxfp4', 128)).toBe(682);
  expect(plan('mxfp4', 'mxfp4', 704)).toBe(682);
  expect(plan('mxfp4', 'mxfp4', 96)).toBe(0);
  for (const other of ['mxint8', 'mxfp6-e2m3', 'int4-g32', 'nvfp4']) expect(plan(other, 'mxfp4', 128)).toBe(0);
});

describe('extreme codes never saturate', () => {
  const K = 4096;
  const rows = 6;
  /** Rows filled with one code each: every largest magnitude against every other. */
  const filled = (name: string, codes: readonly number[]): Quantized => {
    const q = quantize(new Float32Array(rows * K).fill(1), rows, K, parseFormat(name));
    const rowBytes = q.codes.length / rows;
    for (let r = 0; r < rows; r++) q.codes.fill(codes[r % codes.length]!, r * rowBytes, (r + 1) * rowBytes);
    return q;
  };
  const extremes = [
    ['int8-token', [0x80, 0x7f, 0x81, 0xff, 0, 1]],
    ['int8-g32', [0x80, 0x7f, 0x81]],
    ['mxint8', [0x80, 0x7f]],
    ['int4-g32', [0x88, 0x77, 0x87]],
    ['mxfp4', [0x77, 0xff, 0x7f]],
    ['nvfp4', [0x77, 0xff, 0xf7]],
    ['mxfp6-e2m3', [0xff, 0x7d, 0xdf]],
  ] as const;
  /** Rows of 12 whose first, or whose last block has a scale up to 2^3 larger: runs that would fold past 16 bits. */
  it('MXFP4 whose blocks differ by every shift', () => {
    const operand = (shift: number, signs: number, first: boolean) => {
      const q = filled('mxfp4', [0x77, signs]);
      for (let i = 0; i < q.scales.length; i++) q.scales[i] = 127 + (i % 4 === (first ? 0 : 3) ? shift : 0);
      return q;
    };
    for (let i = 0; i < 4; i++)
      for (let j = 0; j < 4; j++)
        for (const signs of [0x77, 0xff, 0xf7])
          for (const first of [true, false]) {
            const [a, b] = [operand(i, 0x77, first), operand(j, signs, true)];
            const expected = statedProduct(a, b, planOf(a, b));
            expect(compute(a, b, narrow), `shifts ${i} and ${j}, ${signs}`).toEqual(expected);
            expect(compute(a, b, wide), `shifts ${i} and ${j}, ${signs}`).toEqual(expected);
          }
  });

  it.each(extremes)('%s', (name, codes) => {
    const a = filled(name, codes);
    for (const [other, otherCodes] of extremes) {
      const b = filled(other, otherCodes);
      const expected = statedProduct(a, b, planOf(a, b));
      expect(compute(a, b), `${name} × ${other}`).toEqual(expected);
      expect(compute(a, b, portable), `${name} × ${other}`).toEqual(expected);
      expect(compute(a, b, narrow), `${name} × ${other}`).toEqual(expected);
    }
  });
});
