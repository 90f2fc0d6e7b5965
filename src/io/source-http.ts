// A file behind HTTP as a ByteSource: each read is a range request. Works in Node and the browser.

import { modelError, userError } from '../errors.ts';
import { type HttpOptions, httpRange } from './http-range.ts';
import { type ByteSource, checkRange } from './source.ts';

/**
 * Opens a URL for reading parts of it.
 *
 * Throws a user error when it does not exist or the server gives no ranges, a device error when the network is down,
 * a model error when the file changes between two reads.
 *
 * @example const source = await openHttp('http://localhost:8080/model.gguf'); await source.read(0, 4);
 */
export async function openHttp(url: string, options: HttpOptions = {}): Promise<ByteSource> {
  let size: number | undefined;
  let etag: string | undefined;
  for await (const part of httpRange(url, 0, 1, options)) {
    size = part.total;
    etag = part.etag;
  }
  if (size === undefined)
    throw userError({
      code: 'http-size',
      op: 'read',
      problem: 'the server does not say how long the file is, or it is empty',
      file: url,
      fix: 'download the file and name its path',
    });
  const known = { name: url, size };
  return {
    ...known,
    read: async (offset, length) => {
      checkRange(known, offset, length);
      const bytes = new Uint8Array(length);
      let done = 0;
      for await (const part of httpRange(url, offset, offset + length, options)) {
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
