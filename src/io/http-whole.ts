// A small file behind HTTP, read whole. Works in Node and the browser.

import { SubbyteError } from '../errors.ts';
import { type HttpOptions, httpRange } from './http-range.ts';

/**
 * The bytes of a URL, or undefined when there is no such file. `checkSize` throws for sizes that are too large; it is
 * asked before the first byte is kept, and again as bytes arrive, since a server need not tell the truth.
 *
 * @example const config = await httpWhole('http://localhost:8080/config.json', checkSidecarSize);
 */
export async function httpWhole(
  url: string,
  checkSize: (bytes: number, url: string) => void,
  options: HttpOptions = {},
): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const { bytes, total } of httpRange(url, 0, undefined, options)) {
      length += bytes.byteLength;
      checkSize(Math.max(length, total ?? 0), url);
      pieces.push(bytes);
    }
  } catch (error) {
    if (error instanceof SubbyteError && error.details.code === 'http-404') return undefined;
    throw error;
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
