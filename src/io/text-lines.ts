// The lines of a text file, plain or compressed, one at a time.

import { userError } from '../errors.ts';
import { streamText } from './text.ts';

export interface Line {
  /** Without its line feed or carriage return. */
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

/** No document is as long; a file without line feeds is something else. */
const mostCharacters = 2 ** 26;

/**
 * Lines end with LF or CR LF; the last needs none. Errors are those of streamText, and a user error for a line of more
 * than 64 Mi characters.
 *
 * @example for await (const { text, number } of streamLines('chats.jsonl.gz')) …
 */
export async function* streamLines(path: string): AsyncGenerator<Line> {
  let open: string[] = [];
  let length = 0;
  let number = 1;
  for await (const piece of streamText(path)) {
    let from = 0;
    for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', from)) {
      open.push(piece.slice(from, end));
      yield { text: withoutReturn(open.join('')), number: number++ };
      open = [];
      length = 0;
      from = end + 1;
    }
    open.push(piece.slice(from));
    length += piece.length - from;
    if (length <= mostCharacters) continue;
    throw userError({
      code: 'line-length',
      op: 'read lines',
      problem: `line ${number} is too long`,
      expected: `at most ${mostCharacters} characters`,
      file: `${path}:${number}`,
      fix: 'is this a file of lines?',
    });
  }
  const last = open.join('');
  if (last !== '') yield { text: withoutReturn(last), number };
}

const withoutReturn = (line: string) => (line.endsWith('\r') ? line.slice(0, -1) : line);
