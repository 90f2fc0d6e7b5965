// The largest magnitude of an operand, for the power of two that brings it into f16.
//
// boundCommand: 256 workgroups an operand, each the maximum of its share, as the bits of an f32 (not of NaN and
// infinities, which stay what they are under any factor). boundSetup: the workgroups of a product join the 256 parts.
// Under E8M0 scales only the scales are read: the largest element times a scale bounds its block.

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
      bits: (n) => `largest_scale(${n.x}[i], ${bytes}u - 4u * i, ${mx}u)`,
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
  shared_most[thread] = most;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { shared_most[thread] = max(shared_most[thread], shared_most[thread + half]); }
  }
  if (thread == 0u) { ${n.bounds}[item] = shared_most[0]; }`,
      (n) => `${decoder(n)}${boundSource}
var<workgroup> shared_most: array<u32, ${threads}>;`,
    ),
  };
}

export const boundSource = `
fn largest_of(bits: vec4<u32>) -> u32 {
  let magnitudes = bits & vec4<u32>(0x7fffffffu);
  let finite = select(vec4<u32>(), magnitudes, magnitudes < vec4<u32>(0x7f800000u));
  return max(max(finite.x, finite.y), max(finite.z, finite.w));
}
fn largest_scale(word: u32, left: u32, exponent: u32) -> u32 {
  let codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
  let counted = select(vec4<u32>(), codes, (codes != vec4<u32>(255u)) & (vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left)));
  let most = max(max(counted.x, counted.y), max(counted.z, counted.w));
  return min(most + exponent, 254u) << 23u;
}
`;
const eightBits = `
fn largest_eight(eight: Eight) -> u32 {
  return max(largest_of(bitcast<vec4<u32>>(eight.low)), largest_of(bitcast<vec4<u32>>(eight.high)));
}
`;

/**
 * Declares for a and b, where the array of their parts is given: NAME_factor = 2^f with the largest magnitude · 2^f in
 * [2^14, 2^15), NAME_inverse = 2^-f, NAME_exponent = f − 128.
 */
export function boundSetup(
  subgroups: number,
  lanes: number,
  parts: readonly [a: string | undefined, b: string | undefined],
): { prelude: string; body: string } {
  const used = parts.flatMap((array, i) => (array === undefined ? [] : [{ name: 'ab'[i], part: 'xy'[i] }]));
  if (used.length === 0) return { prelude: '', body: '' };
  const read = (array: string | undefined) => (array === undefined ? '0u' : `${array}[i]`);
  return {
    prelude: `
var<workgroup> bound_parts: array<vec2<u32>, ${subgroups}>;
fn bound_exponent(bits: u32) -> i32 { return select(clamp(141 - i32(bits >> 23u), -112, 126), 0, bits == 0u); }
`,
    body: `var most = vec2<u32>();
  for (var i = thread; i < ${boundWords}u; i += ${lanes * subgroups}u) {
    most = max(most, vec2<u32>(${read(parts[0])}, ${read(parts[1])}));
  }
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
