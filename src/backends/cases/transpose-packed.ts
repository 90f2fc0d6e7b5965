// Transposes of packed matrices: all widths of codes, edges of tiles, odd sizes, several matrices, then the product.

import { parseFormat } from '../../formats/registry.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { transposePacked } from '../../graph/ops/transpose-packed.ts';
import type { Shape } from '../../tensor/shape.ts';
import type { OpCase } from '../op-case.ts';
import { dense } from './common.ts';

const shapes: readonly (readonly [format: string, shape: Shape])[] = [
  ['nvfp4-2d', [48, 64]],
  ['nvfp4-2d', [24, 40]],
  ['nvfp4-2d', [17, 31]],
  ['nvfp4-2d', [2, 3, 32, 48]],
  ['int8-tensor', [40, 72]],
  ['int8-tensor', [3, 5, 7]],
  ['int4-tensor', [9, 13]],
  ['fp8-e4m3-tensor', [33, 30]],
  ['fp8-e4m3-tile128x128', [130, 260]],
  ['bf16', [8, 12]],
  ['f16', [7, 5]],
  ['bf16', [2, 9, 3]],
  ['bf16', [12, 40]],
  ['f16', [2, 7, 24]],
  ['bf16', [69, 100]],
];

export const transposePackedCases: OpCase[] = [
  ...shapes.map(([format, shape]) =>
    dense(`transposePacked ${format} [${shape}]`, [shape], 'exact', (a) =>
      dequantize(transposePacked(quantize(a, parseFormat(format)))),
    ),
  ),
  dense(
    'transposePacked, product on codes',
    [
      [20, 48],
      [48, 64],
    ],
    1e-6,
    (e, w) =>
      matmul(quantize(e, parseFormat('nvfp4')), transposePacked(quantize(w, parseFormat('nvfp4-2d'))), {
        transposeB: true,
      }),
  ),
  dense('transposePacked twice', [[32, 48]], 'exact', (a) => {
    const codes = quantize(a, parseFormat('nvfp4-2d'));
    return transpose(dequantize(transposePacked(transposePacked(codes))), [1, 0]);
  }),
];
