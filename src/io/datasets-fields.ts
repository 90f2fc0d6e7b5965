// The text of one record of a data set: an object of JSONL, a row of Parquet.
//
// The field is `text` unless another is named, and `messages` where a record has no `text`; `a.b` is the field b of the
// object in a. Text is taken as it is. A list of messages {role, content} is a conversation, which the model's chat
// template turns into text. A field that is null holds nothing.

import { type ErrorDetails, userError } from '../errors.ts';
import { nearest } from '../formats/edit-distance.ts';

export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [key: string]: unknown;
}

/** Turns a conversation into text, special tokens written out. */
export interface ChatTemplate {
  render(messages: readonly ChatMessage[]): string;
}

export interface FieldOptions {
  /** Default: `text`, else `messages`. */
  field?: string;
  /** For conversations. */
  template?: ChatTemplate;
}

export interface Document {
  readonly text: string;
  /** A conversation: the template has marked where it ends. */
  readonly chat: boolean;
}

const op = 'read data';

/** The error about a record at `place` (`chats.jsonl:3`). */
export const recordError = (place: string, details: Omit<ErrorDetails, 'op' | 'file'>, cause?: unknown) =>
  userError({ op, file: place, ...details }, { cause });

/** Where a field lies in a record: a key, or a path through objects. */
export function fieldPath(fields: readonly string[], field: string | undefined): string[] | undefined {
  if (field === undefined) {
    const usual = ['text', 'messages'].find((name) => fields.includes(name));
    return usual === undefined ? undefined : [usual];
  }
  if (fields.includes(field)) return [field];
  const path = field.split('.');
  return fields.includes(path[0]) ? path : undefined;
}

/** The error for a field that is not there; names those that are. */
export function missingField(fields: readonly string[], field: string | undefined, place: string): Error {
  const close = field === undefined ? undefined : nearest(field, fields);
  const shown = fields.slice(0, 12).join(', ') + (fields.length > 12 ? ', …' : '');
  return recordError(place, {
    code: 'data-field',
    problem: field === undefined ? 'there is no field text and no field messages' : `there is no field "${field}"`,
    expected: fields.length > 0 ? `one of ${shown}` : 'a record with fields',
    fix: close ? `did you mean "${close}"?` : 'choose with --calib-field, or data.field of a training config',
  });
}

/**
 * The document in a record; undefined where the field is null.
 *
 * @throws user error for a field that is missing or holds something else, and for a conversation without a template
 */
export function documentOf(
  record: Readonly<Record<string, unknown>>,
  { field, template }: FieldOptions,
  place: string,
): Document | undefined {
  const path = fieldPath(Object.keys(record), field);
  if (!path) throw missingField(Object.keys(record), field, place);
  let value: unknown = record;
  for (const [i, key] of path.entries()) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
      const inner =
        typeof value === 'object' && value !== null ? Object.keys(value).map((k) => prefixed(path, i, k)) : [];
      throw missingField(inner, field, place);
    }
    value = (value as Record<string, unknown>)[key];
  }
  if (value === null || value === undefined) return undefined;
  const name = path.join('.');
  if (typeof value === 'string') return { text: wellFormed(value, name, place), chat: false };
  if (isConversation(value)) return { text: wellFormed(render(value, template, name, place), name, place), chat: true };
  throw recordError(place, {
    code: 'data-field-type',
    problem: `the field "${name}" holds no text`,
    got: Array.isArray(value) ? `a list${firstKeys(value)}` : typeof value,
    expected: 'text, or a list of messages {role, content}',
    fix: 'choose another with --calib-field, or data.field of a training config',
  });
}

const prefixed = (path: readonly string[], depth: number, key: string) => [...path.slice(0, depth), key].join('.');

const firstKeys = ([first]: readonly unknown[]) =>
  typeof first === 'object' && first !== null ? ` of {${Object.keys(first).slice(0, 6).join(', ')}}` : '';

const isConversation = (value: unknown): value is ChatMessage[] =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((m) => typeof m === 'object' && m !== null && typeof m.role === 'string' && 'content' in m);

function render(
  messages: readonly ChatMessage[],
  template: ChatTemplate | undefined,
  name: string,
  place: string,
): string {
  if (!template)
    throw recordError(place, {
      code: 'chat-template-missing',
      problem: `the field "${name}" is a conversation, and the model has no chat template`,
      fix: "put the model's chat_template.jinja into its folder, or choose a field of text with --calib-field",
    });
  try {
    return template.render(messages);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 160) : String(cause);
    throw recordError(
      place,
      {
        code: 'chat-template',
        problem: `the model's chat template refuses this conversation (${reason})`,
        fix: 'leave it out, or choose a field of text with --calib-field',
      },
      cause,
    );
  }
}

/** JSON can hold halves of surrogate pairs, which are no characters: a tokenizer would replace them silently. */
function wellFormed(text: string, name: string, place: string): string {
  if (text.isWellFormed()) return text;
  throw recordError(place, {
    code: 'data-surrogate',
    problem: `the field "${name}" holds half of a surrogate pair, which is no character`,
    fix: 'repair or leave out this record',
  });
}
