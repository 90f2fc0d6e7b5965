// The token windows on which a model is calibrated, out of a text of any length.
//
//   start   the first samples·window tokens, by the protocol of evaluate/tokens.ts: chunks of 1,000,000 characters, no
//           special tokens, no beginning-of-text token
//   spread  windows that begin at evenly spaced places of the whole text
//   random  the same at places drawn from (seed, index), in the order of the text
//
// Places are characters; windows do not overlap where the text has room (windows-places.ts). A text with fewer tokens than
// asked for gives fewer windows. No more of the text is tokenized than needed, and it is never held as a whole.

import { createHash } from 'node:crypto';
import { userError } from '../../errors.ts';
import { encodeStream } from '../../evaluate/token-stream.ts';
import { openText, type TextOptions } from '../../io/datasets.ts';
import { placedWindows } from './windows-places.ts';
import { consecutive, type Encoder, encode, type Found, pieces, type Reading } from './windows-reading.ts';

export interface CalibrationText {
  /** Text, JSONL or Parquet file, or `hf:datasets/org/name[@revision][/path]`. */
  source: string;
  /** Field of records; default `text`, else `messages`. */
  field?: string;
  /** Windows wanted. */
  samples: number;
  /** Tokens of a window. */
  window: number;
  sampling: 'start' | 'spread' | 'random';
  /** Key of `random`. */
  seed: number;
}

export interface CalibrationWindows {
  /** [samples · window], one window after the other. */
  ids: Int32Array;
  /** Windows: those wanted, or as many as the text has. */
  samples: number;
  window: number;
  /** SHA-256, in hex, of the ids as little-endian 32-bit numbers. */
  digest: string;
  /** What was read: the file, or `hf:datasets/org/name@<commit>/path`. */
  source: string;
  /** Tokens that were made of text to get these. */
  tokensRead: number;
  /** What the user should know, such as a text that is short. */
  notes: string[];
}

export interface CalibrationOptions extends Omit<TextOptions, 'field'> {
  /** Of the model; ids beyond it are an error. */
  vocabSize?: number;
}

const op = 'calibrate';
const mostTokens = 2 ** 28;

/**
 * Reads the windows. The same text, tokenizer and settings give the same windows on every machine.
 *
 * @throws user error for a text of less than one window, for what is wrong with the text itself, and for ids that the
 *   model does not have; `interrupted` when the signal aborts
 * @example
 *   const text = { source: 'train.txt.xz', samples: 128, window: 512, sampling: 'start', seed: 0 } as const;
 *   const { ids } = await loadCalibration(text, tokenizer, { template: await loadChatTemplate(checkpoint) });
 */
export async function loadCalibration(
  text: CalibrationText,
  tokenizer: Encoder,
  options: CalibrationOptions = {},
): Promise<CalibrationWindows> {
  const { samples, window } = text;
  if (samples * window > mostTokens)
    throw userError({
      code: 'calibration-size',
      op,
      problem: 'the calibration is too large',
      got: `${samples} windows of ${window} tokens`,
      expected: `at most ${mostTokens} tokens`,
      fix: 'lower samples or window',
    });
  const opened = await openText(text.source, { ...options, field: text.field });
  const { source } = opened;
  const reading: Reading = { samples, window, tokenizer, opened, signal: options.signal, tokensRead: 0 };
  const { sampling, seed } = text;
  const found = sampling === 'start' ? startWindows(reading) : placedWindows(reading, { sampling, seed });
  const { rows, available } = await found;
  if (rows.length === 0)
    throw userError({
      code: 'text-too-short',
      op,
      problem: 'the calibration text has fewer tokens than one window',
      got: available,
      expected: `at least ${window}`,
      file: source,
      fix: 'give a longer text or a smaller window',
    });
  const ids = new Int32Array(rows.length * window);
  for (const [i, row] of rows.entries()) ids.set(row, i * window);
  checkVocabulary(ids, options.vocabSize, source);
  const { tokensRead } = reading;
  const short = `${source} has text for ${rows.length} of ${samples} windows of ${window} tokens`;
  const notes = rows.length < samples ? [short] : [];
  return { ids, samples: rows.length, window, digest: digestOf(ids), source, tokensRead, notes };
}

async function startWindows(reading: Reading): Promise<Found> {
  const { samples, window } = reading;
  const ids = await encodeStream((text) => encode(reading, text), pieces(reading), samples * window);
  return { rows: consecutive(ids, window), available: ids.length };
}

function checkVocabulary(ids: Int32Array, vocabSize: number | undefined, file: string): void {
  if (vocabSize === undefined) return;
  const outside = ids.find((id) => id < 0 || id >= vocabSize);
  if (outside === undefined) return;
  throw userError({
    code: 'token-id',
    op,
    problem: 'the tokenizer gives a token that the model does not have',
    got: outside,
    expected: `0 to ${vocabSize - 1}`,
    file,
    fix: 'use the tokenizer of this model',
  });
}

function digestOf(ids: Int32Array): string {
  const bytes = new DataView(new ArrayBuffer(ids.length * 4));
  for (const [i, id] of ids.entries()) bytes.setInt32(4 * i, id, true);
  return createHash('sha256').update(bytes).digest('hex');
}
