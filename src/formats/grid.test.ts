import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SubbyteError } from '../errors.ts';
import { f32Bits } from './bits.ts';
import type { Quantized } from './format.ts';
import { ggmlType, ggmlTypeNames } from './ggml/types.ts';
import { codesOf, type Grid, gridOf, refuseWithoutGrid, setScales, withCodes } from './grid.ts';
import { dequantize, quantize } from './quantize.ts';
import { listFormats, parseFormat } from './registry.ts';

const extra = [
  'int4-g32-signed',
  'int4-g32-signed-f32s',
  'int4-g64-half',
  'int2-g32',
  'int3-channel-asym',
  'int8-tensor-asym',
  'int5-g32-asymf-f32s',
  'int4-tile2x32',
  'fp6-e3m2-tile3x48',
  'fp8-e4m3-tile1x128',
  'fp8-e4m3ieee-channel',
  'fp8-e4m3fnuz-g32',
  'fp8-e3m4-g32',
  'fp8-e5m2fnuz-tensor',
  'fp4-e3m0-g32',
  'fp4-e1m2-g32',
  'mxfp4-fourthirds',
  'mxfp4-mse',
  'mxfp4-quest',
  'mxint8-mae',
  'nvfp4-ct',
  'nvfp4-modelopt',
  'nvfp4-torchao',
  'nvfp4-transformerengine',
  'nvfp4-fouroversix',
  'nvfp4-46-mae',
  'nvfp4-mse',
  'int8-g32-e6m2s',
];
const withoutGrid = ['f32', 'bf16', 'f16', 'if4', 'hif4'];
const names = [...listFormats().map((f) => f.name), ...extra].filter((n) => !withoutGrid.includes(n));

/** Heavy-tailed values; the first row zero, the second with a sign. */
function weights(rows: number, cols: number, seed: number): Float32Array {
  return Float32Array.from({ length: rows * cols }, (_, i) => {
    const r = Math.floor(i / cols);
    const v = Math.sin(i * 12.9898 + seed * 78.233) * 43758.5453;
    const u = v - Math.floor(v) - 0.5;
    return r === 0 ? 0 : r === 1 ? Math.abs(u) : (u * 0.02) / (1.05 - 2 * Math.abs(u)) + (r === 2 ? 0.05 : 0);
  });
}

const example = (name: string, seed = 1, rows = 5, cols = 256): Quantized =>
  quantize(weights(rows, cols, seed), rows, cols, parseFormat(name));

/** Distance in units in the last place of the larger of `a` and `unit`. */
function unitsApart(a: number, b: number, unit: number): number {
  const exponent = Math.max((f32Bits(Math.max(Math.abs(a), Math.abs(unit))) >>> 23) - 150, -149);
  return Math.abs(a - b) / 2 ** exponent;
}

function gridValue(grid: Grid, code: number, i: number): number {
  const at = Math.floor(i / grid.cols) * (grid.cols / grid.run) + Math.floor((i % grid.cols) / grid.run);
  return Math.fround(Math.fround(grid.values[code]! * grid.steps[at]!) + (grid.offsets?.[at] ?? 0));
}

/** Codes that can be chosen at random. */
function randomCodes(grid: Grid, seed: number): Uint8Array {
  return Uint8Array.from({ length: grid.rows * grid.cols }, (_, i) => {
    const v = Math.sin((i + 1) * 3.7 + seed) * 9973;
    return grid.order[Math.floor((v - Math.floor(v)) * grid.order.length)]!;
  });
}

describe('every format with a grid', () => {
  test.each(names)('%s: the same codes give the same bytes; others come back', (name) => {
    fc.assert(
      fc.property(fc.nat(1000), (seed) => {
        const q = example(name, seed);
        expect(withCodes(q, codesOf(q))).toEqual(q);
        const grid = gridOf(q);
        const codes = randomCodes(grid, seed);
        const other = withCodes(q, codes);
        expect(codesOf(other)).toEqual(codes);
        expect(withCodes(other, codesOf(q))).toEqual(q);
        expect(gridOf(other)).toEqual(grid);
      }),
      { numRuns: 2 },
    );
  });

  test.each(names)('%s: values · step + offset is what dequantize gives', (name) => {
    const q = example(name);
    const grid = gridOf(q);
    const format = q.format;
    const coarse = format.kind === 'quant' && format.zeroPoint === 'integer' && format.scale.format === 'f32';
    expect(q.cols % grid.run).toBe(0);
    for (const matrix of [q, withCodes(q, randomCodes(grid, 3))]) {
      const codes = codesOf(matrix);
      dequantize(matrix).forEach((y, i) => {
        const expected = gridValue(grid, codes[i]!, i);
        const unit = coarse ? grid.offsets![Math.floor(i / grid.run)]! : 0;
        const most = format.kind === 'ggml' ? 0 : 2;
        if (unitsApart(y, expected, unit) > most) throw new Error(`element ${i}: ${y} but the grid gives ${expected}`);
      });
    }
  });

  test.each(names)('%s: choosable codes ascend, are finite, contain zero once and what the encoder writes', (name) => {
    const q = example(name);
    const { order, values } = gridOf(q);
    const chosen = [...order].map((c) => values[c]!);
    expect(chosen.every(Number.isFinite)).toBe(true);
    for (let i = 1; i < chosen.length; i++) expect(chosen[i]).toBeGreaterThan(chosen[i - 1]!);
    if (!['q1_0', 'iq4_nl', 'iq4_xs'].includes(name)) expect(chosen.filter((v) => v === 0)).toHaveLength(1);
    expect(chosen.some((v) => Object.is(v, -0))).toBe(false);
    for (const code of codesOf(q)) expect(chosen).toContain(values[code]! + 0);
  });
});

test.each([
  ['int4-g128', 128, 128],
  ['int4-g128-asym', 128, 128],
  ['int8-channel', 256, 256],
  ['fp8-e4m3-tensor', 256, 256],
  ['int4-tile2x32', 32, 32],
  ['fp6-e3m2-tile3x48', 48, 16],
  ['mxfp4', 32, 32],
  ['nvfp4', 16, 16],
  ['q4_0', 32, 32],
  ['q4_k', 256, 32],
  ['q6_k', 256, 16],
  ['iq4_xs', 256, 32],
  ['ggml-nvfp4', 64, 16],
])('%s: span %d, run %d', (name, span, run) => {
  const grid = gridOf(example(name));
  expect([grid.span, grid.run]).toEqual([span, run]);
});

test('restricted integers never take the lowest code; other ranges do', () => {
  const lowest = (name: string) => gridOf(example(name)).values[gridOf(example(name)).order[0]!];
  expect(['int4-g32', 'int4-g32-half', 'int4-g32-signed', 'q8_0', 'q4_0', 'int4-g32-asym'].map(lowest)).toEqual([
    -7, -8, -8, -127, -8, 0,
  ]);
});

test('steps of tiles repeat over rows, and partial tiles at the edge have their own', () => {
  const x = Float32Array.from({ length: 3 * 40 }, (_, i) => 1 + Math.floor(i / 40) + 10 * Math.floor((i % 40) / 32));
  const { steps, run } = gridOf(quantize(x, 3, 40, parseFormat('fp8-e4m3-tile2x32')));
  expect(run).toBe(8);
  const expected = [2, 2, 2, 2, 12, 2, 2, 2, 2, 12, 3, 3, 3, 3, 13].map((v) => Math.fround(v / 448));
  expect([...steps]).toEqual(expected);
});

test('scales of some rows and columns can be replaced', () => {
  for (const name of ['int4-g32-asym', 'int4-g32-asymf', 'mxfp4', ...ggmlTypeNames]) {
    const format = parseFormat(name);
    const span = format.kind === 'ggml' ? ggmlType(format.type).block : 32;
    const q = quantize(weights(5, 3 * span, 1), 5, 3 * span, format);
    const part = quantize(weights(4, span, 9), 4, span, format);
    const old = gridOf(q);
    setScales(q, 2, span, part);
    const now = gridOf(q);
    const fitted = gridOf(part);
    const runs = old.cols / old.run;
    const width = span / old.run;
    for (const key of ['steps', 'offsets'] as const) {
      now[key]?.forEach((v, i) => {
        const row = Math.floor(i / runs);
        const inside = row >= 2 && Math.floor((i % runs) / width) === 1;
        expect(v).toBe(inside ? fitted[key]![(row - 2) * width + (i % width)] : old[key]![i]);
      });
    }
  }
});

test.each(withoutGrid)('%s is refused in a sentence', (name) => {
  const format = parseFormat(name);
  expect(() => refuseWithoutGrid(format, 'gptq', 'layers.0.up_proj')).toThrow(
    `gptq: codes can be chosen only where scales alone fix the values of a format, got ${name}`,
  );
  const q = quantize(new Float32Array(64), 1, 64, format);
  for (const use of [() => gridOf(q), () => codesOf(q), () => withCodes(q, new Uint8Array(64))])
    expect(use).toThrow(SubbyteError);
});

test('wrong lengths and codes that do not exist are refused', () => {
  const q = example('int3-g32');
  expect(() => withCodes(q, new Uint8Array(3))).toThrow('3 codes');
  expect(() => withCodes(q, new Uint8Array(5 * 256).fill(8))).toThrow('code 8 is not below 8');
  expect(() => refuseWithoutGrid(parseFormat('q4_k'), 'gptq', 'w')).not.toThrow();
});
