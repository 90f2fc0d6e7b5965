// Rounding to bf16 that also looks for the largest magnitude, for operands of products on tensor cores (matmul-bound.ts).
//
// Bound by reading x. 256 workgroups of as many threads as a device has, up to 1024; a thread takes eight neighbours at a
// time: 32 bytes read, 16 written. Each workgroup leaves the largest finite magnitude that it wrote. Memory: workgroup, 4
// bytes a thread. No features. Bytes as of quantize-blocks.ts.

import { forEachGroup } from '../entry.ts';
import { type Command, type DenseOperand, type PackedOperand, read, write } from '../kernel.ts';
import { boundSource, boundWords, workgroupMaximum } from './matmul-bound.ts';
import { bf16Source } from './quantize-blocks.ts';

/** The count of numbers is a multiple of 8. */
export function roundBounded(
  x: DenseOperand,
  y: PackedOperand,
  bounds: DenseOperand,
  workgroupThreads: number,
): Command {
  const threads = Math.min(1024, workgroupThreads);
  const eights = (y.rows * y.cols) / 8;
  const { tensorScale } = y.layout;
  const maximum = workgroupMaximum(threads);
  return {
    label: 'bounded',
    bindings: { x: read(x, 'vec4<u32>'), y: write(y, 'vec4<u32>'), bounds: write(bounds, 'u32') },
    ...forEachGroup(
      boundWords,
      threads,
      (
        n,
      ) => `if (item == 0u && thread == 0u) { ${n.y}[${tensorScale >> 4}u].${'xyzw'[(tensorScale >> 2) % 4]} = bitcast<u32>(1.0); }
  var most = 0u;
  for (var i = item * ${threads}u + thread; i < ${eights}u; i += ${boundWords * threads}u) {
    let low = ${n.x}[2u * i];
    let high = ${n.x}[2u * i + 1u];
    let words = vec4<u32>(bf16_two(low.xy), bf16_two(low.zw), bf16_two(high.xy), bf16_two(high.zw));
    ${n.y}[i] = words;
    most = max(most, max(largest_of(words << vec4<u32>(16u)), largest_of(words & vec4<u32>(0xffff0000u))));
  }
  ${maximum.body}
  if (thread == 0u) { ${n.bounds}[item] = shared_most[0]; }`,
      `${boundSource}${bf16Source}${maximum.declaration}
fn bf16_two(bits: vec2<u32>) -> u32 { return bf16Code(bits.x) | (bf16Code(bits.y) << 16u); }
`,
    ),
  };
}
