import { describe, expect, it } from 'vitest';
import type { ScheduleOptions } from './config/sections.ts';
import { learningRateAt } from './schedule.ts';

const base: ScheduleOptions = { kind: 'cosine', learningRate: 2, warmup: 0.1, start: 0.01, final: 0.1, decay: 0.2 };
const rates = (more: Partial<ScheduleOptions>, steps = 100) =>
  Array.from({ length: steps }, (_, i) => learningRateAt(i + 1, steps, { ...base, ...more }));

describe('learning rates', () => {
  it('rise to the peak along a line', () => {
    const found = rates({}).slice(0, 10);
    expect(found[9]).toBe(2);
    for (const [i, rate] of found.entries()) expect(rate).toBeCloseTo(2 * (0.01 + 0.99 * ((i + 1) / 10)), 12);
  });

  it('cosine: half way down in the middle, final at the end', () => {
    const found = rates({});
    expect(found[54]).toBeCloseTo(2 * 0.55, 12);
    expect(found[99]).toBeCloseTo(0.2, 12);
    for (let i = 10; i < 100; i++) expect(found[i]).toBeLessThan(found[i - 1]);
  });

  it('linear', () => {
    const found = rates({ kind: 'linear', final: 0 });
    for (let i = 10; i < 100; i++) expect(found[i]).toBeCloseTo((2 * (99 - i)) / 90, 12);
  });

  it('wsd: stable until the last fifth', () => {
    const found = rates({ kind: 'wsd' });
    expect(new Set(found.slice(9, 80))).toEqual(new Set([2]));
    expect(found[89]).toBeCloseTo(2 * 0.55, 12);
    expect(found[99]).toBeCloseTo(0.2, 12);
  });

  it('constant, without warm-up, and runs of one step', () => {
    expect(new Set(rates({ kind: 'constant', warmup: 0 }))).toEqual(new Set([2]));
    expect(rates({ kind: 'wsd', warmup: 0, decay: 0 })).toEqual(new Array(100).fill(2));
    expect(rates({}, 1)).toEqual([0.2]);
    expect(rates({ warmup: 1 }, 1)).toEqual([2]);
  });
});
