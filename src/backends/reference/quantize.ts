// quantize and dequantize through the reference codec of src/formats, which defines what a format means.

import { clipBits } from '../../formats/clip-bits.ts';
import { dequantize as decode, quantize as encode } from '../../formats/quantize.ts';
import type { QuantizeAttributes } from '../../graph/ops/quantize.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type Kernel, numbers, packedTarget, target } from './kernel.ts';

export const quantize: Kernel<QuantizeAttributes> = ([x, step], [y, bits], { format, seed, stream, fixed, bound }) => {
  const rows = elementCount(x.shape.slice(0, -1));
  // Codecs are defined on float32 values.
  const values = Float32Array.from(numbers(x));
  const options = { seed, stream, step: step && numbers(step)[0], fixed };
  const data = encode(values, rows, x.shape[x.shape.length - 1], format, options);
  packedTarget(y).data = data;
  if (bits && bound !== undefined) target(bits).set(clipBits(values, data, bound));
};

export const selectBits: Kernel = ([x, bits], [y]) => {
  const [from, words, to] = [numbers(x), numbers(bits), target(y)];
  for (let i = 0; i < to.length; i++) to[i] = (words[i >> 5] >> (i & 31)) & 1 ? from[i] : 0;
};

export const dequantize: Kernel = ([x], [y]) => {
  // Not through numbers(): the packed value is made anew by each run, so keeping its decoded form would only cost memory.
  target(y).set(x.kind === 'packed' ? decode(x.data) : x.data);
};
