import { describe, expect, it } from 'vitest';
import { publishedRuns } from '../../test/fixtures/laws/published.ts';
import { findGeneration } from './hardware.ts';
import { predict } from './law.ts';
import { quartetBase } from './outer-exponent.ts';
import { bestScheme, bytesOf, type PlanModel, parseScheme, plans, schemeName } from './plan.ts';
import { quartetLaw } from './quartet.ts';
import { recordedLaw } from './recorded.ts';
import { fullFp4Crossover } from './speed-up.ts';

const law = quartetLaw(['mxfp4'], ['mxfp4']);
const values = { ...quartetBase.values, 'effN(mxfp4)': 0.6478, 'effD(mxfp4)': 0.8918 };
const model: PlanModel = { law, values, samples: [], level: 0.9 };
const { speeds } = findGeneration('blackwell');
const schemes = ['bf16', 'fp8', 'fp8:mxfp4', 'mxfp4:fp8', 'mxfp4'].map(parseScheme);

describe('plans', () => {
  it('spend the compute and are the minimum along it', () => {
    for (const plan of plans(model, schemes, speeds, { flop: 1e21 })) {
      const { scheme, n, d, speedUp, loss } = plan;
      expect((6 * n * d) / speedUp / 1e21).toBeCloseTo(1, 9);
      const name = (f: string) => (f === 'mxfp4' ? 'mxfp4' : 'BF16');
      const at = (factor: number) =>
        predict(law, values, {
          n: n * factor,
          d: d / factor,
          forward: name(scheme.forward),
          backward: name(scheme.backward),
        });
      expect(at(1)).toBeCloseTo(loss, 12);
      for (const factor of [0.9, 0.99, 1.01, 1.1]) expect(at(factor)).toBeGreaterThan(loss);
    }
  });

  it('come sorted, with faster formats before slower ones of the same quality', () => {
    const found = plans(model, schemes, speeds, { flop: 1e21 });
    const losses = found.map((p) => p.loss);
    expect(losses).toEqual([...losses].sort((a, b) => a - b));
    const place = (name: string) => found.findIndex((p) => schemeName(p.scheme) === name);
    expect(place('fp8:fp8')).toBeLessThan(place('bf16:bf16'));
    expect(found.find((p) => schemeName(p.scheme) === 'mxfp4:mxfp4')!.speedUp).toBeCloseTo(4, 12);
    expect(found.find((p) => schemeName(p.scheme) === 'fp8:mxfp4')!.speedUp).toBeCloseTo(3, 12);
  });

  it('keep to a memory, alone with tokens given or beside a compute', () => {
    const memory = 1e9;
    for (const plan of plans(model, schemes, speeds, { memory, tokens: 2e11 })) {
      expect(plan.n * bytesOf[plan.scheme.forward]!).toBeCloseTo(memory, -1);
      expect(plan).toMatchObject({ d: 2e11, bound: 'memory' });
    }
    const both = plans(model, schemes, speeds, { flop: 1e22, memory });
    expect(both.every((p) => p.n * bytesOf[p.scheme.forward]! <= memory * (1 + 1e-12))).toBe(true);
    expect(new Set(both.map((p) => p.bound))).toEqual(new Set(['both']));
    const loose = plans(model, schemes, speeds, { flop: 1e19, memory });
    expect(new Set(loose.map((p) => p.bound))).toEqual(new Set(['compute']));
    const given = plans(model, schemes, speeds, { flop: 1e21, tokens: 1e11 });
    for (const p of given) expect((6 * p.n * p.d) / p.speedUp / 1e21).toBeCloseTo(1, 9);
  });

  it('refuse what leaves the size open, and formats that do not exist', () => {
    expect(() => plans(model, schemes, speeds, { memory: 1e9 })).toThrow(
      'laws plan: the budget leaves size or tokens open; give --flop, or --memory with --d',
    );
    expect(() => parseScheme('fp4:fp8')).toThrow('not a forward and a backward format, got "fp4:fp8"');
    expect(() => parseScheme('fp8:fp8:fp8')).toThrow('not a forward and a backward format');
    expect(() => findGeneration('kepler')).toThrow(/no such hardware generation, got "kepler", expected ampere \(A100/);
  });

  it('draw the published border between FP8:FP4 and FP4:FP4', () => {
    const ideal = { fp8: 1, mxfp4: 2 };
    for (const n of [1e8, 1e10]) {
      const border = fullFp4Crossover(law, { ...values }, { effN: 0.6478, effD: 0.8918 }, n)!;
      const at = (ratio: number) => schemeName(bestScheme(model, schemes, ideal, n, ratio));
      expect(at(border * 0.95)).toBe('fp8:mxfp4');
      expect(at(border * 1.05)).toBe('mxfp4:mxfp4');
    }
  });
});

describe('the law of the recorded runs', () => {
  const recorded = recordedLaw(publishedRuns(), 40, 1);

  it('has efficiencies near those fitted one by one, none above 1, and leaves the diverged run out', () => {
    const { values: v, samples, runs } = recorded;
    expect(runs).toBe(128);
    for (const [name, value, tolerance] of [
      ['effN(mxfp4)', 0.6478, 0.02],
      ['effN(int4)', 0.704, 0.02],
      ['effN(int3)', 0.444, 0.02],
      ['effD(mxfp4)', 0.8918, 0.03],
    ] as const)
      expect(Math.abs(v[name]! - value), name).toBeLessThan(tolerance);
    for (const set of [v, ...samples])
      for (const [name, value] of Object.entries(set)) if (name.startsWith('eff')) expect(value).toBeLessThanOrEqual(1);
  });

  it('gives plans an interval around their loss, and shares of being best that add up to one', () => {
    const found = plans(recorded, schemes, speeds, { flop: 1e21 });
    for (const { loss, interval } of found) {
      expect(interval![0]).toBeLessThan(loss);
      expect(interval![1]).toBeGreaterThan(loss);
    }
    expect(found.reduce((sum, p) => sum + p.best!, 0)).toBeCloseTo(1, 12);
  });
});
