import { describe, expect, it } from 'vitest';
import { compareWithDifferences } from '../../test/support/finite-differences.ts';
import { differentiable } from '../backends/cases/gradients.ts';
import { opCatalog } from './catalog.ts';
import { trace } from './trace.ts';

// One key has probability 1 whatever its score is.
const zero = (name: string, input: string) => name === 'attention window of one' && input !== 'c';

describe('the gradient of every op agrees with central differences in float64 (h = 2^-17, bound 1e-8)', () => {
  it.each(differentiable.map((e) => [e.name, e] as const))('%s', async (_, e) => {
    for (const { name, error, largest } of await compareWithDifferences(e)) {
      if (zero(e.name, name)) expect(largest).toBe(0);
      else expect(largest, `gradient of ${name} is not zero everywhere`).toBeGreaterThan(1e-3);
      expect(error, `gradient of ${name}`).toBeLessThan(1e-8 * Math.max(1, largest));
    }
  });

  it('covers every op of the forward pass that has a gradient', () => {
    const used = new Set(differentiable.flatMap((e) => trace((g) => void e.build(g)).nodes.map((n) => n.op.name)));
    const without = ['argmax', 'cacheWrite', 'quantize', 'dequantize', 'fakeQuantize', 'gramUpdate'];
    const missing = [...opCatalog.keys()].filter((n) => !n.endsWith('Backward') && !used.has(n));
    const states = [
      'sgd',
      'sgdMomentum',
      'adamw',
      'targetMask',
      'ringWrite',
      'packChannels',
      'kvAttention',
      'roundToBf16',
      'sumSquares',
      'holdUpdates',
      'transposePacked',
      'splitOutliers',
      'sparseMatmul',
      'spreadSparse',
      'sortByExpert',
      'expertWeightGradient',
    ];
    expect(missing.sort()).toEqual([...without, ...states].sort());
  });
});
