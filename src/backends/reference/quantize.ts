// quantize and dequantize through the reference codec of src/formats, which defines what a format means.

import { dequantize as decode, quantize as encode } from '../../formats/quantize.ts';
import type { QuantizeAttributes } from '../../graph/ops/quantize.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type Kernel, numbers, packedTarget, target } from './kernel.ts';

export const quantize: Kernel<QuantizeAttributes> = ([x], [y], { format, seed, stream, fixed }) => {
  const rows = elementCount(x.shape.slice(0, -1));
  // Codecs are defined on float32 values.
  const values = Float32Array.from(numbers(x));
  packedTarget(y).data = encode(values, rows, x.shape[x.shape.length - 1], format, { seed, stream, fixed });
};

export const dequantize: Kernel = ([x], [y]) => {
  // Not through numbers(): the packed value is made anew by each run, so keeping its decoded form would only cost memory.
  target(y).set(x.kind === 'packed' ? decode(x.data) : x.data);
};
