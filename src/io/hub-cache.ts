// Where downloaded models and data sets lie: the cache layout of the Python client, so that files are shared with it.
//
// A repository is `org/name` for a model, `datasets/org/name` for a data set.
// <cache>/models--org--name/ or <cache>/datasets--org--name/ hold {blobs/<etag>, refs/<revision> (holds a commit), snapshots/<commit>/<file> → ../../blobs/…}
// The cache is HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
// ~/.cache/huggingface/hub. Node only.

import { copyFile, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { makeFolder } from './make-folder.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export function hubCacheFolder(env: Environment = process.env): string {
  const set = (name: string) => (env[name] ? expandHome(env[name]) : undefined);
  const home = set('HF_HOME') ?? join(set('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'huggingface');
  return set('HF_HUB_CACHE') ?? set('HUGGINGFACE_HUB_CACHE') ?? join(home, 'hub');
}

const expandHome = (path: string) => (path.startsWith('~/') ? join(homedir(), path.slice(2)) : path);

/** Whether a repository holds a data set. */
export const isDataset = (repository: string) => repository.split('/').length === 3;

/** Folder of one repository in the cache. */
export function repositoryFolder(cache: string, name: string): string {
  return join(cache, (isDataset(name) ? name : `models/${name}`).split('/').join('--'));
}

const commitPattern = /^[0-9a-f]{40}$/;

/** The snapshot of a revision (branch, tag or commit) that is in the cache, or undefined. */
export async function cachedSnapshot(cache: string, name: string, revision: string): Promise<string | undefined> {
  const folder = repositoryFolder(cache, name);
  const ref = await readFile(join(folder, 'refs', revision), 'utf8').catch(() => undefined);
  const commit = commitPattern.test(revision) ? revision : ref?.trim();
  if (commit === undefined) return undefined;
  const snapshot = join(folder, 'snapshots', commit);
  return (await isFolder(snapshot)) ? snapshot : undefined;
}

/** Notes which commit a branch or tag stands for. */
export async function rememberRevision(cache: string, name: string, revision: string, commit: string): Promise<void> {
  if (revision === commit) return;
  const path = join(repositoryFolder(cache, name), 'refs', revision);
  await makeFolder(dirname(path));
  await writeFile(`${path}.new`, commit);
  await rename(`${path}.new`, path);
}

/** Makes the snapshot's file point to a blob; copies where the system has no symbolic links. */
export async function linkBlob(blob: string, pointer: string): Promise<void> {
  await makeFolder(dirname(pointer));
  await rm(pointer, { force: true });
  try {
    await symlink(relative(dirname(pointer), blob), pointer);
  } catch {
    await copyFile(blob, pointer);
  }
}

const isFolder = async (path: string) => (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
