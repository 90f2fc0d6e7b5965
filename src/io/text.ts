// Text files, plain or compressed (.gz, .zst, .br, .xz), as strings: whole, or piece by piece (Node only).
//
// UTF-8 only: a byte that is none is an error with its position, because a silently replaced character changes every
// token after it. A byte order mark at the start is dropped.

import { createReadStream, type ReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { ReadableStream as WebStream } from 'node:stream/web';
import * as zlib from 'node:zlib';
import xz from 'xz-decompress';
import { modelError, userError } from '../errors.ts';
import { fileError } from './file-errors.ts';
import { firstInvalidByte, unfinishedBytes } from './utf8.ts';

/** V8's longest string, in UTF-16 units. */
const maxTextLength = 2 ** 29 - 24;

/**
 * Reads a whole text file; the compression follows from the name's end.
 *
 * Throws a user error when the file is missing, is not UTF-8 or holds more than 512 MiB of text, and a model error when
 * the compressed data is damaged.
 *
 * @example const text = await readText('val.txt.xz');
 */
export async function readText(path: string): Promise<string> {
  const pieces: string[] = [];
  let total = 0;
  for await (const piece of streamText(path)) {
    total += piece.length;
    if (total > maxTextLength)
      throw userError({
        code: 'text-size',
        op: 'read text',
        problem: 'the text is too long for one string',
        expected: `at most ${maxTextLength} characters`,
        file: path,
        fix: 'split the file',
      });
    pieces.push(piece);
  }
  return pieces.join('');
}

/**
 * The text of a file in pieces of whole characters. No more of the file is read and decompressed than is asked for; the
 * file is closed when the loop ends, early or not. Errors are those of readText, thrown where they lie in the text.
 *
 * @example for await (const piece of streamText('train.txt.xz')) if ((have += piece.length) > 1e6) break;
 */
export async function* streamText(path: string): AsyncGenerator<string> {
  let file: ReadStream | undefined;
  let tail: Buffer = Buffer.alloc(0);
  /** Bytes before `tail`. */
  let offset = 0;
  try {
    if ((await stat(path)).isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    file = createReadStream(path, { highWaterMark: 2 ** 16 });
    for await (const piece of decompressed(file, path)) {
      const bytes =
        tail.length > 0 ? Buffer.concat([tail, piece]) : Buffer.from(piece.buffer, piece.byteOffset, piece.length);
      const whole = bytes.length - unfinishedBytes(bytes);
      if (whole > 0) yield decode(bytes.subarray(0, whole), offset, path);
      offset += whole;
      // a copy: the decompressor may use its memory again
      tail = Buffer.from(bytes.subarray(whole));
    }
  } catch (cause) {
    throw readError(path, cause);
  } finally {
    file?.destroy();
  }
  if (tail.length > 0) yield decode(tail, offset, path);
}

function decompressed(file: ReadStream, path: string): AsyncIterable<Uint8Array> {
  const through = (stream: NodeJS.ReadWriteStream): AsyncIterable<Uint8Array> => {
    file.on('error', (cause) => (stream as unknown as Readable).destroy(cause));
    return file.pipe(stream) as AsyncIterable<Buffer>;
  };
  if (path.endsWith('.gz')) return through(zlib.createGunzip());
  if (path.endsWith('.br')) return through(zlib.createBrotliDecompress());
  if (path.endsWith('.zst')) return through(zlib.createZstdDecompress());
  if (path.endsWith('.xz')) {
    const web = Readable.toWeb(file) as unknown as ReadableStream<Uint8Array>;
    return new xz.XzReadableStream(web) as unknown as WebStream<Uint8Array>;
  }
  return file;
}

/** File errors keep their sentence; everything else comes from a decompressor. */
function readError(path: string, cause: unknown): Error {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const damaged = code.startsWith('Z_') || code.startsWith('ERR_') || code.startsWith('ZSTD_') || code === '';
  if (!damaged) return fileError('read text', path, cause);
  if (cause instanceof Error && cause.name === 'SubbyteError') return cause;
  return modelError(
    {
      code: 'text-damaged',
      op: 'read text',
      problem: `the compressed data is damaged or cut off (${cause instanceof Error ? cause.message : cause})`,
      file: path,
      fix: 'copy or download the file again',
    },
    { cause },
  );
}

/** Text of bytes that stand at `offset` in the file; only there, at 0, U+FEFF is a byte order mark. */
function decode(bytes: Buffer, offset: number, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: offset > 0 }).decode(bytes);
  } catch (cause) {
    const at = firstInvalidByte(bytes);
    const marked = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const utf16 = offset === 0 && marked;
    throw userError(
      {
        code: 'text-utf8',
        op: 'read text',
        problem: `the text is not UTF-8${utf16 ? ' but UTF-16' : ''}`,
        got: `byte 0x${bytes[at].toString(16).padStart(2, '0')} at position ${offset + at}`,
        file: path,
        fix: 'convert it to UTF-8, for example with iconv',
      },
      { cause },
    );
  }
}
