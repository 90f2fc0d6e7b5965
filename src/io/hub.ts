// Models from the Hugging Face hub into the shared cache.
//
// @huggingface/hub lists the files of a commit; the downloads themselves are ours (hub-download.ts), because the
// library's start over when a connection breaks. Only the files that the model needs are fetched (hub-files.ts).
// Environment: HF_HUB_CACHE and its relatives (hub-cache.ts), HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE. Node only.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deviceError, SubbyteError, userError } from '../errors.ts';
import { networkReason, statusError } from './http-range.ts';
import {
  cachedSnapshot,
  type Environment,
  hubCacheFolder,
  linkBlob,
  modelFolder,
  rememberRevision,
} from './hub-cache.ts';
import { downloadBlob, type HubFile } from './hub-download.ts';
import { selectFiles } from './hub-files.ts';

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
  const env = options.env ?? process.env;
  const cache = hubCacheFolder(env);
  const { name, revision } = reference;
  const cached = await cachedSnapshot(cache, name, revision);
  if (/^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? '')) {
    if (cached) return cached;
    throw userError({
      code: 'hub-offline',
      op: 'open model',
      problem: `HF_HUB_OFFLINE is set and revision ${revision} is not in the cache ${cache}`,
      file: `hf:${name}`,
      fix: 'unset HF_HUB_OFFLINE to download it',
    });
  }
  try {
    return await download(reference, cache, env, options);
  } catch (error) {
    const unreachable = error instanceof SubbyteError && error.details.code === 'hub-unreachable';
    if (unreachable && cached) return cached;
    throw error;
  }
}

async function download(
  { name, revision, file: wanted }: HubReference,
  cache: string,
  env: Environment,
  options: HubOptions,
): Promise<string> {
  const endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  const headers: Record<string, string> = env.HF_TOKEN ? { Authorization: `Bearer ${env.HF_TOKEN}` } : {};
  const { commit, files } = await listModel(name, revision, endpoint, headers, options.signal);
  const folder = modelFolder(cache, name);
  const snapshot = join(folder, 'snapshots', commit);
  const get = async (path: string) => {
    const file = files.get(path);
    if (!file)
      throw userError({ code: 'hub-file', op: 'open model', problem: `${path} is missing`, file: `hf:${name}` });
    const url = `${endpoint}/${name}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
    const blob = join(folder, 'blobs', file.etag);
    const http = { headers, signal: options.signal, pause: options.pause };
    await downloadBlob(url, blob, file, http, (done) => options.onProgress?.({ file: path, done, total: file.size }));
    await linkBlob(blob, join(snapshot, path));
    return join(snapshot, path);
  };
  const selection = selectFiles([...files.keys()], name, wanted);
  for (const path of selection.sidecars) await get(path);
  if (selection.index) for (const shard of await shardsOf(await get(selection.index), name)) await get(shard);
  for (const path of selection.weights) await get(path);
  await rememberRevision(cache, name, revision, commit);
  return snapshot;
}

/** The shards that an index names; openSafetensors checks the rest when it opens them. */
async function shardsOf(path: string, name: string): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await readFile(path, 'utf8')) as { weight_map: Record<string, string> };
    return [...new Set(Object.values(map))];
  } catch (cause) {
    const details = { code: 'hub-index', op: 'open model', problem: 'the shard index is damaged', file: `hf:${name}` };
    throw userError(details, { cause });
  }
}

async function listModel(
  name: string,
  revision: string,
  endpoint: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<{ commit: string; files: Map<string, HubFile> }> {
  // Loaded late: most runs work on local files.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const authorized: typeof fetch = (input, init) =>
    fetch(input, { ...init, headers: { ...(init?.headers as Record<string, string>), ...headers }, signal });
  try {
    const common = { hubUrl: endpoint, fetch: authorized };
    const { sha } = await modelInfo({ ...common, name, revision, additionalFields: ['sha'] });
    const files = new Map<string, HubFile>();
    for await (const entry of listFiles({ ...common, repo: name, revision: sha, recursive: true })) {
      if (entry.type !== 'file' || !isSafePath(entry.path)) continue;
      const etag = entry.lfs?.oid ?? entry.oid;
      if (!etag || !/^[0-9a-f]{40,64}$/.test(etag)) continue;
      files.set(entry.path, { path: entry.path, size: entry.size, etag, hash: entry.lfs ? 'sha256' : 'git' });
    }
    if (!/^[0-9a-f]{40}$/.test(sha)) throw new Error(`the hub names no commit for ${revision}`);
    return { commit: sha, files };
  } catch (cause) {
    throw hubError(name, endpoint, cause, signal);
  }
}

/** Paths from the hub are joined to the cache folder: none may lead out of it. */
const isSafePath = (path: string) =>
  !path.includes('\\') && !/^[a-z]:/i.test(path) && !path.split('/').some((p) => p === '' || p === '.' || p === '..');

function hubError(name: string, endpoint: string, cause: unknown, signal: AbortSignal | undefined): SubbyteError {
  const details = { op: 'open model', file: `hf:${name}` };
  if (signal?.aborted)
    return new SubbyteError('interrupted', { ...details, code: 'hub-interrupted', problem: 'interrupted' }, { cause });
  const status = (cause as { statusCode?: unknown } | null)?.statusCode;
  if (typeof status === 'number' && status < 500) return statusError(`hf:${name}`, status);
  return deviceError(
    {
      ...details,
      code: 'hub-unreachable',
      problem: `the hub at ${endpoint} does not answer (${status ?? networkReason(cause)})`,
      fix: 'check the connection, or name a local path',
    },
    { cause },
  );
}
