// Barrier between all threads of the pool, on the words of the control block (../../control.ts).
//
// The last thread to arrive resets the count and advances the phase; the others spin for a while, then sleep on the
// phase. Sleepers count themselves before they sleep, so that the last thread notifies only when somebody sleeps.
// When a thread has trapped, the barrier traps too instead of waiting for it.

import { arrivedAddress, failedAddress, mayBlockAddress, phaseAddress, phaseSleepersAddress } from '../../control.ts';

/** Looks before a thread sleeps: longer than shares of a command usually differ. */
const spins: i32 = 100000;

export function barrier(thread: i32, threads: i32): void {
  if (threads == 1) return;
  const phase = atomic.load<i32>(phaseAddress);
  if (atomic.add<i32>(arrivedAddress, 1) == threads - 1) {
    atomic.store<i32>(arrivedAddress, 0);
    atomic.add<i32>(phaseAddress, 1);
    if (atomic.load<i32>(phaseSleepersAddress) != 0) atomic.notify(phaseAddress, -1);
    return;
  }
  const maySleep = thread != 0 || load<i32>(mayBlockAddress) != 0;
  let tries: i32 = 0;
  while (atomic.load<i32>(phaseAddress) == phase) {
    if (atomic.load<i32>(failedAddress) != 0) unreachable();
    if (++tries > spins && maySleep) {
      atomic.add<i32>(phaseSleepersAddress, 1);
      // Wakes every 100 ms to look for a failed thread.
      atomic.wait<i32>(phaseAddress, phase, 100_000_000);
      atomic.sub<i32>(phaseSleepersAddress, 1);
    }
  }
}
