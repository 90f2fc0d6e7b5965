// The largest magnitude of an operand, for the power of two that brings it into f16.
//
// boundCommand: 256 workgroups an operand, each the maximum of its share, as the bits of an f32 (not of NaN and
// infinities, which stay what they are under any factor). boundSetup: the workgroups of a product join the 256 parts.
// Under E8M0 scales only the scales are read: the largest element times a scale bounds its block. They are so few that a
// workgroup of a product reads those of its own tiles (scanScales) and no command goes before.

import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Binding,
  type Command,
  type MemoryRange,
  type Names,
  type Operand,
  type PackedOperand,
  read,
} from '../kernel.ts';
import { toScratch } from '../scratch.ts';
import { decodeSource } from '../wgsl/decode.ts';
import type { TileScope } from './matmul-subgroup.ts';
import { mxLargest, type OperandStorage } from './operand-storage.ts';

/** Parts of one operand. */
export const boundWords = 256;
const threads = 256;

/** What an operand binds, how many items are read and the bits of the largest magnitude of item `i`. */
function reader(
  operand: Operand,
  storage: OperandStorage,
): {
  binding: Binding;
  items: number;
  bits: (n: Names) => string;
} {
  const count = elementCount(operand.shape);
  const mx = mxLargest[storage];
  if (mx !== undefined) {
    const { range, layout } = operand as PackedOperand;
    const scales = {
      buffer: range.buffer,
      offset: range.offset + layout.scales,
      bytes: layout.zeroPoints - layout.scales,
    };
    const bytes = layout.scalesBytes;
    return {
      binding: { range: scales, access: 'read', type: 'u32' },
      items: Math.ceil(bytes / 4),
      bits: (n) => `largest_scale(${n.x}[i], 4u * i, 0u, ${bytes}u, ${mx}u)`,
    };
  }
  if (storage === 'f32')
    return {
      binding: read(operand, 'vec4<f32>'),
      items: Math.floor(count / 4),
      bits: (n) => `largest_of(bitcast<vec4<u32>>(${n.x}[i]))`,
    };
  if (storage === 'bf16')
    return {
      binding: { range: operand.range, access: 'read', type: 'vec4<u32>' },
      items: count / 8,
      bits: (n) => `max(largest_of(${n.x}[i] << vec4<u32>(16u)), largest_of(${n.x}[i] & vec4<u32>(0xffff0000u)))`,
    };
  const { cols } = operand as PackedOperand;
  return {
    binding: read(operand),
    items: count / 8,
    bits: () => `largest_eight(xEight(i / ${cols / 8}u, i % ${cols / 8}u * 8u))`,
  };
}

/** Fills `bounds` with 256 parts of the operand's bound. The count of a dense operand is a multiple of 4. */
export function boundCommand(operand: Operand, storage: OperandStorage, bounds: MemoryRange): Command {
  const { binding, items, bits } = reader(operand, storage);
  const maximum = workgroupMaximum(threads);
  const decoder = (n: Names) =>
    storage === 'eight' && operand.dtype === 'packed'
      ? decodeSource([{ prefix: 'x', array: n.x, matrix: operand }]) + eightBits
      : '';
  return {
    bindings: { x: binding, bounds: toScratch(bounds, 'u32') },
    ...forEachGroup(
      boundWords,
      threads,
      (n) => `var most = 0u;
  for (var i = item * ${threads}u + thread; i < ${items}u; i += ${boundWords * threads}u) { most = max(most, ${bits(n)}); }
  ${maximum.body}
  if (thread == 0u) { ${n.bounds}[item] = shared_most[0]; }`,
      (n) => `${decoder(n)}${boundSource}${maximum.declaration}`,
    ),
  };
}

/** Takes `most` of every thread, a power of two of them, and leaves the largest in `shared_most[0]` of thread 0. */
export const workgroupMaximum = (threads: number) => ({
  declaration: `\nvar<workgroup> shared_most: array<u32, ${threads}>;`,
  body: `shared_most[thread] = most;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { shared_most[thread] = max(shared_most[thread], shared_most[thread + half]); }
  }`,
});

/** Bytes low … high − 1 of the scales count; `word` begins with byte `index`. Codes of NaN do not. */
const scaleSource = `
fn largest_scale(word: u32, index: u32, low: u32, high: u32, exponent: u32) -> u32 {
  let codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
  let at = vec4<u32>(index) + vec4<u32>(0u, 1u, 2u, 3u);
  let within = (at >= vec4<u32>(low)) & (at < vec4<u32>(high));
  let counted = select(vec4<u32>(), codes, within & (codes != vec4<u32>(255u)));
  let most = max(max(counted.x, counted.y), max(counted.z, counted.w));
  return min(most + exponent, 254u) << 23u;
}
`;

export const boundSource = `
fn largest_of(bits: vec4<u32>) -> u32 {
  let magnitudes = bits & vec4<u32>(0x7fffffffu);
  let finite = select(vec4<u32>(), magnitudes, magnitudes < vec4<u32>(0x7f800000u));
  return max(max(finite.x, finite.y), max(finite.z, finite.w));
}
${scaleSource}`;
const eightBits = `
fn largest_eight(eight: Eight) -> u32 {
  return max(largest_of(bitcast<vec4<u32>>(eight.low)), largest_of(bitcast<vec4<u32>>(eight.high)));
}
`;

/** Statements that raise `most`, a u32, to the bits of an operand's bound; run by all threads of a workgroup. */
export type BoundPart = (most: string, threads: number) => string;

/** Joins the parts that boundCommand has left in an array. */
export const readBound =
  (array: string): BoundPart =>
  (most, threads) =>
    `for (var i = thread; i < ${boundWords}u; i += ${threads}u) { ${most} = max(${most}, ${array}[i]); }`;

/** `begin` and `end`, multiples of 32, are in scope. */
export interface ScannedScales extends TileScope {
  readonly storage: OperandStorage;
  /** WGSL name of the bytes of E8M0, four a u32. */
  readonly scales: string;
}

/** Reads the scales of a tile's lines between `begin` and `end`. */
export function scanScales(scanned: ScannedScales): BoundPart {
  const { storage, scales, firstLine, origin, tileLines, lines, K, slice } = scanned;
  const whole = slice % 128 === 0 && K % 128 === 0;
  const words = Math.ceil(slice / 128) + (whole ? 0 : 1);
  return (most, threads) => `for (var i = thread; i < ${tileLines * words}u && begin < end; i += ${threads}u) {
    let low = (${firstLine} + min(${origin} + i / ${words}u, ${lines - 1}u)) * ${K / 32}u + begin / 32u;
    let high = low + (end - begin) / 32u;
    let word = min(low / 4u + i % ${words}u, (high - 1u) / 4u);
    ${most} = max(${most}, largest_scale(${scales}[word], 4u * word, low, high, ${mxLargest[storage]}u));
  }`;
}

/**
 * Declares for a and b, where there is a part: NAME_factor = 2^f with the largest magnitude · 2^f in [2^14, 2^15),
 * NAME_inverse = 2^-f, NAME_exponent = f − 128.
 */
export function boundSetup(
  subgroups: number,
  lanes: number,
  parts: readonly [a: BoundPart | undefined, b: BoundPart | undefined],
): { prelude: string; body: string } {
  const used = parts.flatMap((raise, i) => (raise ? [{ raise, name: 'ab'[i], part: 'xy'[i] }] : []));
  if (used.length === 0) return { prelude: '', body: '' };
  return {
    prelude: `
var<workgroup> bound_parts: array<vec2<u32>, ${subgroups}>;
fn bound_exponent(bits: u32) -> i32 { return select(clamp(141 - i32(bits >> 23u), -112, 126), 0, bits == 0u); }
${scaleSource}`,
    body: `var most = vec2<u32>();
  ${used.map(({ raise, part }) => raise(`most.${part}`, lanes * subgroups)).join('\n  ')}
  most = subgroupMax(most);
  if (lane == 0u) { bound_parts[subgroup] = most; }
  workgroupBarrier();
  for (var i = 0u; i < ${subgroups}u; i++) { most = max(most, bound_parts[i]); }
  ${used
    .map(
      ({ name, part }) => `let ${name}_f = bound_exponent(most.${part});
  let ${name}_factor = bitcast<f32>(u32(127 + ${name}_f) << 23u);
  let ${name}_inverse = bitcast<f32>(u32(127 - ${name}_f) << 23u);
  let ${name}_exponent = ${name}_f - 128;`,
    )
    .join('\n  ')}`,
  };
}
