// transposePacked: codes and scales at mirrored places (kernels/engine/transpose-packed.ts).

import { packedRowBytes } from '../../../formats/packing.ts';
import { movableBits } from '../../../graph/ops/transpose-packed.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { mirroredScales } from '../../mirrored-scales.ts';
import type { OpEncoder } from '../encoder.ts';
import { transposePackedKernel } from '../kernel-ids.ts';

export const transposePackedEncoder: OpEncoder = {
  encode({ inputs: [x], outputs: [y] }) {
    if (x.dtype !== 'packed' || y.dtype !== 'packed') throw new Error('encoder: transposePacked of a dense value');
    const [M, K] = x.shape.slice(-2);
    const bits = movableBits(x.format) ?? 8;
    const { count, rows, cols, size } = mirroredScales(x.format, x.shape);
    const codes = [x.codes, y.codes, elementCount(x.shape.slice(0, -2)), M, K, bits];
    const strides = [packedRowBytes(bits, K), packedRowBytes(bits, M)];
    const scales = [x.scales, y.scales, count, rows, cols, size];
    const args = [...codes, ...strides, ...scales, x.tensorScale, y.tensorScale];
    return [{ kernel: transposePackedKernel, args }];
  },
};
