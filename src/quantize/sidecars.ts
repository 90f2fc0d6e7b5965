// The small files beside the weights: read for metadata, copied to folders.

import { modelError } from '../errors.ts';
import type { Checkpoint } from '../io/checkpoint.ts';

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
      fix: `put the model's ${file} beside the weights`,
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
