// quantize, dequantize and the Hadamard transform.

import { parseFormat } from '../../formats/registry.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import type { OpCase } from '../op-case.ts';
import { dense, weightFormats } from './common.ts';

export const quantizeCases: OpCase[] = [
  ...[...weightFormats, 'int8-token', 'hif4'].map((format) =>
    dense(`quantize ${format}`, [[3, 5, 64]], 'exact', (a) => dequantize(quantize(a, parseFormat(format)))),
  ),
  dense('quantize reshaped', [[6, 32]], 'exact', (a) => {
    const q = reshape(quantize(a, parseFormat('mxfp4')), [2, 3, 32]);
    return dequantize(q);
  }),
  dense('quantize stochastic', [[4, 64]], 'exact', (a) =>
    dequantize(quantize(a, parseFormat('mxfp4-sr'), { seed: 7, stream: 3 })),
  ),
  dense('quantize zeros', [[2, 32]], 'exact', (a) => dequantize(quantize(a, parseFormat('mxfp4'))), {
    a: new Float32Array(64),
  }),
];

export const hadamardCases: OpCase[] = [
  ...[1, 2, 8, 32].map((n) => dense(`hadamard blocks of ${n}`, [[3, 96]], 2e-6, (a) => hadamard(a, { blockSize: n }))),
  dense('hadamard one large block', [[2, 256]], 2e-6, (a) => hadamard(a, { blockSize: 256 })),
  dense('hadamard with signs', [[5, 48], [16]], 2e-6, (a, signs) => hadamard(a, { blockSize: 16, signs }), {
    b: Float32Array.from({ length: 16 }, (_, i) => ((i * 7) % 3 === 0 ? -1 : 1)),
  }),
];
