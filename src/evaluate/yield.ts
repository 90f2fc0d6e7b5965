// Long work on the thread that also hears Ctrl-C.
//
// A run of a graph does not give the event loop a turn, and awaiting it gives none either: signals, timers and the page
// would wait until all windows are done. Between runs the loops below call this.

/** Gives the event loop a turn when the last one was more than 50 ms ago; then throws if the work was called off. */
export function takingTurns(signal: AbortSignal | undefined): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last > 50) {
      await new Promise((resolve) => setTimeout(resolve, 0));
      last = performance.now();
    }
    signal?.throwIfAborted();
  };
}
