// The k largest entries of each row: an insertion into a sorted list of k, which most entries never enter.

import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

/** Words: x, values, indices, rows, columns, k. Ties: the lower index first. */
export function topK(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 3);
  const columns = word(args, 4);
  const k = word(args, 5);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const x = address(args, 0) + <usize>r * ((<usize>columns) << 2);
    const values = address(args, 1) + <usize>r * ((<usize>k) << 2);
    const indices = address(args, 2) + <usize>r * ((<usize>k) << 2);
    let found = 0;
    for (let i = 0; i < columns; i++) {
      const v = load<f32>(at(x, i));
      if (found == k && !(v > load<f32>(at(values, k - 1)))) continue;
      let place = found < k ? found++ : k - 1;
      for (; place > 0 && v > load<f32>(at(values, place - 1)); place--) {
        store<f32>(at(values, place), load<f32>(at(values, place - 1)));
        store<i32>(at(indices, place), load<i32>(at(indices, place - 1)));
      }
      store<f32>(at(values, place), v);
      store<i32>(at(indices, place), i);
    }
  }
}
