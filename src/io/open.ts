// A Checkpoint from whatever a user names: a folder, a file, a URL, or a model on the hub.

import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { modelError, userError } from '../errors.ts';
import { nearest } from '../formats/edit-distance.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openGguf } from './gguf.ts';
import { openGgufSources } from './gguf-sources.ts';
import type { HttpOptions } from './http-range.ts';
import { httpWhole } from './http-whole.ts';
import { fetchModel, type HubOptions, parseHubReference } from './hub.ts';
import { ggufGroup, isPickle, noWeights } from './hub-files.ts';
import { openRemote } from './hub-remote.ts';
import { openSafetensors } from './safetensors.ts';
import { openSafetensorsUrl } from './safetensors-url.ts';
import { checkSidecarSize } from './sidecar-size.ts';
import { openFile } from './source-file.ts';
import { openHttp } from './source-http.ts';

export interface OpenOptions extends HubOptions {
  /** Models on the hub are read where they are: headers at once, tensors when asked for. Default: downloaded whole. */
  remote?: boolean;
}

const op = 'open model';

/**
 * Opens a model for reading, headers only.
 *
 * `reference` is a folder with safetensors or one GGUF model; a `.safetensors`, `.safetensors.index.json` or `.gguf`
 * file; an http(s) URL of such a file; `hf:org/name`, `hf:org/name@revision`, `hf:org/name/file.gguf`; or `org/name`
 * where no such path exists. Pickled weights are refused.
 *
 * @example const model = await openCheckpoint('models/qwen3-6m'); … await model.close();
 */
export async function openCheckpoint(reference: string, options: OpenOptions = {}): Promise<Checkpoint> {
  if (/^https?:\/\//.test(reference)) return await openUrl(reference, options);
  if (reference.startsWith('hf:')) return await openHub(reference, options);
  const info = await stat(reference).catch(() => undefined);
  if (info) return info.isDirectory() ? await openFolder(reference) : await openModelFile(reference);
  if (await looksLikeHub(reference)) return await openHub(reference, options);
  throw await missing(reference);
}

async function openHub(reference: string, options: OpenOptions): Promise<Checkpoint> {
  const parsed = parseHubReference(reference);
  if (!parsed)
    throw userError({
      code: 'hub-reference',
      op,
      problem: 'this is no name of a model on the hub',
      got: reference,
      expected: 'hf:org/name, hf:org/name@revision or hf:org/name/file.gguf',
    });
  const openSnapshot = (snapshot: string) =>
    parsed.file ? openModelFile(join(snapshot, parsed.file)) : openFolder(snapshot);
  const opened = options.remote
    ? await openRemote(parsed, options, openSnapshot)
    : await openSnapshot(await fetchModel(parsed, options));
  return { ...opened, location: `hf:${reference.replace(/^hf:/, '')}` };
}

async function openFolder(path: string): Promise<Checkpoint> {
  const names = (await readdir(path)).sort();
  if (names.some((n) => n.endsWith('.safetensors') || n.endsWith('.safetensors.index.json')))
    return await openSafetensors(path);
  const gguf = names.filter((n) => n.endsWith('.gguf'));
  const groups = new Set(gguf.map((n) => ggufGroup(n, gguf)[0]));
  if (groups.size === 1) return await openGguf(join(path, gguf[0]));
  if (groups.size > 1)
    throw userError({
      code: 'gguf-choose',
      op,
      problem: `the folder holds ${groups.size} GGUF models: ${[...groups].slice(0, 12).join(', ')}`,
      file: path,
      fix: `name one, for example ${join(path, gguf[0])}`,
    });
  throw noWeights(names.some(isPickle), path);
}

/** By its name, and by its first bytes where the name says nothing. */
async function openModelFile(path: string): Promise<Checkpoint> {
  if (path.endsWith('.gguf')) return await openGguf(path);
  if (path.endsWith('.safetensors') || path.endsWith('.safetensors.index.json')) return await openSafetensors(path);
  if (isPickle(path)) throw noWeights(true, path);
  const source = await openFile(path);
  const head = await source.read(0, Math.min(9, source.size)).finally(() => source.close());
  if (Buffer.from(head.subarray(0, 4)).toString('latin1') === 'GGUF') return await openGguf(path);
  if (head[8] === 0x7b) return await openSafetensors(path);
  const zip = head[0] === 0x50 && head[1] === 0x4b;
  if (zip || head[0] === 0x80) throw noWeights(true, path);
  throw modelError({
    code: 'unknown-container',
    op,
    problem: 'the file is neither safetensors nor GGUF',
    file: path,
    fix: 'name a .safetensors or .gguf file, or the folder of the model',
  });
}

async function openUrl(url: string, options: HttpOptions): Promise<Checkpoint> {
  const { pathname } = new URL(url);
  if (/\.safetensors(\.index\.json)?$/.test(pathname)) return await openSafetensorsUrl(url, options);
  if (pathname.endsWith('.gguf')) {
    const sidecar = (name: string) => httpWhole(new URL(name, url).href, checkSidecarSize, options);
    return await openGgufSources(url, [await openHttp(url, options)], sidecar);
  }
  throw userError({
    code: 'url-kind',
    op,
    problem: 'the URL names no .gguf, .safetensors or .safetensors.index.json file',
    got: url,
    fix: 'name such a file, or hf:org/name for a model on the hub',
  });
}

/** `org/name` counts as a model on the hub unless `org` is a folder here, which makes a typing error more likely. */
async function looksLikeHub(reference: string): Promise<boolean> {
  if (!parseHubReference(reference) || /\.(gguf|safetensors|json)$/.test(basename(reference).replace(/@.*/, '')))
    return false;
  return !(await stat(reference.split('/')[0]).catch(() => undefined));
}

/** The error for a path that is not there, with the most similar name beside it. */
async function missing(path: string): Promise<Error> {
  const folder = dirname(resolve(path));
  const names = await readdir(folder).catch(() => undefined);
  const similar = names && nearest(basename(path), names);
  return userError({
    code: 'path-missing',
    op,
    problem: names ? 'no such file or folder' : `there is no folder ${dirname(path)}`,
    got: path,
    fix: similar
      ? `did you mean ${join(dirname(path), similar)}?`
      : 'name a path, or hf:org/name for a model on the hub',
  });
}
