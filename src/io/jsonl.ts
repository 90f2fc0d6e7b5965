// JSONL: one JSON object a line, plain or compressed. Empty lines are passed over.

import { recordError } from './datasets-fields.ts';
import { streamLines } from './text-lines.ts';

export interface RecordAt {
  readonly record: Readonly<Record<string, unknown>>;
  /** `chats.jsonl:3`, for messages. */
  readonly place: string;
}

/**
 * The objects of a file in their order. Throws a user error with file and line for a line that is no object.
 *
 * @example for await (const { record } of readJsonl('chats.jsonl.zst')) …
 */
export async function* readJsonl(path: string): AsyncGenerator<RecordAt> {
  for await (const { text, number } of streamLines(path)) {
    if (text.trim() === '') continue;
    const place = `${path}:${number}`;
    let record: unknown;
    try {
      record = JSON.parse(text);
    } catch (cause) {
      if (number === 1 && text.trim() === '[') throw arrayError(place);
      const reason = (cause as Error).message.replace(/\s+/g, ' ').slice(0, 120);
      const problem = `line ${number} is no JSON (${reason})`;
      throw recordError(place, { code: 'jsonl-syntax', problem, fix: 'repair or remove the line' }, cause);
    }
    if (Array.isArray(record) && number === 1) throw arrayError(place);
    if (typeof record !== 'object' || record === null || Array.isArray(record))
      throw recordError(place, { code: 'jsonl-object', problem: `line ${number} is no JSON object` });
    yield { record: record as Readonly<Record<string, unknown>>, place };
  }
}

const arrayError = (place: string) =>
  recordError(place, {
    code: 'jsonl-array',
    problem: 'the file is one JSON array',
    expected: 'one object a line',
    fix: "convert it, for example with jq -c '.[]' data.json > data.jsonl",
  });
