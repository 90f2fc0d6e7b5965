// quantize: which kernel rounds to which format. The bytes are those of the reference codec.
//
//   groups of 2^n · 4 … values, rows in whole words   encodeGroups   one pass over the data     quantize-groups.ts
//   a scale fixed beforehand                          encodeFixed    one pass over the data     quantize-fixed.ts
//   one f32 scale a row, rows in whole words          encodeRows     one pass over the data     quantize-rows.ts
//   other granularities, widths, signed maxima        encodeTiles    scales, then codes         quantize-tiles.ts
//   f16, bf16, f32, Q4_0, Q8_0, HiF4                  encodeBlocks                              quantize-blocks.ts
//
// Searches, codebooks, library conventions and per-block choices have no kernel: weights are quantized to those ahead
// of time.

import type { Format } from '../../../formats/format.ts';
import { formatName } from '../../../formats/registry.ts';
import type { QuantizeAttributes } from '../../../graph/ops/quantize.ts';
import { dense, type KernelTable, type OpKernel, packedOperand, rowsAndColumns } from '../kernel.ts';
import { fixedTensorScale, hasEncoder } from '../wgsl/encode.ts';
import { encodeBlocks } from './quantize-blocks.ts';
import { encodeFixed } from './quantize-fixed.ts';
import { encodeGroups, groupThreads } from './quantize-groups.ts';
import { encodeRows, fitsRows } from './quantize-rows.ts';
import { encodeAmax, encodeTiles, tileScratchBytes } from './quantize-tiles.ts';

function hasKernel(format: Format): boolean {
  if (format.kind === 'ggml') return format.type === 'q4_0' || format.type === 'q8_0';
  return format.kind !== 'quant' || hasEncoder(format);
}

const quantize: OpKernel = {
  unsupported({ attributes, inputs, outputs }) {
    const { format } = attributes as unknown as QuantizeAttributes;
    if (inputs.length > 1) return 'stochastic rounding that changes with the step';
    if (outputs.length > 1) return 'bits of the values that were not clipped';
    return hasKernel(format) ? undefined : `rounding to ${formatName(format)} during a run`;
  },

  scratchBytes({ attributes, inputs: [x] }) {
    const { format } = attributes as unknown as QuantizeAttributes;
    return format.kind === 'quant' ? tileScratchBytes(format, ...rowsAndColumns(x.type.shape)) : 0;
  },

  encode({ node, inputs, outputs, scratch, gpu }) {
    const { format, seed, stream, fixed } = node.attributes as unknown as QuantizeAttributes;
    const [x, y] = [dense(inputs, 0), packedOperand(outputs, 0)];
    if (format.kind !== 'quant') return encodeBlocks(x, y);
    if (!scratch) throw new Error('webgpu: quantize was planned without scratch memory');
    const random: Record<string, number> = format.rounding === 'stochastic' ? { seed, stream } : {};
    if (fixed) return [encodeFixed(x, y, format, fixed, random)];
    if (fitsRows(format, y.rows, y.cols)) return [encodeRows(x, y, format, random)];
    const share = groupThreads(format, y.rows, y.cols);
    const wholeTensor = share === undefined && format.granularity.kind === 'tensor';
    const amax = fixedTensorScale(format) === undefined || wholeTensor ? encodeAmax(x, y, format, scratch) : [];
    const codes =
      share === undefined
        ? encodeTiles(x, y, format, scratch, random)
        : [encodeGroups(x, y, format, share, random, gpu)];
    return [...amax, ...codes];
  },
};

export const quantizeKernels: KernelTable = { quantize };
