// Writing into a KV cache in place: rows, rows of a ring, and groups of tokens rounded per channel.

import { partBytes } from '../../formats/empty.ts';
import { quantize } from '../../formats/quantize.ts';
import { ringRow } from '../../graph/ops/kv-attention.ts';
import { channelSpec, type PackChannelsAttributes, type RingAttributes } from '../../graph/ops/kv-write.ts';
import { typeOfTensor } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import { checkIndex, type Kernel, numbers, packedTarget, target } from './kernel.ts';

export const cacheWrite: Kernel = ([cache, x, start], [y]) => {
  const [B, S, G, D] = cache.shape;
  const T = x.shape[1];
  const first = checkIndex('cacheWrite', 'start', numbers(start)[0], 0, S - T);
  const copyRows = <A extends Float32Array | Int32Array | Float64Array | Uint8Array>(from: A, to: A, row: number) => {
    for (let b = 0; b < B; b++) to.set(from.subarray(b * T * row, (b + 1) * T * row), (b * S + first) * row);
  };
  // The output is the cache's own memory.
  if (x.kind === 'packed') {
    const { format, codes, scales, zeroPoints } = packedTarget(y).data;
    const [codeBytes, scaleBytes, zeroBytes] = partBytes(format, G, D);
    copyRows(x.data.codes, codes, codeBytes);
    copyRows(x.data.scales, scales, scaleBytes);
    if (zeroPoints) copyRows(x.data.zeroPoints!, zeroPoints, zeroBytes);
  } else copyRows(numbers(x), target(y), elementCount(cache.shape.slice(2)));
};

export const ringWrite: Kernel<RingAttributes> = ([ring, x, start], [y], { sinks }) => {
  const [from, to] = [numbers(x), target(y)];
  const [B, W] = ring.shape;
  const T = x.shape[1];
  const row = elementCount(ring.shape.slice(2));
  const first = checkIndex('ringWrite', 'start', numbers(start)[0], 0, 2 ** 31 - 1 - T);
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++)
      to.set(from.subarray((b * T + t) * row, (b * T + t + 1) * row), (b * W + ringRow(first + t, W, sinks)) * row);
};

export const packChannels: Kernel<PackChannelsAttributes> = ([cache, ring, start], [y], { tokens, sinks }) => {
  const values = numbers(ring);
  const [B, G, D, S] = cache.shape;
  const W = ring.shape[1];
  const spec = channelSpec('packChannels', typeOfTensor(cache));
  const { size } = spec.granularity;
  const { codes, scales, zeroPoints } = packedTarget(y).data;
  const groupBytes = partBytes(spec, 1, size);
  const rowBytes = partBytes(spec, 1, S);
  const first = checkIndex('packChannels', 'start', numbers(start)[0], 0, sinks + S - tokens);
  const group = new Float32Array(size);
  for (let j = 0; (j + 1) * size <= S; j++) {
    const last = sinks + (j + 1) * size - 1;
    if (last < first || last >= first + tokens) continue;
    for (let row = 0; row < B * G * D; row++) {
      const [b, inRow] = [Math.floor(row / (G * D)), row % (G * D)];
      for (let i = 0; i < size; i++)
        group[i] = values[(b * W + ringRow(sinks + j * size + i, W, sinks)) * G * D + inRow];
      const packed = quantize(group, 1, size, spec);
      codes.set(packed.codes, row * rowBytes[0] + j * groupBytes[0]);
      scales.set(packed.scales, row * rowBytes[1] + j * groupBytes[1]);
      if (zeroPoints) zeroPoints.set(packed.zeroPoints!, row * rowBytes[2] + j * groupBytes[2]);
    }
  }
};
