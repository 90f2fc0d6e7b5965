// A calibration text that is being read: what its windows are cut from.

import { SubbyteError } from '../../errors.ts';
import type { OpenedText } from '../../io/datasets.ts';
import type { Tokenizer } from '../../io/tokenizer.ts';

export type Encoder = Pick<Tokenizer, 'encode' | 'decode'>;

export interface Reading {
  /** Windows wanted, and their tokens. */
  readonly samples: number;
  readonly window: number;
  readonly tokenizer: Encoder;
  readonly opened: OpenedText;
  readonly signal: AbortSignal | undefined;
  tokensRead: number;
}

export interface Found {
  rows: Int32Array[];
  /** Tokens that rows were cut from. */
  available: number;
}

/** The pieces of the text, as long as nobody interrupts. */
export async function* pieces({ opened, signal }: Reading): AsyncGenerator<string> {
  for await (const piece of opened.stream()) {
    if (signal?.aborted) {
      const details = { code: 'calibration-interrupted', op: 'calibrate', problem: 'interrupted', file: opened.source };
      throw new SubbyteError('interrupted', details);
    }
    yield piece;
  }
}

/** Tokens of a part of the text. */
export function encode(reading: Reading, text: string): Int32Array {
  const ids = reading.tokenizer.encode(text);
  reading.tokensRead += ids.length;
  return ids;
}

/** As many windows as there are tokens for, one after the other. */
export const consecutive = (ids: Int32Array, window: number): Int32Array[] =>
  Array.from({ length: Math.floor(ids.length / window) }, (_, i) => ids.subarray(i * window, (i + 1) * window));
