// The deterministic inputs of the golden hashes, and the hash notation.
import { createHash } from 'node:crypto';

/** X(seed): a 32-bit linear congruential generator, the upper 24 bits scaled to [−2, 2). */
export function streamX(seed = 1, n = 1024): Float32Array {
  const out = new Float32Array(n);
  let s = seed;
  for (let i = 0; i < n; i++) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    out[i] = ((s >>> 8) / 2 ** 24 - 0.5) * 4;
  }
  return out;
}

/** Y: fl(fl(x·x)·x), heavier tails. */
export function streamY(): Float32Array {
  return streamX().map((x) => Math.fround(Math.fround(x * x) * x));
}

/** SHA-256 of the bytes. */
export function sha256(data: Uint8Array | Float32Array | Uint16Array): string {
  return createHash('sha256')
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');
}

/** First 16 hex digits of SHA-256. */
export const hash = (data: Uint8Array | Float32Array | Uint16Array) => sha256(data).slice(0, 16);

/** Lower-case hex of the first n bytes. */
export const hex = (data: Uint8Array, n: number) => Buffer.from(data.subarray(0, n)).toString('hex');
