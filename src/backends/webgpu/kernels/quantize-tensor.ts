// What a whole tensor says before its tiles are rounded: largest magnitude and second-level scale.
//
// 256 partial maxima, then one. Thread map: workgroups of 256 threads over the values, four at a time where they divide; one
// workgroup over the partial maxima (halving in workgroup memory, 1 KB). No features.

import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Binding,
  type Command,
  type DenseOperand,
  type MemoryRange,
  type Names,
  type PackedOperand,
  read,
  write,
} from '../kernel.ts';
import { floatText } from '../wgsl/bits.ts';
import { divisionSource } from '../wgsl/rounding.ts';

const parts = 256;
/** Words of scratch: partial maxima, bits of the largest magnitude, what the level derives from it. */
export const wholeAt = parts;
export const derivedAt = parts + 1;
export const tensorWords = parts + 4;

export const scratchBinding = (range: MemoryRange): Binding => ({ range, access: 'write', type: 'u32' });

/** The second level of a scale: WGSL statements that declare bits `g` and `derived` from `own`, bits of the largest magnitude. */
export interface TensorLevel {
  readonly prelude: string;
  readonly statements: string;
}

/** g = fl(amax / divisor), 1 for a tensor of zeros. */
export const quotientLevel = (divisor: number): TensorLevel => ({
  prelude: '',
  statements: `let found = divided(own, bitcast<u32>(${floatText(divisor)}));
    let g = select(found, bitcast<u32>(1.0), found == 0u);
    let derived = 0u;`,
});

/** Leaves the bits of the largest magnitude in scratch; with a level, also what it derives, and g as y's tensor scale. */
export function encodeAmax(
  x: DenseOperand,
  y: PackedOperand,
  level: TensorLevel | undefined,
  scratch: MemoryRange,
): Command[] {
  const count = y.rows * y.cols;
  const vectors = count % 4 === 0;
  const groups = Math.min(parts, Math.ceil(count / 1024));
  const reduce = `
var<workgroup> most: array<u32, 256>;
fn largestOf(thread: u32, own: u32) -> u32 {
  most[thread] = own;
  for (var half = 128u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { most[thread] = max(most[thread], most[thread + half]); }
  }
  workgroupBarrier();
  return most[0];
}
`;
  const partial = (n: Names) => `var own = 0u;
  for (var i = item * 256u + thread; i < words.count; i += ${groups * 256}u) {
    ${
      vectors
        ? `let four = ${n.x}[i] & vec4u(0x7fffffffu);
    own = max(own, max(max(four.x, four.y), max(four.z, four.w)));`
        : `own = max(own, ${n.x}[i] & 0x7fffffffu);`
    }
  }
  own = largestOf(thread, own);
  if (thread == 0u) { ${n.scratch}[item] = own; }`;
  const whole = (n: Names) => `var own = 0u;
  if (thread < ${groups}u) { own = ${n.scratch}[thread]; }
  own = largestOf(thread, own);
  if (thread == 0u) {
    if (own >= 0x7f800000u) { report(${nonFiniteError}u, 0); own = 0u; }
    ${n.scratch}[${wholeAt}u] = own;
    ${
      level === undefined
        ? ''
        : `${level.statements}
    ${n.y}[${y.layout.tensorScale / 4}u] = g;
    ${n.scratch}[${derivedAt}u] = derived;`
    }
  }`;
  return [
    {
      bindings: { x: read(x, vectors ? 'vec4<u32>' : 'u32'), scratch: scratchBinding(scratch) },
      words: { count: vectors ? count / 4 : count },
      ...forEachGroup(groups, 256, partial, reduce),
    },
    {
      bindings: { scratch: scratchBinding(scratch), ...(level && { y: write(y) }) },
      reports: true,
      ...forEachGroup(1, 256, whole, reduce + divisionSource + (level?.prelude ?? '')),
    },
  ];
}
