// One file of a data set on the hub: which, and into the cache.
//
// `hf:datasets/org/name[@revision][/path/in/repo]`. A revision with slashes is one of the hub's own (`refs/convert/…`,
// `refs/pr/…`); elsewhere a slash is written %2F.
// Without a path: of the files that can be read (JSONL, text, Parquet), in the order of their paths, the first whose path
// has the word train; where no path names a split, the first of all. Words are what is between characters that are
// neither letters nor digits, as on the hub.

import { readdir } from 'node:fs/promises';
import { basename, join, relative, sep } from 'node:path';
import { userError } from '../errors.ts';
import { nearest } from '../formats/edit-distance.ts';
import { downloadFile, type HubOptions, hubOrCache } from './hub.ts';
import { rememberRevision } from './hub-cache.ts';

export interface DatasetReference {
  /** `datasets/org/name` */
  name: string;
  revision: string;
  /** Path in the repository. */
  file?: string;
}

const pattern = /^hf:(datasets\/[\w.-]+\/[\w.-]+)(?:@(refs\/(?:convert|pr)\/[\w.-]+|[^/@]+))?(?:\/(.+))?$/;
const op = 'open data set';

/**
 * Reads `hf:datasets/org/name[@revision][/path]`. Throws a user error for anything else.
 *
 * @example parseDatasetReference('hf:datasets/org/name') // { name: 'datasets/org/name', revision: 'main' }
 */
export function parseDatasetReference(reference: string): DatasetReference {
  const match = pattern.exec(reference);
  const [, name, revision, file] = match ?? [];
  const decoded = revision?.replace(/%2f/gi, '/') ?? 'main';
  const parts = [name, decoded, file ?? 'x'].join('/').split('/');
  if (match && !parts.some((part) => part === '' || part === '.' || part === '..'))
    return { name, revision: decoded, ...(file !== undefined && { file }) };
  throw userError({
    code: 'dataset-reference',
    op,
    problem: 'this names no data set on the hub',
    got: JSON.stringify(reference.slice(0, 120)),
    expected: 'hf:datasets/org/name, with @revision and /path/in/repo if wanted',
  });
}

/** A file in the cache, and what it is: `hf:datasets/org/name@<commit>/path`. */
export interface DatasetFile {
  path: string;
  source: string;
}

/**
 * Brings the file that a reference means into the cache. Environment, resuming and errors are those of fetchModel.
 *
 * @throws user error that lists what there is when nothing fits
 */
export async function fetchDatasetFile(reference: DatasetReference, options: HubOptions = {}): Promise<DatasetFile> {
  const { name, revision } = reference;
  const found = (commit: string, file: string, path: string) => ({ path, source: `hf:${name}@${commit}/${file}` });
  return await hubOrCache(
    reference,
    options,
    async (at, cache) => {
      const file = chooseFile([...at.files.keys()], reference);
      const path = await downloadFile(reference, at, cache, file, options);
      await rememberRevision(cache, name, revision, at.commit);
      return found(at.commit, file, path);
    },
    async (snapshot) => {
      const file = chooseFile(await listFolder(snapshot), reference);
      return found(basename(snapshot), file, join(snapshot, file));
    },
  );
}

async function listFolder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => !entry.isDirectory());
  return files.map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'));
}

const readable = /\.(parquet|(jsonl|ndjson|txt)(\.(gz|zst|br|xz))?)$/;
const aboutTheRepository = /(^|\/)(\.|readme|licen[cs]e|notice|requirements)[^/]*$/i;
const words = (path: string) => path.toLowerCase().split(/[^a-z0-9]+/);
const train = new Set(['train', 'training']);
const otherSplits = new Set(['test', 'testing', 'valid', 'validation', 'val', 'dev', 'eval', 'evaluation']);

/** The path of the wanted file, by the rules above. */
export function chooseFile(names: readonly string[], { name, file }: DatasetReference): string {
  const listed = (all: readonly string[]) => all.slice(0, 12).join(', ') + (all.length > 12 ? ', …' : '');
  const data = names.filter((n) => readable.test(n) && !aboutTheRepository.test(n)).sort();
  if (file !== undefined) {
    if (names.includes(file)) return file;
    const close = nearest(file, names);
    throw userError({
      code: 'hub-file',
      op,
      problem: 'the data set has no such file',
      got: file,
      expected: names.length > 0 ? `one of ${listed(data.length > 0 ? data : names)}` : 'a data set with files',
      file: `hf:${name}`,
      fix: close && `did you mean ${close}?`,
    });
  }
  const named = (split: ReadonlySet<string>) => data.filter((n) => words(n).some((word) => split.has(word)));
  const first = named(train)[0] ?? (named(otherSplits).length === 0 ? data[0] : undefined);
  if (first !== undefined) return first;
  const all = data.length > 0 ? data : names;
  throw userError({
    code: 'dataset-choose',
    op,
    problem: data.length > 0 ? 'no file names the train split' : 'no file is JSONL, text or Parquet',
    got: all.length > 0 ? listed(all) : 'no files',
    file: `hf:${name}`,
    fix: data.length > 0 ? `name one: hf:${name}/${data[0]}` : 'convert the data to JSONL and name the local file',
  });
}
