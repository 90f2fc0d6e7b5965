// quantize: which kernel rounds to which format. The bytes are those of the reference codec.
//
//   NVFP4 by four-over-six or MS-EDEN                 encodeChosen   after the tensor's maximum  quantize-chosen.ts
//   a scale fixed beforehand                          encodeFixed    one pass over the data      quantize-fixed.ts
//   one f32 scale a row, rows in whole words          encodeRows     one pass over the data      quantize-rows.ts
//   groups of 2^n · 4 … values, rows in whole words   encodeGroups   one pass over the data      quantize-groups.ts
//   other granularities, widths, signed maxima        encodeTiles    scales, then codes          quantize-tiles.ts
//   f16, bf16, f32, Q4_0, Q8_0, HiF4                  encodeBlocks                               quantize-blocks.ts
//
// The largest magnitude of a tensor, for second levels and single scales, takes a pass of its own (quantize-tensor.ts).
// encodeGroups marks what is not clipped while it rounds; after the others markBits reads the data again
// (quantize-marks.ts). Searches by error, codebooks, library conventions and IF4 have no kernel: weights are quantized to
// those ahead of time.

import type { FixedScale } from '../../../formats/fixed-scale.ts';
import type { Format, QuantSpec } from '../../../formats/format.ts';
import { formatName } from '../../../formats/registry.ts';
import type { QuantizeAttributes } from '../../../graph/ops/quantize.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type EncodeContext,
  type KernelTable,
  type MemoryRange,
  type OpKernel,
  type PackedOperand,
  packedOperand,
  read,
  rowsAndColumns,
} from '../kernel.ts';
import { fixedTensorScale, hasEncoder, tensorScaleDivisor } from '../wgsl/encode.ts';
import { encodeBlocks } from './quantize-blocks.ts';
import { chosenKind, encodeChosen } from './quantize-chosen.ts';
import { encodeFixed } from './quantize-fixed.ts';
import { encodeGroups, groupThreads } from './quantize-groups.ts';
import { markBits } from './quantize-marks.ts';
import { type Draws, isRandom, type Marks } from './quantize-options.ts';
import { encodeRows, fitsRows } from './quantize-rows.ts';
import { encodeAmax, quotientLevel, tensorWords } from './quantize-tensor.ts';
import { encodeTiles, isOneTile, tileScratchBytes } from './quantize-tiles.ts';

function hasKernel(format: Format): boolean {
  if (format.kind === 'ggml') return format.type === 'q4_0' || format.type === 'q8_0';
  return format.kind !== 'quant' || hasEncoder(format) || chosenKind(format) !== undefined;
}

const quantize: OpKernel = {
  unsupported({ attributes }) {
    const { format } = attributes as unknown as QuantizeAttributes;
    return hasKernel(format) ? undefined : `rounding to ${formatName(format)} during a run`;
  },

  scratchBytes({ attributes, inputs: [x] }) {
    const { format, fixed } = attributes as unknown as QuantizeAttributes;
    if (format.kind !== 'quant') return 0;
    const [rows, cols] = rowsAndColumns(x.type.shape);
    return usesTiles(format, rows, cols, fixed) ? tileScratchBytes(format, rows, cols) : 4 * tensorWords;
  },

  encode(context) {
    const { node, inputs, outputs, scratch } = context;
    const { format, seed, stream, bound = 0 } = node.attributes as unknown as QuantizeAttributes;
    const [x, y] = [dense(inputs, 0), packedOperand(outputs, 0)];
    if (format.kind !== 'quant') return encodeBlocks(x, y);
    if (!scratch) throw new Error('webgpu: quantize was planned without scratch memory');
    const draws: Draws = {
      words: isRandom(format) ? { seed, stream } : {},
      bindings: isRandom(format) && inputs.length > 1 ? { step: read(dense(inputs, 1)) } : {},
    };
    const marks = outputs.length > 1 ? { bits: dense(outputs, 1), bound } : undefined;
    return encodeSpec(context, x, y, format, scratch, draws, marks);
  },
};

/** Whether encodeTiles does it, which keeps its scales in scratch memory. */
const usesTiles = (spec: QuantSpec, rows: number, cols: number, fixed: FixedScale | undefined): boolean =>
  !fixed && !chosenKind(spec) && !fitsRows(spec, rows, cols) && groupThreads(spec, rows, cols) === undefined;

function encodeSpec(
  { node, gpu }: EncodeContext,
  x: DenseOperand,
  y: PackedOperand,
  spec: QuantSpec,
  scratch: MemoryRange,
  draws: Draws,
  marks: Marks | undefined,
): Command[] {
  const { fixed } = node.attributes as unknown as QuantizeAttributes;
  const afterwards = marks ? [markBits(x, y, spec, marks)] : [];
  if (fixed) return [encodeFixed(x, y, spec, fixed, draws), ...afterwards];
  if (spec.granularity.kind === 'group' && chosenKind(spec))
    return [...encodeChosen(x, y, spec, spec.granularity.size, scratch, draws), ...afterwards];
  if (fitsRows(spec, y.rows, y.cols)) return [encodeRows(x, y, spec, draws), ...afterwards];
  const share = groupThreads(spec, y.rows, y.cols);
  const one = share === undefined && isOneTile(spec, y.rows, y.cols);
  const level = fixedTensorScale(spec) === undefined ? quotientLevel(tensorScaleDivisor(spec)) : undefined;
  const amax = level || one ? encodeAmax(x, y, level, scratch) : [];
  if (share !== undefined) return [...amax, encodeGroups(x, y, spec, share, draws, marks, gpu)];
  return [...amax, ...encodeTiles(x, y, spec, scratch, draws), ...afterwards];
}

export const quantizeKernels: KernelTable = { quantize };
