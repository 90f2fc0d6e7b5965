// Where scales lie: every granularity is a grid of tiles, tileRows × tileCols values sharing one scale.

import { userError } from '../errors.ts';
import type { Granularity } from './format.ts';

export interface ScaleLayout {
  /** Values that share a scale: a tile of the matrix, smaller at the right and bottom edge. */
  readonly tileRows: number;
  readonly tileCols: number;
  /** The grid of scales, row-major. */
  readonly scaleRows: number;
  readonly scaleCols: number;
}

/** Divisors of K near the wanted group size, for error messages. */
function nearbyGroups(cols: number, size: number): string {
  const divisors = [];
  for (let d = 8; d <= Math.min(cols, 4 * size); d *= 2) if (cols % d === 0) divisors.push(d);
  return divisors.length > 0 ? `a group of ${divisors.slice(-3).join(' or ')}` : 'channel scales';
}

/**
 * The scale grid of a [rows, cols] matrix.
 *
 * @throws user error when a group size does not divide cols
 */
export function scaleLayout(granularity: Granularity, rows: number, cols: number): ScaleLayout {
  switch (granularity.kind) {
    case 'tensor':
      return { tileRows: rows, tileCols: cols, scaleRows: 1, scaleCols: 1 };
    case 'channel':
    case 'token':
      return { tileRows: 1, tileCols: cols, scaleRows: rows, scaleCols: 1 };
    case 'group': {
      const { size } = granularity;
      if (cols % size !== 0) {
        throw userError({
          code: 'group-does-not-divide',
          op: 'quantize',
          problem: 'the group size does not divide the reduction dimension K',
          got: `K = ${cols} with groups of ${size}`,
          fix: `use ${nearbyGroups(cols, size)}, or leave this tensor out`,
        });
      }
      return { tileRows: 1, tileCols: size, scaleRows: rows, scaleCols: cols / size };
    }
    case 'tile': {
      const { rows: tileRows, cols: tileCols } = granularity;
      return { tileRows, tileCols, scaleRows: Math.ceil(rows / tileRows), scaleCols: Math.ceil(cols / tileCols) };
    }
  }
}
