// Kernels that move data without computing.

import { shareEnd, shareStart } from '../common/share.ts';

/** Stores one 32-bit word `count` times. Args: out, count, word. */
export function fill(args: usize, thread: i32, threads: i32): void {
  const out = load<usize>(args);
  const count = load<i32>(args + 4);
  const word = load<i32>(args + 8);
  const end = shareEnd(count, 16, thread, threads);
  for (let i = shareStart(count, 16, thread, threads); i < end; i++) store<i32>(out + ((<usize>i) << 2), word);
}
