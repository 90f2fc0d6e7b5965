// Slots in the order of their experts, each expert from a multiple of the block on.

import type { SortByExpertAttributes } from '../../graph/ops/sort-by-expert.ts';
import { checkIndex, type Kernel, numbers, target } from './kernel.ts';

export const sortByExpert: Kernel<SortByExpertAttributes> = (
  [indices],
  [slots, rows, experts, places],
  { experts: E, block },
) => {
  const expert = numbers(indices);
  const [N, k] = indices.shape;
  target(slots).fill(N * k);
  target(rows).fill(N);
  target(experts).fill(E - 1);
  let at = 0;
  for (let e = 0; e < E; e++) {
    const first = at;
    expert.forEach((found, slot) => {
      checkIndex('sortByExpert', `expert index at position ${slot}`, found, 0, E - 1);
      if (found !== e) return;
      target(slots)[at] = slot;
      target(rows)[at] = Math.floor(slot / k);
      target(places)[slot] = at++;
    });
    at = Math.ceil(at / block) * block;
    target(experts).fill(e, first, at);
  }
};
