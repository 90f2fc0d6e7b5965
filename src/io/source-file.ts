// A local file as a ByteSource (Node only).

import { type FileHandle, open } from 'node:fs/promises';
import { modelError } from '../errors.ts';
import { fileError } from './file-errors.ts';
import { type ByteSource, checkRange } from './source.ts';

/** One read call moves at most this many bytes: the system call takes no more than 2³¹ − 1. */
const maxReadBytes = 2 ** 30;

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
  let done = 0;
  while (done < length) {
    const step = Math.min(length - done, maxReadBytes);
    let count: number;
    try {
      count = (await handle.read(bytes, done, step, offset + done)).bytesRead;
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
  return bytes;
}
