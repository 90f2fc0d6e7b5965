// One bit for each value that a rounding did not clip: those of src/formats/clip-bits.ts, from x and the stored scales.
//
// For kernels that do not mark while they round. Thread map: a thread for each word of 32 values of a row. No workgroup
// memory, no features.

import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { forEachItem } from '../entry.ts';
import { type Command, type DenseOperand, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { accessSource, valueSource } from '../wgsl/bits.ts';
import { scaleIndex, storedScaleSource } from '../wgsl/decode.ts';
import type { Marks } from './quantize-options.ts';

/** The command for x [rows, cols] and its rounding y → bits [rows, cols / 32]. */
export function markBits(x: DenseOperand, y: PackedOperand, spec: QuantSpec, { bits, bound }: Marks): Command {
  const { rows, cols, layout } = y;
  const { tileCols } = scaleLayout(spec.granularity, rows, cols);
  const shared = tileCols >= cols || tileCols % 32 === 0;
  const limit = (n: Names, col: string) =>
    `let limit = (stored(${scaleIndex(y, spec, 'row', col)}) * bitcast<f32>(${n.y}[${layout.tensorScale / 4}u])) * words.bound;`;
  const body = (n: Names) => `let row = i / ${cols / 32}u;
  let first = i % ${cols / 32}u * 32u;
  ${shared ? limit(n, 'first') : ''}
  var word = 0u;
  for (var j = 0u; j < 32u; j++) {
    ${shared ? '' : limit(n, '(first + j)')}
    let a = bitcast<f32>(${n.x}[i * 8u + (j >> 2u)][j & 3u] & 0x7fffffffu);
    word |= select(0u, 1u << j, a < limit);
  }
  ${n.bits}[i] = word;`;
  const prelude = (n: Names) =>
    valueSource + accessSource('y', n.y) + storedScaleSource('stored', 'y', n.y, spec.scale.format, layout.scales);
  return {
    bindings: { x: read(x, 'vec4<u32>'), y: read(y), bits: write(bits, 'u32') },
    words: { bound: { f32: bound } },
    ...forEachItem((rows * cols) / 32, body, prelude),
  };
}
