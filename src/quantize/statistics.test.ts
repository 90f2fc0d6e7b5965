import { describe, expect, it } from 'vitest';
import { tensorStatistics } from './statistics.ts';

describe('tensor statistics', () => {
  it('gives the closed-form figures of a sign pattern and of one spike', () => {
    const signs = tensorStatistics(Float32Array.from([1, -1, 1, -1]));
    expect(signs).toMatchObject({ amax: 1, mean: 0, rms: 1, crestFactor: 1, kurtosis: 1, zeros: 0, nonFinite: 0 });
    // One spike a in n zeros: rms = a/√n, crest = √n, kurtosis = n.
    const spike = new Float32Array(16);
    spike[5] = -3;
    expect(tensorStatistics(spike)).toMatchObject({ amax: 3, crestFactor: 4, kurtosis: 16, zeros: 15 });
  });

  it('counts values that are not finite and leaves them out', () => {
    const s = tensorStatistics(Float32Array.from([1, Number.NaN, -1, Number.POSITIVE_INFINITY]));
    expect(s).toMatchObject({ nonFinite: 2, amax: 1, rms: 1 });
  });
});
