// Models, and files of data sets, from the Hugging Face hub into the shared cache.
//
// @huggingface/hub lists the files of a commit (hub-revision.ts); the downloads themselves are ours (hub-download.ts),
// because the library's start over when a connection breaks. Only the files that the model needs are fetched (hub-files.ts).
// Environment: HF_HUB_CACHE and its relatives (hub-cache.ts), HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. Node only.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SubbyteError, userError } from '../errors.ts';
import {
  cachedSnapshot,
  type Environment,
  hubCacheFolder,
  linkBlob,
  rememberRevision,
  repositoryFolder,
} from './hub-cache.ts';
import { downloadBlob } from './hub-download.ts';
import { selectFiles } from './hub-files.ts';
import { findRevision, type HubRevision, openVerb } from './hub-revision.ts';
import { parseShardIndex } from './safetensors-index.ts';

/** `org/name`, at a branch, tag or commit, optionally one file of it. */
export interface HubReference {
  name: string;
  revision: string;
  file?: string;
}

export interface HubOptions {
  /** Told while a file arrives: bytes of this file. */
  onProgress?: (progress: { file: string; done: number; total: number }) => void;
  signal?: AbortSignal;
  /** Default: process.env. */
  env?: Environment;
  /** First pause before a broken request is tried again, in milliseconds; default 500. */
  pause?: number;
}

const referencePattern = /^([\w.-]+\/[\w.-]+)((?:\/[^@]+)?)(?:@([\w./-]+))?$/;

/**
 * Reads `org/name`, `org/name@revision`, `org/name/file.gguf`, with or without `hf:`; undefined for anything else.
 *
 * @example parseHubReference('hf:Qwen/Qwen3-0.6B@main') // { name: 'Qwen/Qwen3-0.6B', revision: 'main' }
 */
export function parseHubReference(reference: string): HubReference | undefined {
  const match = referencePattern.exec(reference.replace(/^hf:/, ''));
  if (!match || match[0].split(/[/@]/).some((part) => part === '.' || part === '..')) return undefined;
  return { name: match[1], revision: match[3] ?? 'main', ...(match[2] ? { file: match[2].slice(1) } : {}) };
}

/**
 * Makes sure that the model's files are in the cache and gives their folder, `snapshots/<commit>`.
 *
 * Offline (HF_HUB_OFFLINE=1), or when the hub cannot be reached, the cached snapshot is used as it is.
 * Throws a user error for a model that does not exist or may not be read, a device error when the network is down and
 * nothing is cached, `interrupted` when the signal aborts; the next call continues the download.
 */
export async function fetchModel(reference: HubReference, options: HubOptions = {}): Promise<string> {
  return await hubOrCache(
    reference,
    options,
    (found, cache) => download(reference, found, cache, options),
    async (snapshot) => snapshot,
  );
}

/** `online` with what the hub says about the revision; `cached` with the snapshot when the hub is out of reach. */
export async function hubOrCache<T>(
  { name, revision }: HubReference,
  options: HubOptions,
  online: (found: HubRevision, cache: string) => Promise<T>,
  cached: (snapshot: string) => Promise<T>,
): Promise<T> {
  const env = options.env ?? process.env;
  const cache = hubCacheFolder(env);
  const snapshot = await cachedSnapshot(cache, name, revision);
  if (/^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? '')) {
    if (snapshot) return await cached(snapshot);
    throw userError({
      code: 'hub-offline',
      op: openVerb(name),
      problem: `HF_HUB_OFFLINE is set and revision ${revision} is not in the cache ${cache}`,
      file: `hf:${name}`,
      fix: 'unset HF_HUB_OFFLINE to download it',
    });
  }
  let found: HubRevision;
  try {
    found = await findRevision(name, revision, env, options.signal);
  } catch (error) {
    const unreachable = error instanceof SubbyteError && error.details.code === 'hub-unreachable';
    if (unreachable && snapshot) return await cached(snapshot);
    throw error;
  }
  return await online(found, cache);
}

/** One file of a revision into the cache: its path there. */
export async function downloadFile(
  { name }: HubReference,
  { commit, files, url, headers }: HubRevision,
  cache: string,
  path: string,
  options: HubOptions,
): Promise<string> {
  const folder = repositoryFolder(cache, name);
  const file = files.get(path);
  if (!file)
    throw userError({ code: 'hub-file', op: openVerb(name), problem: `${path} is missing`, file: `hf:${name}` });
  const blob = join(folder, 'blobs', file.etag);
  const http = { headers, signal: options.signal, pause: options.pause };
  const onBytes = (done: number) => options.onProgress?.({ file: path, done, total: file.size });
  await downloadBlob(url(path), blob, file, http, onBytes);
  const pointer = join(folder, 'snapshots', commit, path);
  await linkBlob(blob, pointer);
  return pointer;
}

async function download(
  reference: HubReference,
  found: HubRevision,
  cache: string,
  options: HubOptions,
): Promise<string> {
  const { name, revision, file: wanted } = reference;
  const { commit, files } = found;
  const get = (path: string) => downloadFile(reference, found, cache, path, options);
  const selection = selectFiles([...files.keys()], name, wanted);
  for (const path of selection.sidecars) await get(path);
  if (selection.index) {
    const index = await get(selection.index);
    for (const shard of new Set(parseShardIndex(await readFile(index), index).values())) await get(shard);
  }
  for (const path of selection.weights) await get(path);
  await rememberRevision(cache, name, revision, commit);
  return join(repositoryFolder(cache, name), 'snapshots', commit);
}
