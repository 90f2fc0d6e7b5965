// Rows that are routed to experts, put in the order of the experts, so that the rows of an expert are whole blocks.
//
// Each row of x takes k of E experts: N · k slots. In the sorted layout of R rows every expert that has slots starts at a
// multiple of `block` and its rows are filled up with zeros to the next one; blocks along the rows, of scales and of
// rotations, then belong to one expert each. R is what the worst routing needs, so that shapes are static:
// R = block · ⌊(N k + E (block − 1)) / block⌋.

import { applyOp } from '../apply.ts';
import { indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { i32 } from '../value-type.ts';

export interface SortByExpertAttributes {
  /** E */
  experts: number;
  block: number;
}

export interface SortedRows {
  /** i32 [R]: the slot n · k + j of each row; N · k where it is filled up. */
  readonly slots: Value;
  /** i32 [R]: the row n of each; N where it is filled up. */
  readonly rows: Value;
  /** i32 [R, 1]: the expert of each row; of rows that are filled up that of their block, E − 1 behind the last one. */
  readonly experts: Value;
  /** i32 [N, k]: the row of each slot. */
  readonly places: Value;
}

/** Inputs: indices. Outputs: slots, rows, experts, places. Indices outside 0 … E − 1 are an error when the graph runs. */
export const sortByExpertOp: OpDefinition<SortByExpertAttributes> = {
  name: 'sortByExpert',
  noGradient: 'the order of rows does not change smoothly',
  infer([indices], { experts, block }) {
    const [N, k] = indexShape('sortByExpert', 'indices', indices, 2);
    if (![experts, block].every((n) => Number.isInteger(n) && n > 0))
      throw shapeError(
        'sortByExpert',
        'bad sizes',
        `${experts} experts, block ${block}`,
        'whole numbers from 1',
        'check them',
      );
    const R = sortedRows(N * k, experts, block);
    return [i32([R]), i32([R]), i32([R, 1]), i32([N, k])];
  },
};

/** R for so many slots. */
export const sortedRows = (slots: number, experts: number, block: number): number =>
  block * Math.floor((slots + experts * (block - 1)) / block);

/** indices i32 [N, k] of `experts` experts → where their rows lie when sorted. */
export function sortByExpert(indices: Value, attributes: SortByExpertAttributes): SortedRows {
  const [slots, rows, experts, places] = applyOp(sortByExpertOp, [indices], attributes);
  return { slots, rows, experts, places };
}
