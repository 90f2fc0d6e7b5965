// The tokenizer of a GGUF file, carried over to another one as it is.
//
// A model that comes from GGUF has no tokenizer.json; its `tokenizer.*` keys are already what llama.cpp wants, so they
// are copied with the types that the specification gives them: token types i32, scores f32, ids u32.

import { modelError } from '../errors.ts';
import type { Checkpoint, MetadataValue } from '../io/checkpoint.ts';
import type { GgufEntry, GgufType } from '../io/gguf-types.ts';

/**
 * The `tokenizer.*` entries of a file's metadata; undefined when it has no tokenizer.
 *
 * @example const entries = copiedTokenizer(checkpoint.metadata, checkpoint.location);
 */
export function copiedTokenizer(metadata: Checkpoint['metadata'], file: string): GgufEntry[] | undefined {
  if (!metadata.has('tokenizer.ggml.model')) return undefined;
  return [...metadata]
    .filter(([key]) => key.startsWith('tokenizer.'))
    .map(([key, value]) => ({ key, type: entryType(key, value, file), value }));
}

function entryType(key: string, value: MetadataValue, file: string): GgufType {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'bool';
  if (value instanceof Float32Array) return 'f32[]';
  if (value instanceof Int32Array) return 'i32[]';
  if (typeof value === 'number' && Number.isInteger(value)) return value < 0 ? 'i32' : 'u32';
  if (Array.isArray(value)) {
    if (value.every((v) => typeof v === 'string')) return 'string[]';
    if (value.every((v) => typeof v === 'number' && Number.isInteger(v))) return 'i32[]';
  }
  throw modelError({
    code: 'gguf-tokenizer-key',
    op: 'write GGUF tokenizer',
    problem: `the value of ${key} is of a kind that no tokenizer key has`,
    file,
    fix: 'write safetensors instead',
  });
}
