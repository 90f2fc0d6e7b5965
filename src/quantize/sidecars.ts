// The small files beside the weights: read for metadata, copied to folders.

import { modelError } from '../errors.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { ggufTokenizer } from '../io/tokenizer-gguf.ts';

/** Files that belong to a Hugging Face model folder besides config.json and the weights. */
export const copiedFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'chat_template.jinja',
  'generation_config.json',
] as const;

/**
 * The files of `copiedFiles` that a model comes with. Of a GGUF file without them tokenizer.json and
 * tokenizer_config.json are rebuilt from its metadata, so that the folder has a tokenizer too; `missing` says why not.
 */
export async function modelFiles(
  checkpoint: Checkpoint,
): Promise<{ files: Map<string, Uint8Array>; missing?: string }> {
  const files = new Map<string, Uint8Array>();
  for (const name of copiedFiles) {
    const bytes = await checkpoint.sidecar(name);
    if (bytes) files.set(name, bytes);
  }
  if (checkpoint.container !== 'gguf' || files.has('tokenizer.json')) return { files };
  const { metadata, location } = checkpoint;
  const found = ggufTokenizer(metadata, location);
  if ('problem' in found) return { files, missing: `the folder has no tokenizer.json: ${found.problem}` };
  const put = (name: string, value: object) =>
    files.set(name, new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`));
  put('tokenizer.json', { version: '1.0', truncation: null, padding: null, ...found.definition });
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const text = (id: number | undefined) => (id !== undefined && Array.isArray(tokens) ? tokens[id] : undefined);
  put('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: text(found.specials.bos),
    eos_token: text(found.specials.eos),
    pad_token: text(found.specials.pad),
    unk_token: text(found.specials.unk),
    chat_template: metadata.get('tokenizer.chat_template'),
  });
  return { files };
}

export async function sidecarText(checkpoint: Checkpoint, file: string): Promise<string | undefined> {
  const bytes = await checkpoint.sidecar(file);
  return bytes && new TextDecoder().decode(bytes);
}

/** A JSON object; `why` makes its absence an error. */
export async function sidecarJson(
  checkpoint: Checkpoint,
  file: string,
  why?: string,
): Promise<Record<string, unknown> | undefined> {
  const text = await sidecarText(checkpoint, file);
  if (text === undefined) {
    if (!why) return undefined;
    throw modelError({
      code: 'sidecar-missing',
      op: 'model',
      problem: `there is no ${file}: ${why}`,
      file: checkpoint.location,
      fix: `put the model's ${file} beside the weights, or write safetensors instead`,
    });
  }
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw modelError(
      { code: 'sidecar-json', op: 'model', problem: `${file} is not valid JSON`, file: checkpoint.location },
      { cause },
    );
  }
}
