// Published facts: errors of formats on Gaussian data, and a worked example of the Quartet quantizers (arXiv 2505.14669).
import { expect, test } from 'vitest';
import type { Quantized } from '../../src/formats/format.ts';
import { minifloatValues } from '../../src/formats/minifloat.ts';
import { unpackRows } from '../../src/formats/packing.ts';
import { dequantize, quantize } from '../../src/formats/quantize.ts';
import { uniformSource } from '../../src/formats/random.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { minifloats } from '../../src/formats/table.ts';

const rows = 64;
const cols = 2048;
const u = uniformSource(1, 1);
const gaussian = Float32Array.from(
  { length: rows * cols },
  (_, i) => Math.sqrt(-2 * Math.log(1 - u.at(2 * i))) * Math.cos(2 * Math.PI * u.at(2 * i + 1)),
);

// squared error over squared values, three digits as published; 131072 draws have a standard error of about 0.5 %
test.each([
  ['mxfp4', 0.0132],
  ['mxfp4-fourthirds', 0.0139],
  ['nvfp4', 0.009],
  ['nvfp4-46', 0.0075],
  ['int4-g16', 0.0073],
  ['int4-g32', 0.0094],
])('%s on a Gaussian: normalized squared error %d', (name, expected) => {
  const y = dequantize(quantize(gaussian, rows, cols, parseFormat(name)));
  let error = 0;
  let power = 0;
  for (let i = 0; i < y.length; i++) {
    error += (gaussian[i]! - y[i]!) ** 2;
    power += gaussian[i]! ** 2;
  }
  expect(Math.abs(error / power / expected - 1)).toBeLessThan(0.02);
});

const example = Float64Array.from({ length: 32 }, (_, i) => Math.sin(1.7 * i + 0.3) * (0.14 + 0.126 * i));
const doubled = (q: Quantized) => {
  const values = minifloatValues(minifloats.e2m1);
  // + 0: the example writes −0 as 0
  return [...unpackRows(q.codes, 32, 4, 0, 1)].map((c) => 2 * values[c]! + 0);
};

test('four-thirds: the block maximum lands in [3, 6), no value clips', () => {
  const q = quantize(Float32Array.from(example), 1, 32, parseFormat('mxfp4-fourthirds'));
  expect(doubled(q)).toEqual([
    0, 1, -1, -1, 1, 1, -2, -1, 3, 0, -4, 1, 4, -2, -4, 4, 4, -6, -4, 8, 2, -8, 0, 8, -2, -8, 6, 8, -8, -8, 12, 4,
  ]);
  const error = dequantize(q).reduce((s, y, i) => s + (example[i]! - y) ** 2, 0);
  expect(error).toBeCloseTo(1.472308, 5);
});

test('quest: scale from the standard deviation after a Hadamard rotation, largest values clip', () => {
  // Sylvester order: entry (i, j) is −1 to the number of common bits
  const parity = (n: number): number => (n === 0 ? 0 : (n & 1) ^ parity(n >> 1));
  const rotated = Float64Array.from({ length: 32 }, (_, j) =>
    example.reduce((s, x, i) => s + (parity(i & j) ? -x : x), 0),
  ).map((h) => h / Math.sqrt(32));
  expect(rotated[3]).toBeCloseTo(3.98308, 5);
  const q = quantize(Float32Array.from(rotated), 1, 32, parseFormat('mxfp4-quest'));
  expect(q.scales[0]).toBe(126);
  expect(doubled(q)).toEqual([
    2, 1, -12, 12, 0, -1, 4, 2, 0, -1, 8, 3, 0, 0, 0, -2, -2, -3, 12, -4, -1, 1, -4, -6, -2, 2, -8, -12, 1, 0, -3, 4,
  ]);
  const error = dequantize(q).reduce((s, y, i) => s + (rotated[i]! - y) ** 2, 0);
  expect(error).toBeCloseTo(8.06113, 4);
});
