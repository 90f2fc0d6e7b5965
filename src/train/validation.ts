// Held-out tokens as batches of a fixed size, by the protocol of evaluations: windows without overlap, all tokens of a
// window predicted but the first, so that the loss is that of `subbyte eval` on the same tokens and window.

import type { Batch } from './data/batches.ts';

/** [B·T] batches of all whole windows of T tokens; rows that only fill up the last one have no targets. */
export function* validationBatches(tokens: Int32Array, window: number, sequences: number): Generator<Batch> {
  const windows = Math.floor(tokens.length / window);
  for (let first = 0; first < windows; first += sequences) {
    const count = Math.min(sequences, windows - first);
    const ids = new Int32Array(sequences * window);
    const targets = new Int32Array(sequences * window).fill(-1);
    ids.set(tokens.subarray(first * window, (first + count) * window));
    for (let i = 0; i < count * window; i++) if (i % window < window - 1) targets[i] = ids[i + 1];
    yield { ids, targets };
  }
}
