// WGSL with f16 as WGSL with f32: numbers are rounded where their bits are taken. That gives the bits of f16 arithmetic
// where one rounding is all there is, as in our kernels: products of two f16 are exact in f32. That to f16 is written out, since WGSL does
// not say how its own rounds; that from f16 is WGSL's.

import { replaceCalls } from './wgsl-calls.ts';

const conversions = `
fn emulated_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let m = bits & 0x7fffffffu;
  if (m > 0x7f800000u) { return 0x7e00u; }
  if (m >= 0x477ff000u) { return sign | 0x7c00u; }
  if (m < 0x38800000u) { return sign | u32(round(abs(x) * 16777216.0)); }
  let shifted = m - 0x38000000u;
  return sign | ((shifted + 0xfffu + ((shifted >> 13u) & 1u)) >> 13u);
}
fn emulated_pack(x: vec2<f32>) -> u32 { return emulated_bits(x.x) | (emulated_bits(x.y) << 16u); }
`;

/** Reads of an array of f16 as reads of words. */
function wordsOf(code: string, name: string): string {
  const declared = code.replace(new RegExp(`\\b${name}: array<f16>`), `${name}: array<u32>`);
  return declared.replace(
    new RegExp(`\\b${name}\\[([^[\\]]*)\\]`, 'g'),
    (_, at) => `unpack2x16float(${name}[(${at}) / 2u])[(${at}) % 2u]`,
  );
}

export function emulateHalves(code: string): string {
  const pair = /\bvec2<f16>/;
  const pairs = new Set([...code.matchAll(/\blet (\w+) = [^;]*\bvec2<f16>[^;]*;/g)].map(([, name]) => name));
  let text = replaceCalls(code, 'bitcast', ({ template, args: [value] }) => {
    if (template === 'u32' && (pair.test(value) || pairs.has(value))) return `emulated_pack(${unpacked(value)})`;
    return `bitcast<${template}>(${value})`;
  });
  text = unpacked(text);
  for (const [, name] of text.matchAll(/\b(\w+): array<f16>/g)) text = wordsOf(text, name);
  return `${text.replace(/\bf16\b/g, 'f32').replace(/\b(\d[\d.]*)h\b/g, '$1f')}\n${conversions}`;
}

const unpacked = (code: string) => code.replace(/\bbitcast<vec2<f16>>\(/g, 'unpack2x16float(');
