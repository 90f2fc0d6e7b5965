import { describe, expect, it } from 'vitest';
import { tensorF32, tensorI32 } from '../tensor/tensor.ts';
import { differences, gaussian, integers, type OpCase } from './op-case.ts';

const compare = (found: number[], expected: number[], tolerance: OpCase['tolerance']) => {
  const outputs = (data: number[]) => [new Map([['y', tensorF32([data.length], Float32Array.from(data))]])];
  return differences(outputs(found), outputs(expected), tolerance);
};

describe('differences', () => {
  it('measures errors against the largest magnitude', () => {
    expect(compare([100.05, 0.05], [100, 0], 1e-3)).toEqual([]);
    expect(compare([100.2, 0], [100, 0], 1e-3)).toHaveLength(1);
    expect(compare([100, 0.2], [100, 0], 1e-3)[0]).toMatch(/^run 0, output y: element 1 is 0.2.*expected 0/);
  });

  it('wants equality where the case says exact', () => {
    expect(compare([1, -0], [1, 0], 'exact')).toEqual([]);
    expect(compare([1 + 2 ** -20], [1], 'exact')).toHaveLength(1);
  });

  it('wants the same infinities and NaNs whatever the tolerance', () => {
    const special = [Number.NaN, Infinity, -Infinity];
    expect(compare(special, special, 1)).toEqual([]);
    expect(compare([0, Infinity, -Infinity], special, 1)).toHaveLength(1);
    expect(compare([Number.NaN, -Infinity, -Infinity], special, 1)).toHaveLength(1);
    expect(compare([Number.NaN], [1], 1)).toHaveLength(1);
  });

  it('sees missing outputs, other shapes and any wrong index', () => {
    const one = tensorF32([1, 2], Float32Array.of(1, 2));
    const flat = tensorF32([2], Float32Array.of(1, 2));
    expect(differences([new Map()], [new Map([['y', one]])], 1)).toEqual(['run 0, output y: missing']);
    expect(differences([new Map([['y', flat]])], [new Map([['y', one]])], 1)[0]).toContain('shape [2], expected [1,2]');
    const index = (i: number) => [new Map([['y', tensorI32([2], Int32Array.of(1000, i))]])];
    expect(differences(index(1), index(2), 0.1)).toHaveLength(1);
  });
});

describe('case data', () => {
  it('is normal with mean 0 and variance 1, and the same for a seed', () => {
    const x = gaussian(1, [100, 100]);
    const mean = x.reduce((a, b) => a + b) / 1e4;
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / 1e4;
    expect(Math.abs(mean)).toBeLessThan(0.04); // 4 standard errors
    expect(Math.abs(variance - 1)).toBeLessThan(0.06);
    expect(gaussian(1, [100, 100])).toEqual(x);
    expect(gaussian(2, [100, 100])).not.toEqual(x);
  });

  it('covers the range of whole numbers', () => {
    expect(new Set(integers(1, [200], -1, 3))).toEqual(new Set([-1, 0, 1, 2]));
  });
});
