import { describe, expect, it } from 'vitest';
import { evaluate, largestDifference, real, whole } from '../../../test/support/evaluate.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { gaussian } from '../op-case.ts';

describe('crossEntropy', () => {
  it('is log V when all logits are equal', async () => {
    const found = await evaluate(
      crossEntropy,
      real([2, 3], gaussian(1, [6])),
      real([7, 3], new Float32Array(21)),
      whole([2], [0, 6]),
    );
    expect(largestDifference(found, [Math.log(7), Math.log(7)])).toBeLessThan(1e-14);
  });

  it('is −log softmax of the projected row at the target; targets below 0 give 0', async () => {
    const [N, C, V] = [5, 11, 13];
    const [h, w, targets] = [gaussian(1, [N, C]), gaussian(2, [V, C]), [0, 12, -1, 4, -100]];
    const expected = targets.map((target, n) => {
      if (target < 0) return 0;
      const odds = Array.from({ length: V }, (_, v) => {
        let logit = 0;
        for (let c = 0; c < C; c++) logit += h[n * C + c] * w[v * C + c];
        return Math.exp(logit);
      });
      return -Math.log(odds[target] / odds.reduce((a, b) => a + b));
    });
    const found = await evaluate(crossEntropy, real([N, C], h), real([V, C], w), whole([N], targets));
    expect(largestDifference(found, expected)).toBeLessThan(1e-12);
  });

  it('refuses a target outside the vocabulary', async () => {
    const run = evaluate(crossEntropy, real([1, 1], [1]), real([3, 1], [1, 2, 3]), whole([1], [3]));
    await expect(run).rejects.toThrow('crossEntropy: target at position 0 is out of range, got 3, expected 0 … 2');
  });
});

describe('compareLogits', () => {
  it('knows the divergence of two coins', async () => {
    // p = (0.8, 0.2), q = (0.5, 0.5): KL = 0.8 ln 1.6 + 0.2 ln 0.4.
    const found = await evaluate(compareLogits, real([1, 2], [Math.log(4), 0]), real([1, 2], [3, 3]), whole([1], [1]));
    const expected = [-Math.log(0.2), Math.LN2, 0.8 * Math.log(1.6) + 0.2 * Math.log(0.4), 1];
    expect(largestDifference(found, expected)).toBeLessThan(1e-7); // log 4 was rounded to float32
  });

  it('gives 0 divergence to equal and shifted logits, and 0 to ignored targets', async () => {
    const p = gaussian(1, [3, 17], 4);
    const found = await evaluate(compareLogits, real([3, 17], p), real([3, 17], p), whole([3], [-1, 0, 16]));
    for (let n = 0; n < 3; n++) {
      expect(found[4 * n + 2]).toBe(0);
      expect(found[4 * n + 3]).toBe(1);
    }
    expect(found.slice(0, 2)).toEqual([0, 0]);
    expect(found[4]).toBeGreaterThan(0);
    const shifted = await evaluate(
      (a, b, t) => compareLogits(a, b, t),
      real([1, 2], [0, 1]),
      real([1, 2], [64, 65]),
      whole([1], [0]),
    );
    expect(Math.abs(shifted[2])).toBeLessThan(1e-14);
  });

  it('compares the first maxima', async () => {
    const p = real([2, 3], [1, 1, 0, 0, 1, 1]);
    const q = real([2, 3], [0, 2, 0, 0, 5, 5]);
    const found = await evaluate(compareLogits, p, q, whole([2], [0, 0]));
    expect([found[3], found[7]]).toEqual([0, 1]);
  });

  it('counts a probability of 0 as nothing', async () => {
    const found = await evaluate(compareLogits, real([1, 2], [-Infinity, 0]), real([1, 2], [0, 0]), whole([1], [1]));
    expect(largestDifference([found[2]], [Math.LN2])).toBeLessThan(1e-15);
  });
});
