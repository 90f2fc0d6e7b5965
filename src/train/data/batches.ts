// Batches of a run: windows of a token file in the run's order, as ids and targets.
//
// Packing: the file is cut into windows of T + 1 tokens, each beginning with the last token of the one before, so that
// every token but the first is predicted once an epoch and no position is filled up. Documents follow each other within
// a window; attention sees across their border. What is left at the end of the file is not used.

import { userError } from '../../errors.ts';
import { windowOrder } from './order.ts';
import type { TokenFile } from './token-file.ts';

export interface Batch {
  /** [B·T] */
  readonly ids: Int32Array;
  /** [B·T]: the token after each. */
  readonly targets: Int32Array;
}

export interface BatchOptions {
  /** B */
  readonly sequences: number;
  /** T */
  readonly tokens: number;
  /** Sequences of one step must be different windows: B times the batches of a step. */
  readonly perStep: number;
  readonly shuffle: boolean;
  readonly seed: number;
}

export interface Batches {
  /** Windows of the file, sequences of an epoch. */
  readonly windows: number;
  /** Batch number `index` from 0. The next one is read ahead. */
  get(index: number): Promise<Batch>;
}

/** Throws a user error for a file with fewer windows than a step takes. */
export function openBatches(file: TokenFile, options: BatchOptions): Batches {
  const { sequences, tokens, perStep, shuffle, seed } = options;
  const windows = Math.max(0, Math.floor((file.tokens - 1) / tokens));
  if (windows < perStep)
    throw userError({
      code: 'data-too-short',
      op: 'train',
      problem: 'the training text has fewer tokens than one step takes',
      got: `${file.tokens} tokens, ${windows} windows of ${tokens}`,
      expected: `at least ${perStep * tokens + 1} tokens, ${perStep} windows`,
      file: file.manifest.sources.map(({ source }) => source).join(', '),
      fix: 'give more text, or lower batch.sequences, batch.accumulate or batch.tokens',
    });
  const windowAt = windowOrder(windows, seed, shuffle);
  const read = async (index: number): Promise<Batch> => {
    const ids = new Int32Array(sequences * tokens);
    const targets = new Int32Array(sequences * tokens);
    const places = Array.from({ length: sequences }, (_, b) => windowAt(index * sequences + b) * tokens);
    const rows = await Promise.all(places.map((first) => file.read(first, tokens + 1)));
    for (const [b, row] of rows.entries()) {
      ids.set(row.subarray(0, tokens), b * tokens);
      targets.set(row.subarray(1), b * tokens);
    }
    return { ids, targets };
  };
  let ahead: { index: number; batch: Promise<Batch> } | undefined;
  return {
    windows,
    async get(index) {
      const batch = await (ahead?.index === index ? ahead.batch : read(index));
      ahead = { index: index + 1, batch: read(index + 1) };
      // a failure is reported when the batch is asked for
      ahead.batch.catch(() => undefined);
      return batch;
    },
  };
}
