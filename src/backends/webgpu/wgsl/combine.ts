// Sums, maxima and first places over the threads of a workgroup, by halving in workgroup memory or by subgroups.

import type { GpuTraits } from '../device.ts';

/**
 * Declares `NAME(thread, value) -> TYPE`: the combination of every thread's value, given to all of them. Call it in
 * uniform control flow. `expression` combines a and b.
 */
function combineSource(name: string, threads: number, expression: string, type = 'f32'): string {
  return `
var<workgroup> ${name}Parts: array<${type}, ${threads}>;
fn ${name}Pair(a: ${type}, b: ${type}) -> ${type} { return ${expression}; }
fn ${name}(thread: u32, value: ${type}) -> ${type} {
  workgroupBarrier();
  ${name}Parts[thread] = value;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { ${name}Parts[thread] = ${name}Pair(${name}Parts[thread], ${name}Parts[thread + half]); }
  }
  workgroupBarrier();
  return ${name}Parts[0];
}
`;
}

/** `total(thread, value)`: the sum. */
export const totalSource = (threads: number) => combineSource('total', threads, 'a + b');

/**
 * `rowTotal(thread, value)`: sums over each `threads` neighbouring threads of a workgroup of `all`, given to each of them.
 * Call it in uniform control flow. By halving in workgroup memory, or where `subgroup` threads, a power of two, are a
 * subgroup: by its own sums, of which there are `threads / subgroup` in workgroup memory; needs `subgroups` enabled, and
 * relies on a subgroup being neighbouring threads, as one-dimensional workgroups have them.
 */
export function rowTotalSource(
  threads: number,
  all: number,
  type: 'f32' | 'vec4f' = 'vec4f',
  subgroup: number | undefined = undefined,
): string {
  if (subgroup === undefined || subgroup > threads)
    return `
var<workgroup> rowParts: array<${type}, ${all}>;
fn rowTotal(thread: u32, value: ${type}) -> ${type} {
  workgroupBarrier();
  rowParts[thread] = value;
  let lane = thread % ${threads}u;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { rowParts[thread] += rowParts[thread + half]; }
  }
  workgroupBarrier();
  return rowParts[thread - lane];
}
`;
  const parts = threads / subgroup;
  if (parts === 1) return `fn rowTotal(thread: u32, value: ${type}) -> ${type} { return subgroupAdd(value); }\n`;
  return `
var<workgroup> rowParts: array<${type}, ${all / subgroup}>;
fn rowTotal(thread: u32, value: ${type}) -> ${type} {
  let mine = subgroupAdd(value);
  workgroupBarrier();
  if (thread % ${subgroup}u == 0u) { rowParts[thread / ${subgroup}u] = mine; }
  workgroupBarrier();
  let first = thread / ${threads}u * ${parts}u;
  var sum = rowParts[first];
  for (var part = 1u; part < ${parts}u; part++) { sum += rowParts[first + part]; }
  return sum;
}
`;
}

/** Threads of a subgroup where the adapter has subgroups of one size, a power of two. */
export function fixedSubgroup({ features, subgroupMinSize, subgroupMaxSize }: GpuTraits): number | undefined {
  const isFixed = subgroupMinSize === subgroupMaxSize && Number.isInteger(Math.log2(subgroupMinSize));
  return features.has('subgroups') && isFixed ? subgroupMinSize : undefined;
}

/** `largest(thread, value)`: the maximum, NaN when there is one. Needs mathSource. */
export const largestSource = (threads: number) => combineSource('largest', threads, 'larger(a, b)');

/**
 * `plus(sum, value)`: adds to a sum of two floats, the second being what rounding took from the first (Knuth, The Art of
 * Computer Programming 2, 4.2.2, theorem B), so that the result of thousands of terms is as good as one rounding. Drivers
 * may reorder sums, after which nothing is left over (NVIDIA's does), so each step passes through bits that no compiler
 * can foresee: `words.items` is never 2^32 − 1.
 */
export const plusSource = `
fn kept(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) ^ select(0u, 1u, words.items == 0xffffffffu)); }
fn plus(sum: vec2f, value: f32) -> vec2f {
  let s = kept(sum.x + value);
  let part = kept(s - sum.x);
  return vec2f(s, sum.y + (kept(sum.x - kept(s - part)) + kept(value - part)));
}
`;

/** `exactTotal(thread, sum)`: the sum of sums made by plus, still in two parts. Needs plusSource. */
export const exactTotalSource = (threads: number) =>
  combineSource('exactTotal', threads, 'plus(plus(a, b.x), b.y)', 'vec2f');

/**
 * Places in an order as whole numbers, so that NaN and infinities compare like the rest: placed(x, i) of the number x at
 * index i; NaN comes last. `firstLargest(thread, place)` gives the largest number's place, at equal numbers that of the
 * lower index. `nowhere` comes after all.
 */
export const firstLargestSource = (threads: number) => `
const nowhere = vec2u(0u, 0xffffffffu);
fn placed(x: f32, index: u32) -> vec2u {
  let bits = bitcast<u32>(x);
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return vec2u(0u, index); }
  return vec2u(select(0x80000000u + magnitude, 0x80000000u - magnitude, bits > 0x80000000u), index);
}
fn isBefore(a: vec2u, b: vec2u) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }
${combineSource('firstLargest', threads, 'select(b, a, isBefore(a, b))', 'vec2u')}`;
