// A file behind HTTP as a ByteSource: each read is a range request. Works in Node and the browser.

import { modelError, userError } from '../errors.ts';
import { type HttpOptions, httpRange } from './http-range.ts';
import { type ByteSource, checkRange } from './source.ts';

/**
 * Opens a URL for reading parts of it. The first `headBytes` bytes, or all of a shorter file, come with the request that
 * asks for the size; reads that need them ask for nothing again.
 *
 * Throws a user error when it does not exist or the server gives no ranges, a device error when the network is down,
 * a model error when the file changes between two reads.
 *
 * @example const source = await openHttp('http://localhost:8080/model.gguf'); await source.read(0, 4);
 */
export async function openHttp(url: string, options: HttpOptions = {}, headBytes = 1): Promise<ByteSource> {
  let size: number | undefined;
  let etag: string | undefined;
  const first = new Uint8Array(headBytes);
  let have = 0;
  for await (const part of httpRange(url, 0, headBytes, options)) {
    size = part.total;
    etag = part.etag;
    first.set(part.bytes, have);
    have += part.bytes.byteLength;
  }
  if (size === undefined)
    throw userError({
      code: 'http-size',
      op: 'read',
      problem: 'the server does not say how long the file is, or it is empty',
      file: url,
      fix: 'download the file and name its path',
    });
  const head = first.subarray(0, have);
  const known = { name: url, size };
  return {
    ...known,
    read: async (offset, length) => {
      checkRange(known, offset, length);
      const bytes = new Uint8Array(length);
      const held = head.subarray(offset, offset + length);
      bytes.set(held);
      let done = held.byteLength;
      if (done === length) return bytes;
      for await (const part of httpRange(url, offset + done, offset + length, options)) {
        if (part.etag !== etag || (part.total !== undefined && part.total !== size))
          throw modelError({
            code: 'http-changed',
            op: 'read',
            problem: 'the file changed on the server while it was read',
            file: url,
            fix: 'run again',
          });
        bytes.set(part.bytes, done);
        done += part.bytes.byteLength;
      }
      return bytes;
    },
    close: async () => {},
  };
}
