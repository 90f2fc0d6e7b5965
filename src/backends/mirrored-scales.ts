// Which scales a transposed packed matrix has: grids that are mirrored like the codes.

import type { Format } from '../formats/format.ts';
import { scaleLayout } from '../formats/layout.ts';
import { scaleBytes } from '../formats/scale-format.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';

export interface ScaleGrids {
  /** Grids, one a matrix, or one for all. */
  readonly count: number;
  readonly rows: number;
  readonly cols: number;
  /** Bytes of a scale. */
  readonly size: number;
}

/** The grids of scales of matrices [..., M, K] in a format that isTransposable admits. */
export function mirroredScales(format: Format, shape: Shape): ScaleGrids {
  if (format.kind !== 'quant') return { count: 0, rows: 0, cols: 0, size: 1 };
  const size = scaleBytes(format.scale.format);
  if (format.granularity.kind === 'tensor') return { count: 1, rows: 1, cols: 1, size };
  const [M, K] = shape.slice(-2);
  const { scaleRows, scaleCols } = scaleLayout(format.granularity, M, K);
  return { count: elementCount(shape.slice(0, -2)), rows: scaleRows, cols: scaleCols, size };
}
