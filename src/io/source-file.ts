// A local file as a ByteSource (Node only).

import { type FileHandle, open } from 'node:fs/promises';
import { modelError } from '../errors.ts';
import { fileError } from './file-errors.ts';
import { type ByteSource, checkRange } from './source.ts';

/** One read call moves at most this many bytes: the system call takes no more than 2³¹ − 1. */
const maxReadBytes = 2 ** 30;

/**
 * Large reads are cut into a few that run at once. Most of their time is the first touch of fresh memory, page by page,
 * which two threads do in half the time.
 */
const mostReads = 4;
const minPieceBytes = 8 * 2 ** 20;

/**
 * Opens a file for reading.
 *
 * Throws a user error when it does not exist, is a folder or may not be read.
 *
 * @example const source = await openFile('model.gguf'); const magic = await source.read(0, 4);
 */
export async function openFile(path: string): Promise<ByteSource> {
  let handle: FileHandle;
  let size: number;
  try {
    handle = await open(path, 'r');
    const info = await handle.stat();
    if (info.isDirectory()) {
      await handle.close();
      throw Object.assign(new Error('is a directory'), { code: 'EISDIR' });
    }
    size = info.size;
  } catch (cause) {
    throw fileError('read', path, cause);
  }
  return {
    name: path,
    size,
    read: async (offset, length) => {
      checkRange({ name: path, size }, offset, length);
      return await readExactly(handle, path, offset, length);
    },
    close: async () => await handle.close(),
  };
}

async function readExactly(handle: FileHandle, path: string, offset: number, length: number): Promise<Uint8Array> {
  // Memory of its own, not cleared: every byte is read or an error follows.
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
  const pieces = Math.max(1, Math.min(mostReads, Math.floor(length / minPieceBytes)));
  const bound = (i: number) => Math.floor((length / pieces) * i);
  await Promise.all(
    Array.from({ length: pieces }, (_, i) =>
      fill(handle, path, bytes.subarray(bound(i), bound(i + 1)), offset + bound(i)),
    ),
  );
  return bytes;
}

async function fill(handle: FileHandle, path: string, target: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const step = Math.min(target.byteLength - done, maxReadBytes);
    let count: number;
    try {
      count = (await handle.read(target, done, step, offset + done)).bytesRead;
    } catch (cause) {
      throw fileError('read', path, cause);
    }
    if (count === 0)
      throw modelError({
        code: 'source-shrank',
        op: 'read',
        problem: 'the file became shorter while it was read',
        file: path,
        fix: 'make sure that nothing writes to it and run again',
      });
    done += count;
  }
}
