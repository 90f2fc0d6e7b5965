// selectBits: values where their bit is 1, else 0. Words: x, bits, y, number of values (a multiple of 32).

import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

const lowest: usize = memory.data<i32>([1, 2, 4, 8]);

export function selectBits(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const words = address(args, 1);
  const y = address(args, 2);
  const count = word(args, 3);
  const lanes = v128.load(lowest);
  const end = shareEnd(count, 32, thread, threads);
  for (let i = shareStart(count, 32, thread, threads); i < end; i += 32) {
    let bits = load<i32>(at(words, i >> 5));
    for (let k = i; k < i + 32; k += 4, bits >>= 4) {
      const keep = i32x4.eq(v128.and(i32x4.splat(bits), lanes), lanes);
      v128.store(at(y, k), v128.and(v128.load(at(x, k)), keep));
    }
  }
}
