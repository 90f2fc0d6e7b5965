// The text of a file or a data set, whatever it is made of, in pieces.
//
// A plain text file is its text. The documents of JSONL and Parquet follow each other as they stand in the file, with an
// empty line (two line feeds) between two of them; around a conversation there is nothing between, since the chat
// template marks its end. Documents that are empty count, those that are null do not.
// The kind follows from the name's end: .jsonl, .ndjson and .json (plain or compressed), .parquet; all else is text.

import { type Document, documentOf, type FieldOptions, recordError } from './datasets-fields.ts';
import { fetchDatasetFile, parseDatasetReference } from './datasets-hub.ts';
import type { HubOptions } from './hub.ts';
import { type RecordAt, readJsonl } from './jsonl.ts';
import { streamText } from './text.ts';

/** Between two documents of text. */
export const separator = '\n\n';

export interface TextOptions extends FieldOptions, HubOptions {}

export interface OpenedText {
  /** The file, or `hf:datasets/org/name@<commit>/path`. */
  readonly source: string;
  /** The text from its start, in pieces of whole characters; no more is read than is asked for. */
  stream(): AsyncGenerator<string>;
  /** The same without anything between documents: `end` marks the last piece of each. */
  pieces(): AsyncGenerator<TextPiece>;
}

export interface TextPiece {
  readonly text: string;
  readonly end: boolean;
}

/**
 * Opens a file or a data set on the hub (`hf:datasets/org/name[@revision][/path]`), which is downloaded into the cache
 * if it is not there. Errors of the text itself come while it is read.
 *
 * @example for await (const piece of (await openText('chats.jsonl', { field: 'text' })).stream()) …
 */
export async function openText(reference: string, options: TextOptions = {}): Promise<OpenedText> {
  const { path, source } = reference.startsWith('hf:')
    ? await fetchDatasetFile(parseDatasetReference(reference), options)
    : { path: reference, source: reference };
  // in the cache a name ends as in the repository
  const kind = kindOf(path);
  if (kind === 'text') return { source, stream: () => streamText(path), pieces: () => oneDocument(streamText(path)) };
  const records = kind === 'jsonl' ? () => readJsonl(path) : () => parquetRows(path, options.field);
  return {
    source,
    stream: () => joinDocuments(documents(records(), options)),
    pieces: () => manyDocuments(documents(records(), options)),
  };
}

async function* oneDocument(text: AsyncIterable<string>): AsyncGenerator<TextPiece> {
  for await (const piece of text) yield { text: piece, end: false };
  yield { text: '', end: true };
}

async function* manyDocuments(list: AsyncIterable<Document>): AsyncGenerator<TextPiece> {
  for await (const { text } of list) yield { text, end: true };
}

function kindOf(path: string): 'text' | 'jsonl' | 'parquet' {
  const name = path.toLowerCase().replace(/\.(gz|zst|br|xz)$/, '');
  if (/\.(jsonl|ndjson|json)$/.test(name)) return 'jsonl';
  if (!name.endsWith('.parquet')) return 'text';
  if (path.toLowerCase().endsWith('.parquet')) return 'parquet';
  throw recordError(path, {
    code: 'parquet-packed',
    problem: 'a Parquet file cannot be read compressed',
    fix: 'unpack it',
  });
}

/** Loaded late: most texts are no Parquet. */
async function* parquetRows(path: string, field: string | undefined): AsyncGenerator<RecordAt> {
  const { readParquet } = await import('./parquet.ts');
  yield* readParquet(path, field);
}

async function* documents(records: AsyncGenerator<RecordAt>, options: FieldOptions): AsyncGenerator<Document> {
  for await (const { record, place } of records) {
    const document = documentOf(record, options, place);
    if (document) yield document;
  }
}

/** Documents one behind the other, as the head of this file says. */
export async function* joinDocuments(list: AsyncIterable<Document>): AsyncGenerator<string> {
  let before: Document | undefined;
  for await (const document of list) {
    if (before && !before.chat && !document.chat) yield separator;
    yield document.text;
    before = document;
  }
}
