// Safetensors checkpoints behind HTTP: headers at once, tensors by range requests when they are read.
//
// Works in Node and the browser, where relative URLs are those of the page.

import type { Checkpoint } from './checkpoint.ts';
import type { HttpOptions } from './http-range.ts';
import { httpWhole } from './http-whole.ts';
import { inGroups } from './in-groups.ts';
import { checkIndexSize, parseShardIndex } from './safetensors-index.ts';
import { openSafetensorsSources } from './safetensors-sources.ts';
import { checkSidecarSize } from './sidecar-size.ts';
import { openHttp } from './source-http.ts';

/** Comes with a file's first request; holds the headers of most shards. */
const headBytes = 2 ** 14;
/** Files that are opened at once. */
const openAtOnce = 8;

/**
 * Opens a `.safetensors` file, a `.safetensors.index.json`, or a folder (its URL ends with `/`) that holds
 * model.safetensors.index.json or model.safetensors. Files beside the weights are asked for in the same folder.
 *
 * Throws a user error when there is no such file, a device error when the network is down, a model error when a rule of
 * the format is broken.
 *
 * @example const model = await openSafetensorsUrl('/models/qwen3-6m/'); await model.read('model.norm.weight');
 */
export async function openSafetensorsUrl(url: string, options: HttpOptions = {}): Promise<Checkpoint> {
  const place = new URL(url, globalThis.location?.href);
  const at = (name: string) => new URL(name, place).href;
  const open = (file: string) => openHttp(file, options, headBytes);
  const sidecar = (name: string) => httpWhole(at(name), checkSidecarSize, options);
  const folder = place.pathname.endsWith('/');
  const index = folder ? at('model.safetensors.index.json') : place.href;
  const bytes = index.endsWith('.json') ? await httpWhole(index, checkIndexSize, options) : undefined;
  if (!bytes) {
    const source = await open(folder ? at('model.safetensors') : place.href);
    return await openSafetensorsSources(place.href, [source], undefined, sidecar);
  }
  const weightMap = new Map([...parseShardIndex(bytes, index)].map(([tensor, shard]) => [tensor, at(shard)]));
  const sources = await inGroups([...new Set(weightMap.values())], openAtOnce, open);
  return await openSafetensorsSources(place.href, sources, weightMap, sidecar);
}
