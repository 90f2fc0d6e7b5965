// Random access to bytes, wherever they are.
//
// Readers of containers want a header and then one tensor at a time. A ByteSource gives exactly that and hides whether
// the bytes are in memory, in a browser Blob, in a local file (source-file.ts) or behind HTTP (source-http.ts). This
// file needs nothing from Node, so it is part of the browser build.

import { modelError } from '../errors.ts';

export interface ByteSource {
  /** File name or URL, for messages. */
  readonly name: string;
  /** Bytes in total, known before the first read. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset`, in memory of their own (byteOffset 0).
   * Throws a model error when they lie outside the source or cannot be read.
   */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Throws unless [offset, offset + length) lies inside the source: the check before every allocation. */
export function checkRange(source: { name: string; size: number }, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (whole && offset + length <= source.size) return;
  throw modelError({
    code: 'source-range',
    op: 'read',
    problem: 'bytes outside the file are needed, which is probably truncated',
    got: `${source.size} bytes`,
    expected: `at least ${offset + length} bytes`,
    file: source.name,
    fix: 'copy or download the file again',
  });
}

/** Bytes that are in memory already. Reads are copies. */
export function memorySource(bytes: Uint8Array, name = 'memory'): ByteSource {
  const source = {
    name,
    size: bytes.byteLength,
    read: async (offset: number, length: number) => {
      checkRange(source, offset, length);
      return bytes.slice(offset, offset + length);
    },
    close: async () => {},
  };
  return source;
}

/** A browser Blob or File: reads touch only the asked part. */
export function blobSource(blob: Blob, name = 'blob'): ByteSource {
  const source = {
    name,
    size: blob.size,
    read: async (offset: number, length: number) => {
      checkRange(source, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
    close: async () => {},
  };
  return source;
}
