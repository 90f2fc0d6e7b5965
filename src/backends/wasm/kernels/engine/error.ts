// Data errors found by kernels (an id outside a table): the first is kept in the control block for the host.

import { errorAddress } from '../../control.ts';

let command: i32 = 0;

/** Remembers which command this thread runs, for reports. */
export function enterCommand(index: i32): void {
  command = index;
}

/** Records an error unless one is recorded already; the kernel goes on with a harmless value. */
export function reportError(code: i32, value: i32): void {
  if (atomic.cmpxchg<i32>(errorAddress, 0, code) == 0) {
    store<i32>(errorAddress + 4, command);
    store<i32>(errorAddress + 8, value);
  }
}
