// Bytes of a URL from a position on, through broken connections: every retry asks for what is still missing.
//
// A read is a GET with `Range: bytes=begin-end`. Servers answer 206 with the part, or 200 with everything, in which case
// the bytes before `begin` are dropped. Network failures, 429 and 5xx are tried again with growing pauses; every byte
// that arrives resets the count of attempts. Works in Node and the browser.

import { deviceError, SubbyteError, userError } from '../errors.ts';

export interface HttpOptions {
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
  /** Attempts in a row without a single new byte before giving up; default 5. */
  attempts?: number;
  /** First pause before trying again in milliseconds, doubled each time up to 8 s; default 500. */
  pause?: number;
}

export interface RangePart {
  bytes: Uint8Array;
  /** Bytes of the whole resource, when the server says. */
  total: number | undefined;
  etag: string | undefined;
}

/** Tried again: the connection broke or the server is busy. */
class Transient extends Error {}

/**
 * Yields the bytes from `begin` up to `end` (exclusive) or the end of the resource as they arrive.
 *
 * Throws a user error for 401, 403 and 404, a device error when the network stays down, `interrupted` on abort.
 *
 * @example for await (const { bytes } of httpRange(url, 0, 8)) head.push(bytes);
 */
export async function* httpRange(
  url: string,
  begin: number,
  end?: number,
  options: HttpOptions = {},
): AsyncGenerator<RangePart> {
  const most = options.attempts ?? 5;
  let position = begin;
  let attempt = 0;
  while (end === undefined || position < end) {
    let complete = false;
    try {
      const response = await request(url, position, end, options);
      const { start, total } = placeOf(response);
      const etag = response.headers.get('etag') ?? undefined;
      const last = end === undefined || total === undefined ? (end ?? total) : Math.min(end, total);
      // What a server sends before the asked position (status 200) is passed over.
      let at = start;
      for await (const chunk of bodyChunks(response, url)) {
        // More than was asked for: the rest is called off.
        if (complete) return;
        const from = Math.max(0, position - at);
        const to = last === undefined ? chunk.byteLength : Math.min(chunk.byteLength, last - at);
        at += chunk.byteLength;
        if (to <= from) continue;
        position += to - from;
        attempt = 0;
        yield { bytes: chunk.subarray(from, to), total, etag };
        // The loop goes on to the end of the answer, so that the connection serves the next request.
        complete = last !== undefined && position >= last;
      }
      if (last === undefined || position >= last) return;
      throw new Transient(`the connection ended at byte ${position} of ${last}`);
    } catch (cause) {
      if (complete) return;
      if (options.signal?.aborted) throw interrupted(url, cause);
      if (!(cause instanceof Transient)) throw cause;
      attempt++;
      if (attempt >= most)
        throw deviceError(
          {
            code: 'http-network',
            op: 'download',
            problem: `no answer after ${most} attempts (${cause.message})`,
            file: url,
            fix: 'check the connection and run again; what has arrived is kept',
          },
          { cause },
        );
      await sleep(Math.min(8000, (options.pause ?? 500) * 2 ** (attempt - 1)), options.signal);
    }
  }
}

async function request(url: string, begin: number, end: number | undefined, options: HttpOptions): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, {
      // A compressed answer would have other positions. Browsers do not let this header through and need not.
      headers: {
        'Accept-Encoding': 'identity',
        ...options.headers,
        Range: `bytes=${begin}-${end === undefined ? '' : end - 1}`,
      },
      signal: options.signal,
    });
  } catch (cause) {
    throw new Transient(networkReason(cause), { cause });
  }
  const { status } = response;
  if (status === 200 || status === 206) return response;
  await response.body?.cancel().catch(() => undefined);
  if (status === 429 || status >= 500) throw new Transient(`status ${status}`);
  throw statusError(url, status, response.headers.get('x-error-message') ?? undefined);
}

/** A refused request as a sentence; addresses of the hub say whether a model or a data set is meant. */
export function statusError(url: string, status: number, message?: string): SubbyteError {
  const what = /\bdatasets\//.test(url) ? 'data set' : 'model';
  const known: Record<number, [string, string]> = {
    401: ['the server asks for a token', `set HF_TOKEN to a token that may read the ${what}`],
    403: ['access is refused', `accept the conditions on the page of the ${what}, or set HF_TOKEN`],
    404: [`there is no such ${what}, revision or file`, 'check the name'],
    416: ['the file on the server is shorter than expected', 'remove the partial download and run again'],
  };
  const [problem, fix] = known[status] ?? ['the server refuses the request', 'try again later'];
  const detail = message ? ` (${message.slice(0, 200)})` : '';
  return userError({ code: `http-${status}`, op: 'download', problem: problem + detail, got: status, file: url, fix });
}

/** Where the body of a response starts, and how long the resource is. */
function placeOf(response: Response): { start: number; total: number | undefined } {
  if (response.status === 200) {
    const length = response.headers.get('content-length');
    // With a content encoding the length is not that of the bytes that arrive.
    const known = length !== null && !response.headers.get('content-encoding');
    return { start: 0, total: known ? Number(length) : undefined };
  }
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  if (!match) throw new Transient('the server sends a part without saying which');
  return { start: Number(match[1]), total: match[3] === '*' ? undefined : Number(match[3]) };
}

async function* bodyChunks(response: Response, url: string): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) throw new Transient(`empty answer from ${url}`);
  let finished = false;
  try {
    for (;;) {
      let next: ReadableStreamReadResult<Uint8Array>;
      try {
        next = await reader.read();
      } catch (cause) {
        throw new Transient(networkReason(cause), { cause });
      }
      if (next.done) {
        finished = true;
        return;
      }
      yield next.value;
    }
  } finally {
    if (!finished) await reader.cancel().catch(() => undefined);
  }
}

/** fetch hides the reason (`ECONNREFUSED`) in the cause. */
export function networkReason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}

function interrupted(url: string, cause: unknown): SubbyteError {
  return new SubbyteError(
    'interrupted',
    {
      code: 'download-interrupted',
      op: 'download',
      problem: 'interrupted',
      file: url,
      fix: 'run the same command again to continue',
    },
    { cause },
  );
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
