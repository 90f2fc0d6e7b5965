// Rounding to a uniform spec in WGSL: statistics of a tile → scale → codes, with the bytes of src/formats/block-codec.ts.
//
// Divisions that decide bits are done in integers (rounding.ts). A code is found by a quotient that may be off by a few
// units in the last place, then settled by comparing |x| with fl(step × midpoint) and its like, as the reference does; a
// wrong neighbour can only be guessed next to a value of the grid, where the comparison corrects it. Stochastic rounding
// needs the exact lower neighbour, so there step × value is compared with |x| without rounding. Steps must be normal
// f32 numbers below 2^126: devices may flush subnormals.

import { elementCodec, integerUnit } from '../../../formats/element.ts';
import type { QuantSpec, Rounding, ScaleFormat } from '../../../formats/format.ts';
import { signedRange } from '../../../formats/int.ts';
import { maxMagnitudeCode } from '../../../formats/minifloat.ts';
import { scaleMax } from '../../../formats/scale-format.ts';
import {
  elementBits,
  elementEmax,
  elementMantissaBits,
  intBits,
  isInt,
  isMinifloat,
  type MinifloatParameters,
  minifloats,
  scaleMinifloats,
} from '../../../formats/table.ts';
import { floatText, minifloatSource } from './bits.ts';
import { scaleValueSource } from './decode.ts';
import { randomSource } from './random.ts';
import { divisionSource, narrowSource } from './rounding.ts';

const directE8m0 = new Set(['floor', 'ceil', 'even', 'even1', 'rceil', 'te', 'four-thirds']);
const storedScales: ReadonlySet<ScaleFormat> = new Set(['f32', 'f16', 'bf16', 'e8m0', 'e4m3', 'ue5m3']);

/** Whether kernels round to this spec: integers and minifloats under direct scale rules. */
export function hasEncoder(spec: QuantSpec): boolean {
  const { element, scale } = spec;
  if (spec.choice !== 'none' || !(isInt(element) || isMinifloat(element)) || !storedScales.has(scale.format))
    return false;
  if (scale.format === 'e8m0') return directE8m0.has(scale.rule);
  // Narrow scales with a sign and a largest magnitude of the tensor beyond f32 do not occur in practice.
  const narrow = scale.format === 'e4m3' || scale.format === 'ue5m3';
  return scale.rule === 'absmax' && !(narrow && spec.range === 'signed-max') && (!scale.tensorScale || narrow);
}

/** The second-level scale when it is known ahead of time. */
export const fixedTensorScale = (spec: QuantSpec): number | undefined =>
  !spec.scale.tensorScale ? 1 : spec.scale.rule === 'four-thirds' ? Math.fround(4 / 3) : undefined;

/** Largest magnitude of a tensor over its second-level scale. */
export const tensorScaleDivisor = (spec: QuantSpec): number => elementCodec(spec).max * scaleMax(spec.scale.format);

/** Bits of a float as WGSL text. */
const bitsText = (x: number) => `bitcast<u32>(${floatText(x)})`;

function scaleCodeSource(format: ScaleFormat): string {
  const signed = (source: string, bit: number) =>
    `${source}
fn scaleCode(bits: u32) -> u32 { return narrow(bits & 0x7fffffffu) | ((bits >> 31u) << ${bit}u); }
`;
  switch (format) {
    case 'f16':
      return signed(narrowSource('narrow', 10, 15, 0x7bff), 15);
    case 'bf16':
      return signed(narrowSource('narrow', 7, 127, 0x7f7f), 15);
    case 'e4m3':
    case 'ue5m3': {
      const p = scaleMinifloats[format];
      return narrowSource('scaleCode', p.mantissaBits, p.bias, maxMagnitudeCode(p));
    }
    default:
      return 'fn scaleCode(bits: u32) -> u32 { return bits; }\n';
  }
}

/** `powerCode(bits) -> u32`: E8M0 code of the largest magnitude of a block. */
function powerCodeSource(spec: QuantSpec): string {
  const { element } = spec;
  const { rule } = spec.scale;
  const emax = elementEmax(element);
  const clamped = (bits: string, more = '') => `let field = i32(normalized(${bits}).x)${more};
  return u32(clamp(field - ${emax}, 0, 254));`;
  const body = () => {
    switch (rule) {
      case 'ceil':
        return clamped('bits', ' + select(1, 0, (normalized(bits).y & 0x7fffffu) == 0u)');
      case 'even':
      case 'even1':
        return clamped(`bits + ${2 ** (22 - (rule === 'even' ? elementMantissaBits(element) : 1))}u`);
      case 'rceil':
      case 'te':
        return `let d = bitcast<u32>(bitcast<f32>(bits) * ${floatText(Math.fround(1 / elementCodec(spec).max))});
  let field = d >> 23u;
  let fraction = d & 0x7fffffu;
  ${rule === 'te' ? 'if (field == 254u) { return 254u; }' : ''}
  if (field == 0u) { return select(0u, 1u, fraction > 0x400000u); }
  return min(field + select(0u, 1u, fraction != 0u), 254u);`;
      default:
        return clamped('bits');
    }
  };
  return `
fn powerCode(bits: u32) -> u32 {
  if (bits == 0u) { return 0u; }
  ${body()}
}
`;
}

/** Statistics of a tile: largest magnitude; with zero points also the range; for signed maxima where it is. */
function statisticsSource(spec: QuantSpec): string {
  if (spec.zeroPoint !== 'none') {
    const [low, high] =
      spec.zeroPoint === 'integer' ? ['0.0', '0.0'] : ['3.4028234663852886e38', '-3.4028234663852886e38'];
    return `
struct Statistics { amax: u32, low: f32, high: f32 }
fn noStatistics() -> Statistics { return Statistics(0u, ${low}, ${high}); }
fn join(a: Statistics, b: Statistics) -> Statistics {
  return Statistics(max(a.amax, b.amax), min(a.low, b.low), max(a.high, b.high));
}
fn gather(s: Statistics, x: u32, at: u32) -> Statistics {
  let value = bitcast<f32>(x);
  return join(s, Statistics(x & 0x7fffffffu, value, value));
}
`;
  }
  const signed = spec.range === 'signed-max';
  return `
struct Statistics { amax: u32, ${signed ? 'value: u32, at: u32' : ''} }
fn noStatistics() -> Statistics { return Statistics(0u${signed ? ', 0u, 0xffffffffu' : ''}); }
fn join(a: Statistics, b: Statistics) -> Statistics {
  ${
    signed
      ? 'if (b.amax > a.amax || (b.amax == a.amax && b.at < a.at)) { return b; }\n  return a;'
      : 'return Statistics(max(a.amax, b.amax));'
  }
}
fn gather(s: Statistics, x: u32, at: u32) -> Statistics {
  return join(s, Statistics(x & 0x7fffffffu${signed ? ', x, at' : ''}));
}
`;
}

/** `fitTile(statistics, g) -> Tile`. */
function fitSource(spec: QuantSpec): string {
  const codec = elementCodec(spec);
  const { format } = spec.scale;
  const clip = Math.fround(spec.clip);
  const clipped = (x: string) => (clip === 1 ? x : `(${x} * ${floatText(clip)})`);
  const unit = integerUnit(spec);
  if (spec.zeroPoint === 'none') {
    const covered = clipped(`bitcast<f32>(s.${spec.range === 'signed-max' ? 'value' : 'amax'})`);
    const code =
      format === 'e8m0'
        ? `powerCode(bitcast<u32>(${covered}))`
        : `scaleCode(quotient(bitcast<u32>(${covered}), bitcast<u32>(${floatText(codec.max)} * g)))`;
    return `
fn quotient(a: u32, b: u32) -> u32 { return divided(a & 0x7fffffffu, b & 0x7fffffffu) | ((a ^ b) & 0x80000000u); }
fn fitTile(s: Statistics, g: f32) -> Tile {
  let code = ${code};
  return tileOf(code, scaleValue(code) * g${unit === 1 ? '' : ` * ${floatText(unit)}`}, 0.0, 0, 0u);
}
`;
  }
  const zero =
    spec.zeroPoint === 'integer'
      ? `var zero = 0;
  if (scale != 0.0) { zero = i32(clamp(round(bitcast<f32>(divided(bitcast<u32>(abs(low)), bitcast<u32>(scale)))), 0.0, ${codec.max}.0)); }
  return tileOf(code, scale, 0.0, zero, u32(zero));`
      : `let minimum = scaleCode(bitcast<u32>(low));
  return tileOf(code, scale, scaleValue(minimum), 0, minimum);`;
  return `
fn fitTile(s: Statistics, g: f32) -> Tile {
  let low = select(${clipped('s.low')}, 0.0, s.low == 0.0);
  let range = unfused(vec4f(${clipped('s.high')})).x - low;
  let code = select(scaleCode(divided(bitcast<u32>(abs(range)), ${bitsText(codec.max)})), 0u, range == 0.0);
  let scale = scaleValue(code);
  ${zero}
}
`;
}

/** `reaches(a, step, value) -> bool`: step × value ≤ a, without rounding the product; values have eight bits. */
const reachesSource = `
fn reaches(a: f32, step: f32, value: f32) -> bool {
  let product = step * value;
  if (product != a || value == 0.0) { return product <= a; }
  let exact = normalized(bitcast<u32>(step)).y * (normalized(bitcast<u32>(value)).y >> 16u);
  let shift = 8u - countLeadingZeros(exact);
  /* The rounded product is a: it was rounded down where its bits are the upper ones of the exact product. */
  return (exact & ((1u << shift) - 1u)) == 0u || (exact >> shift) != normalized(bitcast<u32>(a)).y;
}
`;

/** Statements that move `n`, near the lower neighbour of a, to the result. `value(n)`: the value of a magnitude code. */
function settle(rounding: Rounding, value: (n: string) => string, odd: string): string {
  const middle = `step * (0.5 * (${value('n')} + ${value('n + 1u')}))`;
  switch (rounding) {
    case 'stochastic':
      return `if (!reaches(a, step, ${value('n')})) { n -= 1u; }
  else if (n < last && reaches(a, step, ${value('n + 1u')})) { n += 1u; }
  if (n < last) {
    let low = ${value('n')};
    if (a > step * (low + u * (${value('n + 1u')} - low))) { n += 1u; }
  }`;
    case 'floor':
      return `if (n > 0u && a < step * ${value('n')}) { n -= 1u; }
  else if (n < last && a >= step * ${value('n + 1u')}) { n += 1u; }`;
    default: {
      const tie = { 'nearest-even': odd, 'half-away': 'true', 'half-up': '!negative', 'half-to-zero': 'false' }[
        rounding
      ];
      return `let middle = ${middle};
  if (n < last && (a > middle || (a == middle && ${tie}))) { n += 1u; }`;
    }
  }
}

const parameters = 'a: f32, step: f32, inverse: f32, last: u32, negative: bool, u: f32';

/** `magnitudeOf(…) -> u32`: code of |x| = a, at most `last`. */
function minifloatMagnitude(p: MinifloatParameters, rounding: Rounding): string {
  const { mantissaBits: M, bias } = p;
  const magnitudes = { ...p, specials: 'finite', signed: false, bits: p.bits + 1 } as const;
  return `${minifloatSource('magnitudeValues', magnitudes)}
fn magnitudeValue(code: u32) -> f32 { return magnitudeValues(vec4u(code)).x; }
fn magnitudeOf(${parameters}) -> u32 {
  let t = a * inverse;
  let normal = (bitcast<u32>(t) >> ${23 - M}u) - ${(127 - bias) << M}u;
  let small = u32(min(t * ${floatText(2 ** (M + bias - 1))}, ${2 ** M}.0));
  var n = min(select(normal, small, t < ${floatText(2 ** (1 - bias))}), last);
  ${settle(rounding, (n) => `magnitudeValue(${n})`, '(n & 1u) == 1u')}
  return n;
}
`;
}

const wholeMagnitude = (rounding: Rounding) => `
fn magnitudeOf(${parameters}) -> u32 {
  var n = u32(min(a * inverse, f32(last)));
  ${settle(rounding, (n) => `f32(${n})`, '(n & 1u) == 1u')}
  return n;
}
`;

/** `codeOf(x, tile, element) -> u32`: code of a value from its bits; `element` counts random numbers. */
function codeSource(spec: QuantSpec): string {
  const { element, rounding } = spec;
  const bits = elementBits(element);
  const mask = 2 ** bits - 1;
  const u = rounding === 'stochastic' ? 'uniformOf(element)' : '0.0';
  const open = 'fn codeOf(x: u32, tile: Tile, element: u32) -> u32 {';
  if (isMinifloat(element)) {
    const p = minifloats[element];
    const sign = `(x >> 31u) << ${bits - 1}u`;
    const negative = p.specials === 'fnuz' ? `select(${sign}, 0u, n == 0u)` : sign;
    return `${minifloatMagnitude(p, rounding)}
${open}
  if (tile.step == 0.0) { return ${p.specials === 'fnuz' ? '0u' : sign}; }
  let n = magnitudeOf(bitcast<f32>(x & 0x7fffffffu), tile.step, tile.inverse, ${maxMagnitudeCode(p)}u, (x >> 31u) == 1u, ${u});
  return n | (${negative});
}
`;
  }
  if (spec.zeroPoint !== 'none')
    return `${wholeMagnitude(rounding)}
${open}
  var q = 0;
  let y = bitcast<f32>(x) - tile.minimum;
  if (tile.step != 0.0) {
    let n = i32(magnitudeOf(abs(y), tile.step, tile.inverse, ${mask}u, y < 0.0, ${u}));
    q = select(n, -n, y < 0.0);
  }
  return u32(clamp(q + tile.zero, 0, ${mask}));
}
`;
  const [lowest, highest] = isInt(element) ? signedRange(intBits[element], spec.range === 'restricted') : [0, 0];
  return `${wholeMagnitude(rounding)}
${open}
  if (tile.step == 0.0) { return 0u; }
  let negative = ((x ^ bitcast<u32>(tile.step)) >> 31u) == 1u;
  let last = select(${highest}u, ${-lowest}u, negative);
  let n = magnitudeOf(bitcast<f32>(x & 0x7fffffffu), abs(tile.step), abs(tile.inverse), last, negative, ${u});
  return select(n, 0u - n, negative) & ${mask}u;
}
`;
}

/**
 * Declares Statistics (noStatistics, join, gather), Tile, fitTile and codeOf of a spec. Needs valueSource and
 * unfusedSource; stochastic rounding needs words.seed and words.stream.
 */
export function encodeSource(spec: QuantSpec): string {
  const stochastic = spec.rounding === 'stochastic';
  return `
/* step: what one unit of the codes is worth; code and zeroCode as they are stored. */
struct Tile { step: f32, inverse: f32, minimum: f32, zero: i32, code: u32, zeroCode: u32 }
fn tileOf(code: u32, step: f32, minimum: f32, zero: i32, zeroCode: u32) -> Tile {
  return Tile(step, select(1.0 / step, 0.0, step == 0.0), minimum, zero, code, zeroCode);
}
${divisionSource}${scaleCodeSource(spec.scale.format)}${scaleValueSource('scaleValue', spec.scale.format)}
${spec.scale.format === 'e8m0' ? powerCodeSource(spec) : ''}${statisticsSource(spec)}${fitSource(spec)}
${stochastic ? randomSource + reachesSource : ''}${codeSource(spec)}`;
}
