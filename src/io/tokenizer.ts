// Text to token ids and back, by the tokenizer that belongs to a checkpoint.
//
// The pipeline (normalizer, pre-tokenizer, BPE or Unigram model, decoder) is @huggingface/tokenizers, driven by
// tokenizer.json or by the same structure rebuilt from GGUF metadata (tokenizer-gguf.ts). Byte-level BPE, which nearly
// all current models use, goes through a cache of words (byte-level.ts) with the same result.
//
// No special tokens are added; a special token that is written out in the text becomes its id, as in Python.

import { modelError, SubbyteError, userError } from '../errors.ts';
import { byteLevelEncoder } from './byte-level.ts';
import type { Checkpoint } from './checkpoint.ts';
import { ggufTokenizer } from './tokenizer-gguf.ts';
import type { SpecialTokens, TokenizerDefinition } from './tokenizer-json.ts';
import { type Pipeline, Tokenizer as TokenizerPipeline } from './tokenizer-library.ts';

export interface Tokenizer {
  /** One more than the largest id. */
  readonly vocabSize: number;
  readonly specials: SpecialTokens;
  /** Token ids of a text, without special tokens added. */
  encode(text: string): Int32Array;
  /** The text of ids; special tokens are left out unless asked for. Incomplete characters become U+FFFD. */
  decode(ids: ArrayLike<number>, options?: { specials?: boolean }): string;
  /** The token as the vocabulary spells it (`Ġthe`), or undefined. */
  token(id: number): string | undefined;
}

const op = 'load tokenizer';

/**
 * The tokenizer of a checkpoint: tokenizer.json beside safetensors; for GGUF the metadata, then tokenizer.json beside
 * the file.
 *
 * Throws a model error when there is none or it cannot be understood.
 *
 * @example const ids = (await loadTokenizer(checkpoint)).encode('Hello world');
 */
export async function loadTokenizer(checkpoint: Checkpoint): Promise<Tokenizer> {
  const json = await checkpoint.sidecar('tokenizer.json');
  if (checkpoint.container === 'gguf' && checkpoint.metadata.has('tokenizer.ggml.model')) {
    const found = ggufTokenizer(checkpoint.metadata, checkpoint.location);
    if ('definition' in found) return createTokenizer(found.definition, found.specials, checkpoint.location);
    if (!json)
      throw modelError({
        code: 'tokenizer-gguf',
        op,
        problem: found.problem,
        file: checkpoint.location,
        fix: "put the model's tokenizer.json into the same folder",
      });
  }
  if (!json)
    throw modelError({
      code: 'tokenizer-missing',
      op,
      problem: 'the model comes without tokenizer.json',
      file: checkpoint.location,
      fix: "put the model's tokenizer.json into the same folder",
    });
  const config = await checkpoint.sidecar('tokenizer_config.json');
  return parseTokenizer(json, config, checkpoint.location);
}

/** A tokenizer from the bytes of tokenizer.json and tokenizer_config.json. `file` is for messages. */
export function parseTokenizer(json: Uint8Array, config?: Uint8Array, file?: string): Tokenizer {
  const definition = parseJson(json, 'tokenizer.json', file) as TokenizerDefinition;
  const settings = config ? (parseJson(config, 'tokenizer_config.json', file) as Record<string, unknown>) : {};
  return createTokenizer(definition, settings, file);
}

function parseJson(bytes: Uint8Array, name: string, file: string | undefined): object {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof value === 'object' && value !== null) return value;
    throw new SyntaxError('no object');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 120) : String(cause);
    throw modelError({ code: 'tokenizer-json', op, problem: `${name} is no valid JSON (${reason})`, file }, { cause });
  }
}

/** `specials`: ids, or the bos_token … entries of tokenizer_config.json. */
function createTokenizer(
  definition: TokenizerDefinition,
  settings: SpecialTokens | Record<string, unknown>,
  file: string | undefined,
): Tokenizer {
  let pipeline: Pipeline;
  let fast: ((text: string) => Int32Array) | undefined;
  try {
    pipeline = new TokenizerPipeline(definition, {});
    fast = byteLevelEncoder(definition, pipeline);
  } catch (cause) {
    if (cause instanceof SubbyteError) throw cause;
    const reason = cause instanceof Error ? cause.message.slice(0, 160) : String(cause);
    throw modelError(
      { code: 'tokenizer-unsupported', op, problem: `tokenizer.json cannot be used (${reason})`, file },
      { cause },
    );
  }
  const vocabSize = pipeline.model.vocab.length;
  const special = new Set([...pipeline.get_added_tokens_decoder()].filter(([, t]) => t.special).map(([id]) => id));
  return {
    vocabSize,
    specials: specialIds(settings, pipeline),
    encode: fast ?? ((text) => Int32Array.from(pipeline.encode(text, { add_special_tokens: false }).ids)),
    decode: (ids, options) => {
      const kept = Array.from(ids).filter((id) => options?.specials || !special.has(id));
      const bad = kept.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
      if (bad !== undefined)
        throw userError({
          code: 'token-id',
          op: 'decode',
          problem: 'a token id lies outside the vocabulary',
          got: bad,
          expected: `0 to ${vocabSize - 1}`,
        });
      if (kept.length === 0) return '';
      return pipeline.decode(kept, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
    },
    token: (id) => pipeline.id_to_token(id),
  };
}

function specialIds(settings: object, pipeline: Pipeline): SpecialTokens {
  const source = settings as Record<string, unknown>;
  const find = (name: string): number | undefined => {
    if (typeof source[name] === 'number') return source[name];
    const value = source[`${name}_token`];
    const text = typeof value === 'string' ? value : (value as { content?: unknown } | null | undefined)?.content;
    return typeof text === 'string' ? pipeline.token_to_id(text) : undefined;
  };
  return { bos: find('bos'), eos: find('eos'), pad: find('pad'), unk: find('unk') };
}
