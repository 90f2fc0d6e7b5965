import { describe, expect, it } from 'vitest';
import { enforceGates, parseGate, requireFigures } from './gate.ts';

describe('quality gates', () => {
  it('parses the documented forms', () => {
    expect(parseGate('ppl>+5%')).toMatchObject({ metric: 'ppl', comparison: '>', value: 0.05, relative: true });
    expect(parseGate(' kl >= 0.05')).toMatchObject({ metric: 'kl', comparison: '>=', value: 0.05, relative: false });
    expect(parseGate('top1<90%')).toMatchObject({ metric: 'top1', comparison: '<', value: 0.9, relative: false });
    expect(parseGate('ppl<-1%').value).toBe(-0.01);
  });

  it('refuses anything else with the expected form', () => {
    for (const bad of ['', 'ppl', 'loss>1', 'ppl=3', 'ppl>5 percent', 'ppl>>1', 'ppl>NaN']) {
      expect(() => parseGate(bad)).toThrow(/fail-if: not a condition.*ppl>\+5%/);
    }
  });

  it('refuses conditions that would hold always or never by a slip', () => {
    for (const slip of ['ppl>5%', 'ppl>+5', 'kl>+5%', 'kl>5%', 'top1<-5%', 'top1<90', 'top1<120%'])
      expect(() => parseGate(slip)).toThrow(/fail-if: not a condition: /);
    for (const fine of ['ppl>20', 'top1<0.9', 'top1<=100%']) expect(parseGate(fine).text).toBe(fine);
  });

  it('says before any work which figure will be missing', () => {
    const gates = [parseGate('ppl>20'), parseGate('ppl>+5%')];
    expect(() => requireFigures(gates.slice(0, 1), ['ppl'], false, 'add it')).not.toThrow();
    expect(() => requireFigures(gates, ['ppl'], false, 'add it')).toThrow(/ppl>\+5% .*; add it/);
    expect(() => requireFigures(gates, ['ppl'], true, 'add it')).not.toThrow();
  });

  it('fails with exit code 4 exactly when the condition holds', () => {
    const check = (gate: string, ppl: number) => () => enforceGates([parseGate(gate)], { ppl }, { ppl: 20 });
    expect(check('ppl>+5%', 21)).not.toThrow();
    expect(check('ppl>=+5%', 21)).toThrow(/ppl is 21.0000, the limit is 21.0000/);
    expect(check('ppl>+5%', 21.01)).toThrow();
    try {
      check('ppl>20.5', 20.6)();
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ exitCode: 4 });
    }
  });

  it('does not let a broken model pass', () => {
    expect(() => enforceGates([parseGate('ppl>+5%')], { ppl: Number.NaN }, { ppl: 20 })).toThrow(/limit/);
  });

  it('says so when a figure is missing', () => {
    expect(() => enforceGates([parseGate('kl>0.1')], { ppl: 3 }, {})).toThrow(/does not measure/);
  });
});
