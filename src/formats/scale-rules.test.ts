import { describe, expect, test } from 'vitest';
import { f32Bits, f32FromBits } from './bits.ts';
import type { ElementName, ScaleRule } from './format.ts';
import { e8m0Code } from './scale-rules.ts';
import { elementEmax, elementMantissaBits, minifloats } from './table.ts';

// A second implementation without bit fields: exponents by comparing with powers of two, which are exact in float64.
const powers = Array.from({ length: 320 }, (_, i) => 2 ** (i - 160));
const floorLog2 = (x: number) => powers.findLastIndex((p) => p <= x) - 160;
const ceilLog2 = (x: number) => powers.findIndex((p) => p >= x) - 160;
const clamp = (e: number) => Math.min(Math.max(e, -127), 127) + 127;
const f = Math.fround;

function second(rule: ScaleRule, amax: number, element: ElementName, max: number): number {
  const emax = elementEmax(element);
  const roundMantissa = (bits: number) => {
    // the fraction rounded half up to `bits`, in units of the element's spacing; subnormals keep float32's spacing
    const unit = 2 ** (Math.max(floorLog2(amax), -126) - bits);
    return Math.floor(amax / unit + 0.5) * unit;
  };
  switch (rule) {
    case 'floor':
      return clamp(floorLog2(amax) - emax);
    case 'ceil':
      return clamp(ceilLog2(amax) - emax);
    case 'even':
    case 'even1': {
      const r = roundMantissa(rule === 'even' ? elementMantissaBits(element) : 1);
      // where rounding gives zero the library adds to the bits without carrying out of the subnormals
      return clamp((r < amax ? floorLog2(amax) : floorLog2(r)) - emax);
    }
    case 'rceil': {
      const d = f(amax * f(1 / max));
      if (d <= 2 ** -127) return 0;
      return Math.min(ceilLog2(d) + 127, 254);
    }
    case 'nearest': {
      const q = f(amax / max);
      if (q === 0) return 0;
      const e = floorLog2(q);
      return clamp(q * q * 2 ** (-2 * e) > 2 ? e + 1 : e);
    }
    default:
      throw new Error(rule);
  }
}

const elements = ['e2m1', 'e2m3', 'e3m2', 'e4m3', 'e5m2'] as const;
const rules: ScaleRule[] = ['floor', 'ceil', 'even', 'even1', 'rceil', 'nearest'];

describe('E8M0 rules around every power of two from 2^-140 to 2^127, ±2 ulp', () => {
  const inputs: number[] = [];
  for (let k = -140; k <= 127; k++) {
    for (let d = -2; d <= 2; d++) {
      const bits = f32Bits(2 ** k) + d;
      if (bits > 0 && bits < 0x7f800000) inputs.push(f32FromBits(bits));
      const halfway = f32Bits(1.5 * 2 ** k) + d;
      if (halfway > 0 && halfway < 0x7f800000) inputs.push(f32FromBits(halfway));
    }
  }
  test.each(rules)('%s', (rule) => {
    const wrong: string[] = [];
    for (const element of elements) {
      const { max } = minifloats[element];
      for (const amax of inputs) {
        const ours = e8m0Code(rule, { amax, std: 0 }, element, max);
        const theirs = second(rule, amax, element, max);
        if (ours !== theirs) wrong.push(`${element} ${amax}: ${ours} ${theirs}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('ceil and rceil never clip, floor clips by less than a factor of two', () => {
    for (const element of elements) {
      const { max } = minifloats[element];
      for (const amax of inputs) {
        const scaled = (rule: ScaleRule) => amax / 2 ** (e8m0Code(rule, { amax, std: 0 }, element, max) - 127);
        if (amax <= max * 2 ** 126) {
          expect(scaled('ceil')).toBeLessThanOrEqual(max);
          expect(scaled('rceil')).toBeLessThanOrEqual(max * (1 + 2 ** -23));
          expect(scaled('floor')).toBeLessThan(2 ** (elementEmax(element) + 1));
        }
      }
    }
  });
});

// published table of exponents: amax, floor, ceil, rceil, even
test.each([
  ['e2m1', 3.99, -1, 0, 0, 0],
  ['e2m1', 5.9, 0, 1, 0, 0],
  ['e2m1', 6.01, 0, 1, 1, 0],
  ['e2m1', 7, 0, 1, 1, 1],
  ['e2m1', 8, 1, 1, 1, 1],
  ['e4m3', 448, 0, 1, 0, 0],
  ['e4m3', 449, 0, 1, 1, 0],
  ['e4m3', 500, 0, 1, 1, 1],
] as const)('exponents of %s for amax %d', (element, amax, floor, ceil, rceil, even) => {
  const { max } = minifloats[element];
  const exponent = (rule: ScaleRule) => e8m0Code(rule, { amax: f(amax), std: 0 }, element, max) - 127;
  expect(['floor', 'ceil', 'rceil', 'even'].map((r) => exponent(r as ScaleRule))).toEqual([floor, ceil, rceil, even]);
});

test('float32 log2 is one too high below a power of two; only the microxcaling rule reproduces it', () => {
  const amax = f32FromBits(f32Bits(8) - 1);
  expect(e8m0Code('floor', { amax, std: 0 }, 'e2m1', 6)).toBe(127);
  expect(e8m0Code('microxcaling', { amax, std: 0 }, 'e2m1', 6)).toBe(128);
});

test('library details: deepseek never below 1e-4, te keeps the largest binade, quest on a Gaussian block', () => {
  expect(e8m0Code('deepseek', { amax: 0, std: 0 }, 'e4m3', 448)).toBe(ceilLog2(1e-4 / 448) + 127);
  expect(e8m0Code('te', { amax: 3e38, std: 0 }, 'e2m1', 1)).toBe(254);
  expect(e8m0Code('quest', { amax: 3, std: 1 }, 'e2m1', 6)).toBe(125);
  expect(e8m0Code('four-thirds', { amax: 7.9, std: 0 }, 'e2m1', 6)).toBe(127);
});
