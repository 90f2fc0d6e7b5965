// A text in pieces to tokens, by the protocol of tokens.ts, without holding the text.

import { chunkEnd } from './tokens.ts';

/** UTF-16 units that hold the characters of a tokenizer call, even if all are pairs. */
const chunkUnits = 2_000_000;

type Encode = (text: string) => Int32Array;

/**
 * The tokens of a text that comes in pieces of whole characters, one tokenizer call at a time; no more pieces are taken
 * than the tokens given so far need.
 *
 * @example for await (const ids of encodedChunks((part) => tokenizer.encode(part), streamText('train.txt'))) …
 */
export async function* encodedChunks(encode: Encode, text: AsyncIterable<string>): AsyncGenerator<Int32Array> {
  let waiting: string[] = [];
  let units = 0;
  for await (const piece of text) {
    waiting.push(piece);
    units += piece.length;
    if (units < chunkUnits) continue;
    const held = waiting.join('');
    let at = 0;
    while (held.length - at >= chunkUnits) {
      const end = chunkEnd(held, at);
      yield encode(held.slice(at, end));
      at = end;
    }
    waiting = [held.slice(at)];
    units = held.length - at;
  }
  const rest = waiting.join('');
  for (let at = 0; at < rest.length; ) {
    const end = chunkEnd(rest, at);
    yield encode(rest.slice(at, end));
    at = end;
  }
}

/**
 * What encodeText of tokens.ts gives for a text that comes in pieces of whole characters; no more pieces are taken than
 * `limit` tokens need.
 *
 * @example await encodeStream((part) => tokenizer.encode(part), streamText('train.txt.xz'), 65536)
 */
export async function encodeStream(encode: Encode, text: AsyncIterable<string>, limit: number): Promise<Int32Array> {
  const parts: Int32Array[] = [];
  let count = 0;
  for await (const ids of encodedChunks(encode, text)) {
    parts.push(ids);
    count += ids.length;
    if (count >= limit) break;
  }
  const ids = new Int32Array(Math.min(count, limit));
  let filled = 0;
  for (const part of parts) {
    const kept = part.subarray(0, ids.length - filled);
    ids.set(kept, filled);
    filled += kept.length;
  }
  return ids;
}
