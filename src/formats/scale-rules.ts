// How a scale follows from the values it covers, rule by rule.
//
// Power-of-two rules give an E8M0 code (exponent + 127) from the block's amax; emax and max are the element's. All
// arithmetic is float32 with every operation rounded; exponents are read from the bits, except in the two rules that
// reproduce a library's float log2. amax = 0 gives code 0. Results are clamped to codes 0 … 254.
//   floor         exp(amax) − emax                                              OCP MX v1.0 section 6.3, torchao FLOOR
//   ceil          exp(amax) − emax + (fraction ≠ 0)                             torchao CEIL
//   even          exp(amax + half a unit of the element's last mantissa bit) − emax          torchao EVEN
//   even1         even with one mantissa bit for every element                  compressed-tensors, vLLM
//   rceil         round up d = fl(amax · fl(1/max)); d below 2^-126: 1 if above 2^-127       torchao RCEIL
//   te            rceil, except that the largest binade is not rounded up       Transformer Engine MXFP8
//   log2ceil      ceil(log2f(fl(amax / max)))                                   modelopt
//   deepseek      round up fl(max(amax, 1e-4) / max), codes 1 … 254             DeepSeek UE8M0, DeepGEMM
//   nearest       round(log2(amax / max))                                       MLX
//   microxcaling  floor(log2f(amax)) − emax                                     microxcaling
//   quest         2^floor(log2(fl(2.92247856/6) · std + 1e-8)), std over the block           Quartet, arXiv 2505.14669
//   quest-nearest the same with round in place of floor
//   four-thirds   floor; the tensor scale is 4/3                                arXiv 2505.14669, 2509.23202
// Float scales: absmax fl(amax / max), quest as above without a power of two, absmean fl(mean|x|) (BitNet b1.58, arXiv 2402.17764), then rounded once to the
// scale format (scale-format.ts); elements are encoded with the rounded scale.
// Searches: mse and mae keep the candidate with the smallest error, the earlier on ties. Float scales try the maxima
// p · amax, p = 1 − i/100, i = 0 … 79 (GPTQ's grid); E8M0 tries floor, floor + 1, floor − 1.

import { exponentF32, f32Bits, f32FromBits, fractionF32 } from './bits.ts';
import type { ElementName, QuantSpec, ScaleRule } from './format.ts';
import { elementEmax, elementMantissaBits } from './table.ts';

const clampCode = (e: number) => Math.min(Math.max(e + 127, 0), 254);

/** Exponent code of d rounded up to a power of two; subnormals up to 2^-127 give code 0. */
function roundUpCode(d: number): number {
  const bits = f32Bits(d);
  const field = bits >>> 23;
  const fraction = bits & 0x7fffff;
  if (field === 0) return fraction > 0x400000 ? 1 : 0;
  return field + (fraction !== 0 ? 1 : 0);
}

/** Fraction bits of √2, rounded down: above it log2 rounds up. No float32 is exactly √2. */
export const sqrt2Fraction = 0x3504f3;

export interface BlockStatistics {
  /** Largest magnitude, float32. */
  amax: number;
  /** Population standard deviation; used by `quest` only. */
  std: number;
}

/**
 * E8M0 code of a block for one of the direct rules (not the searches).
 *
 * @param max value that amax maps to: 6 for E2M1, 127/64 for MXINT8
 * @example e8m0Code('floor', { amax: 5.9, std: 0 }, 'e2m1', 6) // 127, the scale 1
 */
export function e8m0Code(rule: ScaleRule, block: BlockStatistics, element: ElementName, max: number): number {
  const { amax } = block;
  const emax = elementEmax(element);
  if (rule === 'deepseek') {
    const s = Math.fround(Math.max(amax, Math.fround(1e-4)) / max);
    return Math.min(Math.max(roundUpCode(s), 1), 254);
  }
  if (rule === 'quest' || rule === 'quest-nearest') {
    const s = questScale(block.std);
    return clampCode(exponentF32(s) + (rule === 'quest-nearest' && fractionF32(s) > sqrt2Fraction ? 1 : 0));
  }
  if (amax === 0) return 0;
  switch (rule) {
    case 'ceil':
      return clampCode(exponentF32(amax) - emax + (isPowerOfTwo(amax) ? 0 : 1));
    case 'even':
    case 'even1': {
      const bits = rule === 'even' ? elementMantissaBits(element) : 1;
      return clampCode(exponentF32(f32FromBits(f32Bits(amax) + 2 ** (22 - bits))) - emax);
    }
    case 'rceil':
    case 'te': {
      const d = Math.fround(amax * Math.fround(1 / max));
      if (rule === 'te' && f32Bits(d) >>> 23 === 254) return 254;
      return Math.min(roundUpCode(d), 254);
    }
    case 'log2ceil':
      return clampCode(Math.ceil(Math.max(Math.fround(Math.log2(Math.fround(amax / max))), -127)));
    case 'nearest': {
      const q = Math.fround(amax / max);
      if (q === 0) return 0;
      const subnormal = f32Bits(q) >>> 23 === 0;
      const fraction = subnormal ? fractionF32(q * 2 ** 24) : fractionF32(q);
      return clampCode(exponentF32(q) + (fraction > sqrt2Fraction ? 1 : 0));
    }
    case 'microxcaling':
      return clampCode(Math.floor(Math.fround(Math.log2(amax))) - emax);
    default:
      return clampCode(exponentF32(amax) - emax);
  }
}

/** The scale of E2M1 with the smallest squared error on a Gaussian of deviation std, and a little more. */
export const questScale = (std: number): number =>
  Math.fround(Math.fround(questFactor * Math.fround(std)) + questOffset);

/** Its constants, float32. */
export const questFactor = Math.fround(Math.fround(2.92247856) / 6);
export const questOffset = Math.fround(1e-8);

function isPowerOfTwo(x: number): boolean {
  const bits = f32Bits(x);
  return bits >>> 23 === 0 ? (bits & (bits - 1)) === 0 : (bits & 0x7fffff) === 0;
}

/** Fractions of amax that the float-scale searches try, in order. */
export const searchFractions: readonly number[] = Array.from({ length: 80 }, (_, i) => Math.fround(1 - i / 100));

/** Whether a rule is a search over candidates. */
export const isSearch = (rule: ScaleRule) => rule === 'mse' || rule === 'mae';

const powerOfTwoRules: ReadonlySet<ScaleRule> = new Set<ScaleRule>([
  'floor',
  'ceil',
  'even',
  'even1',
  'rceil',
  'te',
  'log2ceil',
  'deepseek',
  'nearest',
  'microxcaling',
  'four-thirds',
  'quest',
  'quest-nearest',
  'mse',
  'mae',
]);
const nvfp4Conventions: ReadonlySet<ScaleRule> = new Set<ScaleRule>([
  'transformer-engine',
  'torchao',
  'modelopt',
  'compressed-tensors',
  'fouroversix',
  'ms-eden',
]);

export const isNvfp4Convention = (rule: ScaleRule) => nvfp4Conventions.has(rule);

/** MS-EDEN corrects nearest rounding of groups. */
const isBadEden = ({ scale, rounding, granularity }: QuantSpec) =>
  scale.rule === 'ms-eden' && (rounding !== 'nearest-even' || granularity.kind !== 'group');

/** Whether the rule can give scales of the spec's format. */
export function ruleFits(spec: QuantSpec): boolean {
  const { format, rule, tensorScale } = spec.scale;
  if (format === 'e8m0') return powerOfTwoRules.has(rule) && (rule === 'four-thirds') === tensorScale;
  if (nvfp4Conventions.has(rule))
    return format === 'e4m3' && spec.element === 'e2m1' && (tensorScale || rule === 'torchao') && !isBadEden(spec);
  if (rule === 'quest') return format === 'f32' && spec.element === 'e2m1';
  return rule === 'absmax' || rule === 'absmean' || isSearch(rule);
}
