import { expect, test } from 'vitest';
import { threefry2x32, uniformSource } from './random.ts';

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
