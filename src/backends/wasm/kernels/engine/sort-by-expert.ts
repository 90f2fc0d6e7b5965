// Slots in the order of their experts, each expert from a multiple of the block on. One thread: a few words a slot.
//
// Words: list of expertSort (experts + 1 offsets, then the slots by expert), slots, rows, experts (rows of each), places,
// number of slots, slots of a row, number of experts, block, rows of the result.

import { address, at, word } from '../common/args';

export function sortByExpert(args: usize, thread: i32): void {
  if (thread != 0) return;
  const offsets = address(args, 0);
  const slots = address(args, 1);
  const rows = address(args, 2);
  const experts = address(args, 3);
  const places = address(args, 4);
  const count = word(args, 5);
  const perRow = word(args, 6);
  const E = word(args, 7);
  const block = word(args, 8);
  const R = word(args, 9);
  const list = at(offsets, E + 1);
  let r = 0;
  for (let e = 0; e < E; e++) {
    const end = load<i32>(at(offsets, e + 1));
    for (let i = load<i32>(at(offsets, e)); i < end; i++, r++) {
      const slot = load<i32>(at(list, i));
      store<i32>(at(slots, r), slot);
      store<i32>(at(rows, r), slot / perRow);
      store<i32>(at(experts, r), e);
      store<i32>(at(places, slot), r);
    }
    for (; r % block != 0; r++) fillUp(r, e, count, perRow, slots, rows, experts);
  }
  for (; r < R; r++) fillUp(r, E - 1, count, perRow, slots, rows, experts);
}

// @ts-ignore: decorator
@inline
function fillUp(r: i32, e: i32, count: i32, perRow: i32, slots: usize, rows: usize, experts: usize): void {
  store<i32>(at(slots, r), count);
  store<i32>(at(rows, r), count / perRow);
  store<i32>(at(experts, r), e);
}
