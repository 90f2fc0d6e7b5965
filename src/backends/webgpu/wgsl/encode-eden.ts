// MS-EDEN in WGSL: the correction of a block's scale, rounded stochastically, with the bits of src/formats/ms-eden.ts.
//
// The reference sums squares and products in float64. Here f32 sums decide unless the random number lies within their error
// of the bound between two scales; then doubles do (double.ts). All terms are positive, so n of them are off by less than
// (n + 2) · 2^-24 of their sum, and the quotient of two sums by less than (4n + 16) · 2^-24.

import { edenMax, edenScaleMax } from '../../../formats/ms-eden.ts';
import { floatText } from './bits.ts';
import { doubleSource, doubleText } from './double.ts';

/** Statements for `own`, bits of the tensor's largest magnitude: `g`, and as `derived` what block maxima are divided by. */
export const edenTensor = `let found = floatBits(divideDoubles(doubleOf(own), ${doubleText(edenMax * edenScaleMax)}));
    let g = select(found, bitcast<u32>(1.0), found == 0u);
    let derived = floatBits(multiplyDoubles(${doubleText(edenMax)}, doubleOf(g)));`;

/**
 * `edenCode(held, codes, scale, step, u) -> u32`: the stored scale of a block of `size` values, given as bits, from their E2M1
 * codes and the scale before correction. Needs scalesSource and valueSource.
 */
export const edenSource = (size: number) => `${doubleSource}
fn stochasticScale(v: f32, u: f32) -> u32 {
  let near = scaleCode(bitcast<u32>(v));
  let low = min(near - select(0u, 1u, scaleValue(near) > v), 125u);
  let below = scaleValue(low);
  return low + select(0u, 1u, u * (scaleValue(low + 1u) - below) < v - below);
}
fn edenCode(held: array<vec4u, ${size / 4}>, codes: array<u32, ${size / 8}>, scale: f32, step: f32, u: f32) -> u32 {
  var squares = vec4f();
  var products = vec4f();
  ${Array.from(
    { length: size / 4 },
    (_, j) => `{
    let a = bitcast<vec4f>(held[${j}] & vec4u(0x7fffffffu));
    squares += a * a;
    products += a * (0.5 * doubledFp4(nibblesOf(codes[${j >> 1}] >> ${16 * (j % 2)}u) & vec4u(7u)));
  }`,
  ).join('\n  ')}
  let top = (squares.x + squares.y) + (squares.z + squares.w);
  let bottom = step * ((products.x + products.y) + (products.z + products.w));
  if (top > 1e-30 && top < 1e30 && bottom > 1e-30 && bottom < 1e30) {
    let v = scale * (top / bottom);
    let low = stochasticScale(v * ${floatText(1 - (4 * size + 16) * 2 ** -24)}, u);
    if (low == stochasticScale(v * ${floatText(1 + (4 * size + 16) * 2 ** -24)}, u)) { return low; }
  }
  /* variables only here: an array that is indexed by a variable may lie in memory */
  var h = held;
  var c = codes;
  var sum = doubleOf(0u);
  var other = doubleOf(0u);
  for (var j = 0u; j < ${size}u; j++) {
    let a = doubleOf(h[j >> 2u][j & 3u] & 0x7fffffffu);
    let level = 0.5 * doubledFp4(vec4u((c[j >> 3u] >> (4u * (j & 7u))) & 7u)).x;
    sum = addDoubles(sum, multiplyDoubles(a, a));
    other = addDoubles(other, multiplyDoubles(a, doubleOf(bitcast<u32>(level))));
  }
  if (isZero(other)) { return stochasticScale(scale, u); }
  let correction = divideDoubles(sum, multiplyDoubles(doubleOf(bitcast<u32>(step)), other));
  return stochasticScale(bitcast<f32>(floatBits(multiplyDoubles(doubleOf(bitcast<u32>(scale)), correction))), u);
}
`;
