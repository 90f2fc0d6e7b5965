// What a revision of a model or a data set on the hub holds: its commit, and its files with sizes and hashes.
//
// @huggingface/hub asks the hub's interface. HF_ENDPOINT names another hub, HF_TOKEN lets in.

import { deviceError, SubbyteError } from '../errors.ts';
import { networkReason, statusError } from './http-range.ts';
import { type Environment, isDataset } from './hub-cache.ts';
import type { HubFile } from './hub-download.ts';

export interface HubRevision {
  /** 40 hexadecimal digits. */
  readonly commit: string;
  /** By path in the repository; no path leads out of a folder that it is joined to. */
  readonly files: ReadonlyMap<string, HubFile>;
  /** Address of a file's content, which `headers` must go with. */
  url(path: string): string;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Asks the hub which commit a branch, tag or commit stands for and what it holds.
 *
 * Throws a user error for a repository that does not exist or may not be read, a device error with code `hub-unreachable`
 * when the hub does not answer, `interrupted` when the signal aborts.
 *
 * @example const { commit } = await findRevision('Qwen/Qwen3-0.6B', 'main', process.env);
 */
export async function findRevision(
  name: string,
  revision: string,
  env: Environment,
  signal?: AbortSignal,
): Promise<HubRevision> {
  const endpoint = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  const headers: Record<string, string> = env.HF_TOKEN ? { Authorization: `Bearer ${env.HF_TOKEN}` } : {};
  const { commit, files } = await listRepository(name, revision, endpoint, headers, signal);
  const encode = (path: string) => path.split('/').map(encodeURIComponent).join('/');
  return { commit, files, headers, url: (path) => `${endpoint}/${name}/resolve/${commit}/${encode(path)}` };
}

async function listRepository(
  name: string,
  revision: string,
  endpoint: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<{ commit: string; files: Map<string, HubFile> }> {
  // Loaded late: most runs work on local files.
  const { datasetInfo, listFiles, modelInfo } = await import('@huggingface/hub');
  const authorized: typeof fetch = (input, init) =>
    fetch(input, { ...init, headers: { ...(init?.headers as Record<string, string>), ...headers }, signal });
  try {
    const common = { hubUrl: endpoint, fetch: authorized };
    const id = name.replace(/^datasets\//, '');
    const wanted = { ...common, name: id, revision, additionalFields: ['sha' as const] };
    const { sha } = await (isDataset(name) ? datasetInfo(wanted) : modelInfo(wanted));
    const repo = { type: isDataset(name) ? ('dataset' as const) : ('model' as const), name: id };
    const files = new Map<string, HubFile>();
    for await (const entry of listFiles({ ...common, repo, revision: sha, recursive: true })) {
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

/** What errors say was tried. */
export const openVerb = (repository: string) => (isDataset(repository) ? 'open data set' : 'open model');

function hubError(name: string, endpoint: string, cause: unknown, signal: AbortSignal | undefined): SubbyteError {
  const details = { op: openVerb(name), file: `hf:${name}` };
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
