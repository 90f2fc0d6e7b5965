// The control block: the words of shared memory by which threads meet, at fixed addresses in the first KiB.
//
// Shared by the host (pool.ts) and the AssemblyScript kernels (kernels/common/barrier.ts): numeric constants only.
// Words that different threads write sit on cache lines of their own.

/** Counts jobs; workers wait for it to change. */
export const jobAddress = 64;
/** Threads asleep on jobAddress or doneAddress. */
export const jobSleepersAddress = 68;
/** Workers that finished the current job. */
export const doneAddress = 128;
/** Not 0 after a thread trapped: barriers then give up instead of waiting for it. */
export const failedAddress = 132;
/** Threads that reached the current barrier. */
export const arrivedAddress = 192;
/** Counts barriers passed. */
export const phaseAddress = 256;
/** Threads asleep on phaseAddress. */
export const phaseSleepersAddress = 260;
/** 1 where thread 0 may sleep; a browser's main thread may not and spins. */
export const mayBlockAddress = 264;
/** First data error that a kernel reported: code (0: none), command index, value. */
export const errorAddress = 320;
/** Index of the exported function to call (-1: stop), number of arguments, then arguments as f64. */
export const functionAddress = 384;
export const argumentCountAddress = 388;
export const argumentsAddress = 392;
export const maximumArguments = 48;
