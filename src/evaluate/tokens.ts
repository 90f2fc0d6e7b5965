// From text to the token windows that an evaluation runs on.
//
// Protocol: the text is tokenized without special tokens in chunks of 1,000,000 characters (Unicode code points), the
// first N tokens are kept, and they are cut into non-overlapping windows; what is left at the end is dropped. A window
// starts without a beginning-of-text token and predicts all of its tokens but the first.

import { userError } from '../errors.ts';

/** Code points in one tokenizer call; merges across the border of two chunks are lost, which is part of the protocol. */
const chunkCharacters = 1_000_000;

/** At most `limit` token ids of a text; `encode` must add no special tokens. */
export function encodeText(encode: (text: string) => ArrayLike<number>, text: string, limit: number): Int32Array {
  const parts: ArrayLike<number>[] = [];
  let count = 0;
  for (let at = 0; at < text.length && count < limit; ) {
    const end = chunkEnd(text, at);
    const ids = encode(text.slice(at, end));
    parts.push(ids);
    count += ids.length;
    at = end;
  }
  const all = new Int32Array(Math.min(count, limit));
  let filled = 0;
  for (const ids of parts) {
    const kept = Math.min(ids.length, all.length - filled);
    for (let i = 0; i < kept; i++) all[filled + i] = ids[i];
    filled += kept;
  }
  return all;
}

/** Where the tokenizer call that begins at `from` ends. Code points are counted; JavaScript strings have UTF-16 units. */
export function chunkEnd(text: string, from: number): number {
  let at = from;
  for (let n = 0; n < chunkCharacters && at < text.length; n++) at += text.codePointAt(at)! > 0xffff ? 2 : 1;
  return at;
}

/** Windows to run together. */
export interface Batch {
  /** [B·T] */
  ids: Int32Array;
  /** [B·T]: the next token, −1 where there is none to predict or the row only fills up the batch. */
  targets: Int32Array;
  /** Predicted tokens of the batch. */
  predicted: number;
}

export interface WindowPlan {
  /** T */
  window: number;
  /** B, windows run together. */
  batch: number;
  /** Windows of the whole text. */
  windows: number;
  batches(): Generator<Batch>;
}

/** Rows that give the matrix products their full rate. */
const rowsPerRun = 1024;

/**
 * Cuts tokens into windows. Fewer tokens than a window make one shorter window. `batch` defaults to about a thousand
 * rows a run. Throws a user error when nothing is left to predict or an id lies outside the vocabulary.
 */
export function planWindows(
  tokens: Int32Array,
  vocabSize: number,
  options: { window?: number; batch?: number } = {},
): WindowPlan {
  const asked = options.window ?? 512;
  if (!Number.isInteger(asked) || asked < 2)
    throw userError({
      code: 'window',
      op: 'evaluate',
      problem: 'wrong window',
      got: asked,
      expected: '2 tokens or more',
    });
  if (tokens.length < 2)
    throw userError({
      code: 'too-few-tokens',
      op: 'evaluate',
      problem: 'the text is too short to predict anything',
      got: `${tokens.length} tokens`,
      expected: 'at least 2',
    });
  const outside = tokens.findIndex((id) => id < 0 || id >= vocabSize);
  if (outside >= 0)
    throw userError({
      code: 'token-id',
      op: 'evaluate',
      problem: `token ${outside} is outside the vocabulary`,
      got: tokens[outside],
      expected: `0 to ${vocabSize - 1}`,
      fix: 'use the tokenizer of this model',
    });
  const window = Math.min(asked, tokens.length);
  const windows = Math.floor(tokens.length / window);
  const batch = Math.min(windows, options.batch ?? Math.max(1, Math.round(rowsPerRun / window)));
  function* batches(): Generator<Batch> {
    for (let first = 0; first < windows; first += batch) {
      const count = Math.min(batch, windows - first);
      const ids = new Int32Array(batch * window);
      const targets = new Int32Array(batch * window).fill(-1);
      ids.set(tokens.subarray(first * window, (first + count) * window));
      for (let i = 0; i < count * window; i++) if (i % window < window - 1) targets[i] = ids[i + 1];
      yield { ids, targets, predicted: count * (window - 1) };
    }
  }
  return { window, batch, windows, batches };
}
