import { expect, test } from 'vitest';
import { roundingSource, threefry2x32, uniformSource } from './random.ts';

// known answers of the Random123 library, threefry2x32 with 20 rounds
test.each([
  [0, 0, 0, 0, 0x6b200159, 0x99ba4efe],
  [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7],
  [0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0],
])('Threefry-2x32-20 known answer %#', (k0, k1, c0, c1, x0, x1) => {
  const out = new Uint32Array(2);
  threefry2x32(k0, k1, c0, c1, out);
  expect([...out]).toEqual([x0, x1]);
});

// the same library, 13 rounds
test.each([
  [0, 0, 0, 0, 0x9d1c5ec6, 0x8bd50731],
  [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xfd36d048, 0x2d17272c],
  [0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xba3e4725, 0xf27d669e],
])('Threefry-2x32-13 known answer %#', (k0, k1, c0, c1, x0, x1) => {
  const out = new Uint32Array(2);
  threefry2x32(k0, k1, c0, c1, out, 13);
  expect([...out]).toEqual([x0, x1]);
});

test('numbers depend on the index alone, not on the order of drawing', () => {
  const forward = uniformSource(7, 3);
  const values = Array.from({ length: 64 }, (_, i) => forward.at(i));
  const backward = uniformSource(7, 3);
  for (let i = 63; i >= 0; i--) expect(backward.at(i)).toBe(values[i]);
  expect(uniformSource(8, 3).at(0)).not.toBe(values[0]);
  expect(uniformSource(7, 4).at(0)).not.toBe(values[0]);
  expect(new Set(values).size).toBe(64);
  expect(forward.at(2 ** 40)).not.toBe(forward.at(0));
});

test('numbers for rounding are the halves of the words, around one half', () => {
  const words = new Uint32Array(2);
  const source = roundingSource(7, 3, 5);
  const expected = [0, 1, 2].flatMap((block) => {
    threefry2x32(7, 3, block, 5, words, 13);
    return [...words].flatMap((w) => [w & 0xffff, w >>> 16]).map((h) => (h + 0.5) / 65536);
  });
  expect(expected.map((_, i) => source.at(i))).toEqual(expected);
  expect(source.at(4 * 2 ** 32 + 2)).toBe(roundingSource(7, 3, 6).at(2));
  // all 16 bits occur alike: chi-square of 2^20 draws in 256 cells, 255 degrees of freedom (1e-6: 371)
  const cells = new Float64Array(256);
  const low = new Float64Array(256);
  let sum = 0;
  for (let i = 0; i < 2 ** 20; i++) {
    const u = source.at(i);
    sum += u;
    cells[Math.floor(256 * u)]++;
    low[Math.floor(u * 65536) % 256]++;
  }
  for (const counts of [cells, low]) expect(counts.reduce((c, n) => c + (n - 4096) ** 2 / 4096, 0)).toBeLessThan(371);
  // five standard deviations
  expect(Math.abs(sum / 2 ** 20 - 0.5)).toBeLessThan(5 / Math.sqrt(12 * 2 ** 20));
});
