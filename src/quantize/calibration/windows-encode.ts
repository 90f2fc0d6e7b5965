// A text in pieces to tokens, by the protocol of evaluate/tokens.ts, without holding the text.

import { chunkEnd } from '../../evaluate/tokens.ts';

/** UTF-16 units that hold the characters of a tokenizer call, even if all are pairs. */
const chunkUnits = 2_000_000;

/**
 * What encodeText of evaluate/tokens.ts gives for a text that comes in pieces of whole characters; no more pieces are
 * taken than `limit` tokens need.
 *
 * @example await encodeStream((part) => tokenizer.encode(part), streamText('train.txt.xz'), 65536)
 */
export async function encodeStream(
  encodeChunk: (text: string) => Int32Array,
  text: AsyncIterable<string>,
  limit: number,
): Promise<Int32Array> {
  const parts: Int32Array[] = [];
  let count = 0;
  /** Encodes whole chunks of `held`, or all of it; what is left. */
  const encodeChunks = (held: string, all: boolean): string => {
    let at = 0;
    while (count < limit && (all ? at < held.length : held.length - at >= chunkUnits)) {
      const end = chunkEnd(held, at);
      const ids = encodeChunk(held.slice(at, end));
      parts.push(ids);
      count += ids.length;
      at = end;
    }
    return held.slice(at);
  };
  let waiting: string[] = [];
  let units = 0;
  for await (const piece of text) {
    waiting.push(piece);
    units += piece.length;
    if (units < chunkUnits) continue;
    const left = encodeChunks(waiting.join(''), false);
    waiting = [left];
    units = left.length;
    if (count >= limit) break;
  }
  encodeChunks(waiting.join(''), true);
  const ids = new Int32Array(Math.min(count, limit));
  let filled = 0;
  for (const part of parts) {
    const kept = part.subarray(0, ids.length - filled);
    ids.set(kept, filled);
    filled += kept.length;
  }
  return ids;
}
