// A model on the hub, opened where it is: headers by range requests, small files whole, weights only when they are read.
//
// Nothing is stored. A snapshot in the cache that is whole is used instead.

import { posix } from 'node:path';
import { userError } from '../errors.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openGgufSources } from './gguf-sources.ts';
import { httpRange } from './http-range.ts';
import { type HubOptions, type HubReference, hubOrCache } from './hub.ts';
import { cachedSnapshot } from './hub-cache.ts';
import { selectFiles } from './hub-files.ts';
import type { HubRevision } from './hub-revision.ts';
import { inGroups } from './in-groups.ts';
import { checkIndexSize, parseShardIndex } from './safetensors-index.ts';
import { openSafetensorsSources } from './safetensors-sources.ts';
import { checkSidecarSize } from './sidecar-size.ts';
import { openHttp } from './source-http.ts';

/** Comes with a file's first request; holds the headers of most safetensors shards. */
const headBytes = 2 ** 14;
/** Files that are opened at once. */
const openAtOnce = 8;

/**
 * Opens a model on the hub without downloading its weights. `openSnapshot` opens a folder of the cache.
 *
 * Errors are those of fetchModel; reading tensors later takes the network.
 *
 * @example const model = await openRemote({ name: 'Qwen/Qwen3-0.6B', revision: 'main' }, {}, openSafetensors);
 */
export async function openRemote(
  reference: HubReference,
  options: HubOptions,
  openSnapshot: (folder: string) => Promise<Checkpoint>,
): Promise<Checkpoint> {
  const online = async (found: HubRevision, cache: string) => {
    const snapshot = await cachedSnapshot(cache, reference.name, found.commit);
    // A download that was broken off leaves a snapshot that does not open.
    const cached = snapshot && (await openSnapshot(snapshot).catch(() => undefined));
    return cached || (await openRevision(reference, found, options));
  };
  return await hubOrCache(reference, options, online, openSnapshot);
}

async function openRevision(
  { name, file }: HubReference,
  { files, url, headers }: HubRevision,
  { signal, pause }: HubOptions,
): Promise<Checkpoint> {
  const http = { headers, signal, pause };
  const open = async (path: string) => {
    if (files.has(path)) return await openHttp(url(path), http, headBytes);
    throw userError({ code: 'hub-file', op: 'open model', problem: `${path} is missing`, file: `hf:${name}` });
  };
  const whole = async (path: string) => {
    const pieces: Uint8Array[] = [];
    for await (const { bytes } of httpRange(url(path), 0, files.get(path)?.size, http)) pieces.push(bytes);
    return new Uint8Array(Buffer.concat(pieces));
  };
  const selection = selectFiles([...files.keys()], name, file);
  const index = selection.index ?? selection.weights.find((path) => path.endsWith('.index.json'));
  const folder = posix.dirname(index ?? selection.weights[0]);
  const sidecar = async (fileName: string) => {
    const path = posix.join(folder, fileName);
    const known = files.get(path);
    if (!known) return undefined;
    checkSidecarSize(known.size, url(path));
    return await whole(path);
  };
  const location = `hf:${name}`;
  if (index) {
    checkIndexSize(files.get(index)?.size ?? 0, url(index));
    const shards = parseShardIndex(await whole(index), url(index));
    const place = (shard: string) => posix.join(folder, shard);
    const sources = await inGroups([...new Set(shards.values())], openAtOnce, (shard) => open(place(shard)));
    const weightMap = new Map([...shards].map(([tensor, shard]) => [tensor, url(place(shard))]));
    return await openSafetensorsSources(location, sources, weightMap, sidecar);
  }
  const sources = await inGroups(selection.weights, openAtOnce, open);
  if (selection.weights[0].endsWith('.gguf')) return await openGgufSources(location, sources, sidecar);
  return await openSafetensorsSources(location, sources, undefined, sidecar);
}
