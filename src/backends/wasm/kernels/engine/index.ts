// The command walker: runs a compiled step.
//
// A program is a table of (kernel id, address of the argument block), 8 bytes each. Every thread walks the whole table
// and calls each kernel with (args, thread, threads); a kernel takes its share of the rows, and a barrier separates a
// command from the next. A replay therefore does no work outside this loop and allocates nothing.

import {
  decodeRowsKernel,
  fillKernel,
  noopKernel,
  matmulF32Kernel,
  matmulIntKernel,
  packIntKernel,
} from '../../kernel-ids.ts';
import { barrier } from '../common/barrier.ts';
import { enterCommand } from './error.ts';
import { fill } from './layout.ts';
import { decodeRows } from './matmul-decode-rows.ts';
import { matmulF32 } from './matmul-f32.ts';
import { matmulInt, packInt } from './matmul-int.ts';

function dispatch(kernel: i32, args: usize, thread: i32, threads: i32): void {
  switch (kernel) {
    case noopKernel:
      return;
    case fillKernel:
      fill(args, thread, threads);
      return;
    case matmulF32Kernel:
      matmulF32(args, thread, threads);
      return;
    case matmulIntKernel:
      matmulInt(args, thread, threads);
      return;
    case packIntKernel:
      packInt(args, thread, threads);
      return;
    case decodeRowsKernel:
      decodeRows(args, thread, threads);
      return;
    default:
      unreachable();
  }
}

/** Runs `count` commands at `program`; called in every thread. */
export function run(program: usize, count: i32, thread: i32, threads: i32): void {
  for (let i = 0; i < count; i++) {
    enterCommand(i);
    dispatch(load<i32>(program), load<usize>(program + 4), thread, threads);
    program += 8;
    barrier(thread, threads);
  }
}
