// The index of a sharded safetensors model: { metadata, weight_map: { tensor: file } }.

import { modelError } from '../errors.ts';

/** The most bytes that a shard index may have; real ones stay below 20 MB. */
const maxIndexBytes = 256 * 2 ** 20;

const refuse = (file: string, problem: string, more: object = {}) =>
  modelError({ code: 'safetensors-index', op: 'read safetensors', problem, file, ...more });

/** Throws a model error for an index that is too large to be one. */
export function checkIndexSize(size: number, file: string): void {
  if (size > maxIndexBytes) throw refuse(file, 'the shard index is too large', { got: `${size} bytes` });
}

/**
 * Tensor name → name of its shard, which lies beside the index: names with folders are refused. `file` is for messages.
 *
 * @example parseShardIndex(bytes, 'model.safetensors.index.json').get('model.norm.weight')
 */
export function parseShardIndex(bytes: Uint8Array, file: string): Map<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 120) : String(cause);
    throw refuse(file, `the shard index is no valid JSON (${reason})`);
  }
  const map = (parsed as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    throw refuse(file, 'the shard index has no weight_map');
  const shards = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== 'string' || shard === '' || /[\\/]/.test(shard) || shard === '.' || shard === '..')
      throw refuse(file, 'the index names a shard that is no plain file name', { tensor, got: JSON.stringify(shard) });
    shards.set(tensor, shard);
  }
  return shards;
}
