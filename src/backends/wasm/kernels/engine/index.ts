import { fillKernel } from '../../kernel-ids.ts';

export function run(program: usize, count: i32, thread: i32, threads: i32): i32 {
  return count + thread + threads + <i32>load<u32>(program) + fillKernel;
}
