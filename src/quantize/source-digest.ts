// Is this the model that an earlier run read?
//
// Outputs are recognised and half-written ones continued by a fingerprint. It must change when the source is trained
// further in place, and must not cost a second reading of it: the digest covers every tensor's name, type and shape,
// the first and last bytes of its data, and the tokenizer. An edit in the middle of a large tensor is not seen.

import { createHash } from 'node:crypto';
import type { Checkpoint } from '../io/checkpoint.ts';

const edge = 1024;

/** SHA-256, in hex, of the parts of a checkpoint that tell it from another; the same on every machine. */
export async function sourceDigest(checkpoint: Checkpoint, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (const { name, dtype, shape, byteLength } of checkpoint.tensors.values()) {
    signal?.throwIfAborted();
    hash.update(JSON.stringify([name, dtype, shape]));
    hash.update(await checkpoint.readRange(name, 0, Math.min(edge, byteLength)));
    if (byteLength > edge) hash.update(await checkpoint.readRange(name, byteLength - edge, edge));
  }
  hash.update((await checkpoint.sidecar('tokenizer.json')) ?? '');
  return hash.digest('hex');
}
