// Scales in WGSL: statistics of a tile → the tile's scale, minimum and zero point, with the bytes of block-codec.ts.
//
// Divisions are done in integers (rounding.ts), since WGSL's are not exact.

import { elementCodec, integerUnit } from '../../../formats/element.ts';
import type { QuantSpec, ScaleFormat } from '../../../formats/format.ts';
import { maxMagnitudeCode } from '../../../formats/minifloat.ts';
import { sqrt2Fraction } from '../../../formats/scale-rules.ts';
import { elementEmax, elementMantissaBits, scaleMinifloats } from '../../../formats/table.ts';
import { floatText } from './bits.ts';
import { scaleValueSource } from './decode.ts';
import { deviationSource, deviationStatistics, readsTile } from './encode-deviation.ts';
import { divisionSource, narrowSource } from './rounding.ts';

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
      case 'deepseek':
        return `let d = divided(max(bits, ${bitsText(1e-4)}), ${bitsText(elementCodec(spec).max)});
  return clamp((d >> 23u) + select(0u, 1u, (d & 0x7fffffu) != 0u), 1u, 254u);`;
      case 'nearest':
        return `let d = normalized(divided(bits, ${bitsText(elementCodec(spec).max)}));
  return u32(clamp(i32(d.x) + select(0, 1, (d.y & 0x7fffffu) > ${sqrt2Fraction}u), 0, 254));`;
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
  ${rule === 'deepseek' ? '' : 'if (bits == 0u) { return 0u; }'}
  ${body()}
}
`;
}

/** Statistics of a tile: largest magnitude; with zero points also the range; for signed maxima where it is. */
function statisticsSource(spec: QuantSpec): string {
  if (readsTile(spec)) return deviationStatistics;
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

/** `fitTile(statistics, g) -> Tile`; where there are no zero points also `tileWith(code, g)`, that of a stored scale. */
function fitSource(spec: QuantSpec): string {
  const codec = elementCodec(spec);
  const { format } = spec.scale;
  const clip = Math.fround(spec.clip);
  const clipped = (x: string) => (clip === 1 ? x : `(${x} * ${floatText(clip)})`);
  const unit = integerUnit(spec);
  if (spec.zeroPoint === 'none') {
    const covered = clipped(`bitcast<f32>(s.${spec.range === 'signed-max' ? 'value' : 'amax'})`);
    const quotient = `scaleCode(quotient(bitcast<u32>(${covered}), bitcast<u32>(${floatText(codec.max)} * g)))`;
    const power = `powerCode(bitcast<u32>(${covered}))`;
    const code = readsTile(spec) ? 'deviationCode(s)' : format === 'e8m0' ? power : quotient;
    return `
fn quotient(a: u32, b: u32) -> u32 { return divided(a & 0x7fffffffu, b & 0x7fffffffu) | ((a ^ b) & 0x80000000u); }
fn tileWith(code: u32, g: f32) -> Tile {
  return tileOf(code, scaleValue(code) * g${unit === 1 ? '' : ` * ${floatText(unit)}`}, 0.0, 0, 0u);
}
fn fitTile(s: Statistics, g: f32) -> Tile { return tileWith(${code}, g); }
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

function ruleSource(spec: QuantSpec): string {
  if (readsTile(spec)) return deviationSource(spec);
  return spec.scale.format === 'e8m0' ? powerCodeSource(spec) : '';
}

/** Fields of Statistics, for kernels that exchange them one by one. */
export function statisticsFields(spec: QuantSpec): readonly string[] {
  if (readsTile(spec)) return ['amax', 'sum', 'squares'];
  if (spec.zeroPoint !== 'none') return ['amax', 'low', 'high'];
  return spec.range === 'signed-max' ? ['amax', 'value', 'at'] : ['amax'];
}

/** Declares Statistics (noStatistics, join, gather), Tile (tileOf) and fitTile of a spec. */
export const scalesSource = (spec: QuantSpec): string => `
/* step: what one unit of the codes is worth; code and zeroCode as they are stored. */
struct Tile { step: f32, inverse: f32, minimum: f32, zero: i32, code: u32, zeroCode: u32 }
fn tileOf(code: u32, step: f32, minimum: f32, zero: i32, zeroCode: u32) -> Tile {
  return Tile(step, select(1.0 / step, 0.0, step == 0.0), minimum, zero, code, zeroCode);
}
${divisionSource}${scaleCodeSource(spec.scale.format)}${scaleValueSource('scaleValue', spec.scale.format)}
${statisticsSource(spec)}${ruleSource(spec)}${fitSource(spec)}`;
