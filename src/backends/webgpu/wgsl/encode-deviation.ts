// Scales by the standard deviation of a tile (rules quest and quest-nearest), with the bits of the float64 reference.
//
// A power of two follows from sums in f32 with a bound of their error: where both ends of the interval give the same
// scale, it is the reference's, whatever the order of the sums. Otherwise, one tile in some ten thousand, limbs of nine bits
// give a tighter bound. Where that does not decide either, and always for f32 scales, the deviation is computed again as the
// reference does, in doubles (double.ts): some 20,000 instructions one after another, for which a whole dispatch may wait.
//
// The bound: with n values, ε = (n + 8) · 2^-24 and q = Σx²/n, the mean is off by less than ε√q and q by less than εq, so
// q − mean² by less than 4εq with the roundings of both, also where the sum takes products before they are rounded to the
// values (one of the 8 units); twice that is taken. Squares that underflow change the deviation by
// less than 2^-63, far below half a unit in the last place of the 1e-8 that the rules add.

import type { QuantSpec } from '../../../formats/format.ts';
import { questFactor, questOffset, sqrt2Fraction } from '../../../formats/scale-rules.ts';
import { floatText } from './bits.ts';
import { doubleSource } from './double.ts';

/** Whether the scale follows from the deviation: the kernel then declares tileSize and tileValue (encode.ts). */
export const readsTile = ({ scale }: QuantSpec): boolean => scale.rule === 'quest' || scale.rule === 'quest-nearest';

export const deviationStatistics = `
struct Statistics { amax: u32, sum: f32, squares: f32 }
fn noStatistics() -> Statistics { return Statistics(0u, 0.0, 0.0); }
fn join(a: Statistics, b: Statistics) -> Statistics {
  return Statistics(max(a.amax, b.amax), a.sum + b.sum, a.squares + b.squares);
}
fn gather(s: Statistics, x: u32, at: u32) -> Statistics {
  let value = bitcast<f32>(x);
  return join(s, Statistics(x & 0x7fffffffu, value, value * value));
}
`;

const exact = `${doubleSource}
/* Population standard deviation of the tile, as f32. */
fn exactDeviation() -> f32 {
  let count = doubleOf(bitcast<u32>(f32(tileSize())));
  var sum = doubleOf(0u);
  for (var i = 0u; i < tileSize(); i++) { sum = addDoubles(sum, doubleOf(tileValue(i))); }
  let mean = negated(divideDoubles(sum, count));
  var squares = doubleOf(0u);
  for (var i = 0u; i < tileSize(); i++) {
    let d = addDoubles(doubleOf(tileValue(i)), mean);
    squares = addDoubles(squares, multiplyDoubles(d, d));
  }
  return bitcast<f32>(floatBits(rootOf(divideDoubles(squares, count))));
}
`;

/**
 * `closeCode() -> u32` for tiles of 32, 16, … values, by sums that are exact in f32: with the largest magnitude from 2^8 to
 * 2^9, a value is a + 2^-9 b + 2^-18 c + 2^-27 d and a rest below 2^-27, with whole numbers below 2^9, and n of their products
 * are below 2^23. Σx² is taken without cc, bd and smaller products; with the rest that is less than n · 2^-15 of at least
 * 2^16, and nΣx² − (Σx)² is off by less than n · 2^-31 of nΣx², of which twice is taken.
 */
const close = `
fn closeCode() -> u32 {
  let n = tileSize();
  var amax = 0u;
  for (var i = 0u; i < n; i++) { amax = max(amax, tileValue(i) & 0x7fffffffu); }
  let field = amax >> 23u;
  if (n > 32u || (n & (n - 1u)) != 0u || field < 20u) { return undecided; }
  let factor = bitcast<f32>((262u - field) << 23u);
  var s = vec4f();
  var first = vec4f();
  var second = vec2f();
  for (var i = 0u; i < n; i++) {
    let x = bitcast<f32>(tileValue(i)) * factor;
    let a = trunc(x);
    let y = (x - a) * 512.0;
    let b = trunc(y);
    let z = (y - b) * 512.0;
    let c = trunc(z);
    let d = trunc((z - c) * 512.0);
    s += vec4f(a, b, c, d);
    first += a * vec4f(a, b, c, d);
    second += b * vec2f(b, c);
  }
  let small = first.z * ${floatText(2 ** -17)} + second.x * ${floatText(2 ** -18)} + (first.w + second.y) * ${floatText(2 ** -26)};
  let sum = addDoubles(floatDouble(s.x + s.y * ${floatText(2 ** -9)}), floatDouble((s.z + s.w * ${floatText(2 ** -9)}) * ${floatText(2 ** -18)}));
  let squares = addDoubles(addDoubles(floatDouble(first.x), floatDouble(first.y * ${floatText(2 ** -8)})), floatDouble(small));
  let most = multiplyDoubles(squares, floatDouble(f32(n)));
  let variance = addDoubles(most, negated(multiplyDoubles(sum, sum)));
  var slack = multiplyDoubles(most, floatDouble(f32(n) * ${floatText(2 ** -30)}));
  let unit = bitcast<f32>((field - 8u - countTrailingZeros(n)) << 23u);
  var codes = vec2u();
  for (var end = 0; end < 2; end++) {
    let bound = addDoubles(variance, slack);
    if (bound.negative || isZero(bound)) { return undecided; }
    codes = vec2u(codes.y, questCode(bitcast<f32>(floatBits(rootOf(bound))) * unit));
    slack = negated(slack);
  }
  return select(undecided, codes.x, codes.x == codes.y);
}
fn floatDouble(x: f32) -> Double { return doubleOf(bitcast<u32>(x)); }
`;

const power = (nearest: boolean) => `
fn questCode(deviation: f32) -> u32 {
  let bits = bitcast<u32>(questScale(deviation));
  return min((bits >> 23u) + ${nearest ? `select(0u, 1u, (bits & 0x7fffffu) > ${sqrt2Fraction}u)` : '0u'}, 254u);
}
fn estimatedCode(s: Statistics) -> u32 {
  let n = f32(tileSize());
  let mean = s.sum / n;
  let q = s.squares / n;
  let variance = q - mean * mean;
  let slack = q * ((n + 8.0) * ${floatText(2 ** -21)});
  let low = questCode(sqrt(max(variance - slack, 0.0)));
  let high = questCode(sqrt(max(variance + slack, 0.0)));
  return select(undecided, low, q < 1e37 && low == high);
}
fn exactCode() -> u32 {
  let code = closeCode();
  if (code != undecided) { return code; }
  return questCode(exactDeviation());
}
${close}`;

const single = `
fn estimatedCode(s: Statistics) -> u32 { return undecided; }
fn exactCode() -> u32 { return bitcast<u32>(questScale(exactDeviation())); }
`;

/**
 * `deviationCode(statistics) -> u32`: the stored scale. Kernels that keep the values only for the few tiles that need them
 * call `estimatedCode(statistics)` and, where that is `undecided`, `exactCode()`.
 */
export const deviationSource = ({ scale }: QuantSpec): string => `${exact}
const undecided = 0xffffffffu;
fn questScale(deviation: f32) -> f32 {
  return unfused(vec4f(deviation * ${floatText(questFactor)})).x + ${floatText(questOffset)};
}
${scale.format === 'e8m0' ? power(scale.rule === 'quest-nearest') : single}
fn deviationCode(s: Statistics) -> u32 {
  let code = estimatedCode(s);
  if (code == undecided) { return exactCode(); }
  return code;
}
`;
