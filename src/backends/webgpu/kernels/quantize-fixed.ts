// quantize with a scale, and perhaps a zero point, that were fixed beforehand for the whole tensor: one pass.
//
// Thread map: a thread for each word of codes. No workgroup memory, no features.

import type { FixedScale } from '../../../formats/fixed-scale.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { type Command, type DenseOperand, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { encodeSource } from '../wgsl/encode.ts';
import type { Draws } from './quantize-options.ts';
import { codeWord, codeWords } from './quantize-tiles.ts';

/** The command for x [rows, cols] → y under a fixed f32 scale. */
export function encodeFixed(
  x: DenseOperand,
  y: PackedOperand,
  spec: QuantSpec,
  { scale, zeroPoint = 0 }: FixedScale,
  draws: Draws,
): Command {
  const { cols, layout } = y;
  const zero = spec.zeroPoint === 'none' ? '' : `${layout.zeroPoints / 4}u`;
  const body = (n: Names) => `if (i == 0u) {
    ${n.y}[${layout.scales / 4}u] = bitcast<u32>(words.scale);
    ${zero && `${n.y}[${zero}] = words.zero;`}
    ${n.y}[${layout.tensorScale / 4}u] = bitcast<u32>(1.0);
  }
  ${codeWord(
    y,
    spec,
    n,
    `if ((${n.x}[row * ${cols}u + col] & 0x7fffffffu) >= 0x7f800000u) { report(${nonFiniteError}u, i32(row)); }
    let tile = tileOf(0u, words.scale, 0.0, i32(words.zero), 0u);`,
  )}`;
  return {
    bindings: { x: read(x, 'u32'), y: write(y), ...draws.bindings },
    words: { ...draws.words, scale: { f32: scale }, zero: zeroPoint },
    reports: true,
    ...forEachItem(codeWords(y, spec), body, (n) => valueSource + unfusedSource + encodeSource(spec, n.step)),
  };
}
