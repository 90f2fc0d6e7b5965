// Rounding to a grid whose step is an operand, its gradients, and the smoothed slope of rounding to a format.

import { scaleLayout } from '../../formats/layout.ts';
import { decodeScale, readScale } from '../../formats/scale-format.ts';
import { type DgeAttributes, edgeSlack, roundingLevels } from '../../graph/ops/dge.ts';
import type { FakeQuantizeAttributes } from '../../graph/ops/fake-quantize.ts';
import { broadcastIndex } from './elementwise.ts';
import { type Kernel, numbers, packedTarget, target } from './kernel.ts';

/** To nearest, ties to even, of a number below 2^52. */
export function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** The level of z, in steps. */
const levelOf = (z: number, { low, high, shift }: FakeQuantizeAttributes) =>
  roundToEven(Math.min(Math.max(z, low), high) - shift) + shift;

export const fakeQuantize: Kernel<FakeQuantizeAttributes> = ([x, step], [y], grid) => {
  const [from, steps, to] = [numbers(x), numbers(step), target(y)];
  const at = broadcastIndex(step.shape, x.shape);
  for (let i = 0; i < to.length; i++) {
    const s = Math.max(steps[at(i)], grid.epsilon);
    to[i] = s * levelOf(from[i] / s, grid);
  }
};

export const fakeQuantizeBackward: Kernel<FakeQuantizeAttributes> = ([x, step, dy], [dx, shares], grid) => {
  const [from, steps, incoming] = [numbers(x), numbers(step), numbers(dy)];
  const [toX, toShares] = [target(dx), target(shares)];
  const at = broadcastIndex(step.shape, x.shape);
  for (let i = 0; i < toX.length; i++) {
    const z = from[i] / Math.max(steps[at(i)], grid.epsilon);
    const inside = z >= grid.low && z <= grid.high;
    toX[i] = inside ? incoming[i] : 0;
    toShares[i] = incoming[i] * (inside ? levelOf(z, grid) - z : grid.edge * levelOf(z, grid));
  }
};

export const dgeBackward: Kernel<DgeAttributes> = ([x, y, dy], [dx], { k, cap }) => {
  const [from, incoming, to] = [numbers(x), numbers(dy), target(dx)];
  const { format, rows, cols, scales, tensorScale } = packedTarget(y).data;
  if (format.kind !== 'quant') throw new Error('dgeBackward: the format has no scaled levels');
  const levels = roundingLevels(format);
  const { tileRows, tileCols, scaleCols } = scaleLayout(format.granularity, rows, cols);
  for (let i = 0; i < to.length; i++) {
    const [row, col] = [Math.floor(i / cols), i % cols];
    const at = Math.floor(row / tileRows) * scaleCols + Math.floor(col / tileCols);
    const scale = decodeScale(format.scale.format, readScale(format.scale.format, scales, at)) * tensorScale;
    to[i] = slope(scale === 0 ? 0 : from[i] / scale, levels, k, cap) * incoming[i];
  }
};

function slope(z: number, levels: Float64Array, k: number, cap: number): number {
  const last = levels.length - 1;
  if (z < levels[0] * (1 + edgeSlack) || z > levels[last] * (1 + edgeSlack)) return 0;
  let j = 0;
  while (j < last - 1 && z >= levels[j + 1]) j++;
  const u = Math.abs((2 * (z - levels[j])) / (levels[j + 1] - levels[j]) - 1);
  return Math.min(u ** (1 / k - 1) / k, cap);
}
