// Windows from all over a text: at evenly spaced places, or at random ones.
//
// Each window is tokenized by itself from a stretch of text of its own, long enough in nearly all cases (1.5 times what
// its tokens take at the start of the text) and else doubled, so windows do not overlap. A text that has no room for such
// stretches is tokenized whole; windows then lie among its tokens, where a character begins. A text with fewer tokens
// than asked for gives fewer windows, one after the other.
// Text is read once for its length and once for the windows, and never held.

import { encodeStream } from '../../evaluate/token-stream.ts';
import { uniformSource } from '../../formats/random.ts';
import { consecutive, encode, type Found, pieces, type Reading } from './windows-reading.ts';

/** How places are chosen; `seed` is the key of random ones. */
export interface Placing {
  readonly sampling: 'spread' | 'random';
  readonly seed: number;
}

/** Stream of the random places; weights use small numbers. */
const placesStream = 0x63616c69;
/** A window's stretch of text ends at least as many tokens after it, for merges that the cut disturbs. */
const slack = 16;
/** Text from which the tokens' length is estimated. */
const probeLength = 2 ** 16;

/** The windows of a text at places all over it. */
export async function placedWindows(reading: Reading, placing: Placing): Promise<Found> {
  const { samples, window } = reading;
  let length = 0;
  let head = '';
  for await (const piece of pieces(reading)) {
    length += piece.length;
    if (head.length < probeLength) head += piece;
  }
  const tokens = encode(reading, head).length;
  let stretch = tokens > 0 ? Math.ceil((1.5 * (window + slack) * head.length) / tokens) : length + 1;
  for (; samples * stretch <= length; stretch *= 2) {
    const rows = await stretchWindows(reading, choosePlaces(length, stretch, samples, placing), stretch);
    if (rows) return { rows, available: samples * window };
  }
  return windowsAmongTokens(reading, placing);
}

/** One window of each stretch; undefined when one of them has too few tokens. */
async function stretchWindows(
  reading: Reading,
  places: readonly number[],
  stretch: number,
): Promise<Int32Array[] | undefined> {
  const { samples, window } = reading;
  const rows: Int32Array[] = [];
  for await (const part of cutStretches(pieces(reading), places, stretch)) {
    const ids = encode(reading, part);
    if (ids.length < window + slack) return undefined;
    rows.push(ids.subarray(0, window));
  }
  return rows.length === samples ? rows : undefined;
}

/** The parts of a text that begin at ascending places and do not overlap, without halves of characters at their ends. */
async function* cutStretches(
  text: AsyncIterable<string>,
  places: readonly number[],
  stretch: number,
): AsyncGenerator<string> {
  let at = 0;
  let next = 0;
  let held = '';
  for await (const piece of text) {
    const end = at + piece.length;
    for (; next < places.length && places[next] < end; next++) {
      const [from, to] = [places[next], places[next] + stretch];
      held += piece.slice(Math.max(0, from - at), to - at);
      if (to > end) break;
      yield held.replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, '');
      held = '';
    }
    if (next === places.length) return;
    at = end;
  }
}

/** Starts of windows that take `room` of `length` each: ascending, without overlap. samples · room ≤ length. */
function choosePlaces(length: number, room: number, samples: number, { sampling, seed }: Placing): number[] {
  const free = length - samples * room;
  const uniform = uniformSource(seed, placesStream);
  const draw = (i: number) => (uniform.at(2 * i) + uniform.at(2 * i + 1) * 2 ** -24) * (free + 1);
  const spread = (i: number) => (samples === 1 ? 0 : (i * free) / (samples - 1));
  const offsets = Float64Array.from({ length: samples }, (_, i) =>
    Math.floor((sampling === 'random' ? draw : spread)(i)),
  );
  return Array.from(offsets.sort(), (offset, i) => offset + i * room);
}

/** Windows of a text that is little longer than they are: cut from all of its tokens. */
async function windowsAmongTokens(reading: Reading, placing: Placing): Promise<Found> {
  const { tokenizer, samples, window } = reading;
  const ids = await encodeStream((part) => encode(reading, part), pieces(reading), Number.POSITIVE_INFINITY);
  const available = ids.length;
  // a character has at most four tokens, of which the first begins it
  const room = window + 3;
  if (available < samples * room) return { rows: consecutive(ids, window).slice(0, samples), available };
  const rows = choosePlaces(available, room, samples, placing).map((place) => {
    let start = place;
    while (start < place + 3 && tokenizer.decode(ids.subarray(start, start + 4)).startsWith('\ufffd')) start++;
    return ids.subarray(start, start + window);
  });
  return { rows, available };
}
