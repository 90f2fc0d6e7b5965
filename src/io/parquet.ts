// Rows of a Parquet file, one column of them, one row group in memory at a time (Node only).
//
// hyparquet decodes. What the file announces is checked first (parquet-thrift.ts, parquet-pages.ts), because the library
// allocates what it reads. Snappy, gzip, brotli and zstd are decompressed; text must be UTF-8.

import { type FileMetaData, parquetMetadata, parquetReadObjects, parquetSchema, type SchemaTree } from 'hyparquet';
import { modelError, SubbyteError } from '../errors.ts';
import { fieldPath, missingField, recordError } from './datasets-fields.ts';
import type { RecordAt } from './jsonl.ts';
import { checkPages, compressors, mostValues } from './parquet-pages.ts';
import { readStruct } from './parquet-thrift.ts';
import type { ByteSource } from './source.ts';
import { openFile } from './source-file.ts';

const op = 'read Parquet';
const mostFooterBytes = 64 * 2 ** 20;
const mostFooterElements = 2 ** 22;
const mostChunkBytes = 2 ** 30;

/**
 * The rows of a file in their order, with the column that `field` names (datasets-fields.ts) alone.
 *
 * Throws a user error for a column that is not there and for text that is not UTF-8, a model error for a file that is
 * damaged or announces more than 2^24 rows or 1 GiB in a row group.
 *
 * @example for await (const { record } of readParquet('train.parquet', 'text')) …
 */
export async function* readParquet(path: string, field?: string): AsyncGenerator<RecordAt> {
  const source = await openFile(path);
  try {
    const { metadata, tree, names } = await guarded(path, 'the footer', () => readFooter(source));
    const column = fieldPath(names, field)?.[0];
    if (column === undefined) throw missingField(names, field, path);
    let row = 0;
    for (const [i, group] of metadata.row_groups.entries()) {
      const where = `row group ${i}`;
      const rows = await guarded(path, where, async () => {
        const count = await checkGroup(source, tree, group, column);
        if (count === 0) return [];
        const found = await parquetReadObjects({
          file: { byteLength: source.size, slice: (from, to) => slice(source, from, to) },
          metadata: { ...metadata, row_groups: [group] },
          columns: [column],
          compressors,
          parsers: { stringFromBytes: (bytes) => bytes && decodeValue(bytes, path, where) },
        });
        if (found.length !== count) throw new Error(`${found.length} of ${count} rows`);
        return found;
      });
      for (const record of rows) yield { record, place: `${path} row ${++row}` };
    }
  } finally {
    await source.close();
  }
}

async function slice(source: ByteSource, from: number, to: number | undefined): Promise<ArrayBuffer> {
  const bytes = await source.read(from, (to ?? source.size) - from);
  return bytes.buffer as ArrayBuffer;
}

interface Footer {
  readonly metadata: FileMetaData;
  readonly tree: SchemaTree;
  /** Of the columns; a structure is one. */
  readonly names: readonly string[];
}

async function readFooter(source: ByteSource): Promise<Footer> {
  const { size } = source;
  const tail = size >= 12 ? await source.read(size - 8, 8) : new Uint8Array(8);
  const magic = String.fromCharCode(...tail.subarray(4));
  if (magic === 'PARE') throw new Error('it is encrypted');
  if (magic !== 'PAR1') throw new Error('it is no Parquet file: it does not end with PAR1');
  const length = new DataView(tail.buffer).getUint32(0, true);
  if (length > size - 12 || length > mostFooterBytes) throw new Error(`it announces ${length} bytes`);
  const bytes = await source.read(size - 8 - length, length + 8);
  readStruct({ view: new DataView(bytes.buffer), at: 0, end: length, elements: mostFooterElements });
  const metadata = parquetMetadata(bytes, { geoparquet: false });
  const tree = parquetSchema(metadata);
  const names = tree.children.map(({ element }) => element.name);
  if (names.some((name) => typeof name !== 'string')) throw new Error('a column has no name');
  return { metadata, tree, names };
}

/** Checks everything that the column's part of a row group announces; its number of rows. */
async function checkGroup(
  source: ByteSource,
  tree: SchemaTree,
  group: FileMetaData['row_groups'][number],
  column: string,
): Promise<number> {
  const rows = Number(group.num_rows);
  if (!(rows >= 0 && rows <= mostValues)) throw new Error(`it announces ${rows} rows, too many`);
  for (const { file_path, meta_data } of group.columns) {
    if (meta_data?.path_in_schema[0] !== column) continue;
    if (file_path) throw new Error('its data lies in another file');
    const start = Number(meta_data.dictionary_page_offset || meta_data.data_page_offset);
    const size = Number(meta_data.total_compressed_size);
    const values = Number(meta_data.num_values);
    if (!(start >= 4 && size >= 0 && size <= mostChunkBytes && start + size <= source.size))
      throw new Error(`it announces ${size} bytes at ${start}`);
    const levels = levelsOf(tree, meta_data.path_in_schema);
    const fits = levels.maxRepetition === 0 ? values === rows : values >= rows;
    if (!(values <= mostValues && fits)) throw new Error(`it announces ${values} values in ${rows} rows`);
    const bytes = await source.read(start, size);
    checkPages(bytes, { codec: meta_data.codec, values, boolean: meta_data.type === 'BOOLEAN', ...levels });
  }
  return rows;
}

/** How deep optional and repeated elements lie above a leaf. */
function levelsOf(tree: SchemaTree, path: readonly string[]) {
  const levels = { maxDefinition: 0, maxRepetition: 0 };
  let node = tree;
  for (const name of path) {
    const child = node.children.find(({ element }) => element.name === name);
    if (!child) throw new Error(`there is no column ${path.join('.')}`);
    node = child;
    if (node.element.repetition_type !== 'REQUIRED') levels.maxDefinition++;
    if (node.element.repetition_type === 'REPEATED') levels.maxRepetition++;
  }
  return levels;
}

function decodeValue(bytes: Uint8Array, path: string, where: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const details = { code: 'text-utf8', problem: `a text in ${where} is not UTF-8`, fix: 'choose another column' };
    throw recordError(path, details, cause);
  }
}

/** What the checks and the library find wrong becomes a model error with the part of the file. */
async function guarded<T>(file: string, where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof SubbyteError) throw cause;
    const reason = cause instanceof Error ? cause.message.replace(/^parquet /, '').slice(0, 160) : String(cause);
    throw modelError(
      {
        code: 'parquet-damaged',
        op,
        problem: `${where} cannot be read: ${reason}`,
        file,
        fix: 'download or write the file again',
      },
      { cause },
    );
  }
}
