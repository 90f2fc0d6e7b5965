// Rotary position embedding, both pairings.

import type { RopeAttributes } from '../../graph/ops/rope.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const rope: Kernel<RopeAttributes> = ([x, positions, inverseFrequencies], [y], { style, magnitude }) => {
  const [from, position, frequency, to] = [numbers(x), numbers(positions), numbers(inverseFrequencies), target(y)];
  const [, , H, D] = x.shape;
  const half = frequency.length;
  to.set(from); // dimensions that are not rotated
  for (let row = 0; row < position.length; row++) {
    for (let h = 0; h < H; h++) {
      const first = (row * H + h) * D;
      for (let i = 0; i < half; i++) {
        const angle = position[row] * frequency[i];
        const [cos, sin] = [magnitude * Math.cos(angle), magnitude * Math.sin(angle)];
        const at = first + (style === 'half' ? i : 2 * i);
        const partner = at + (style === 'half' ? half : 1);
        to[at] = from[at] * cos - from[partner] * sin;
        to[partner] = from[partner] * cos + from[at] * sin;
      }
    }
  }
};
