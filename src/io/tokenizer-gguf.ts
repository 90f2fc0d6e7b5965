// The tokenizer of a GGUF file as the structure of tokenizer.json.
//
// `gpt2` (byte-level BPE): tokens by id, merges as "a b", the split pattern behind a name (gguf-pretokenizers.ts).
// `llama` (SentencePiece): tokens with scores (tokenizer-sentencepiece.ts). Control and user-defined tokens become added
// tokens. Other kinds are not rebuilt; a file that carries `tokenizer.huggingface.json` needs none of this.
// Source: the GGUF specification, section on tokenizers.

import type { Checkpoint, MetadataValue } from './checkpoint.ts';
import { preTokenizerJson } from './gguf-pretokenizers.ts';
import type { AddedToken, SpecialTokens, TokenizerDefinition } from './tokenizer-json.ts';
import { sentencePieceDefinition } from './tokenizer-sentencepiece.ts';

export type GgufTokenizer = { definition: TokenizerDefinition; specials: SpecialTokens } | { problem: string };

/** Token types of the file format that are matched whole. */
const unknownType = 2;
const control = 3;
const userDefined = 4;

/** A definition for the library, or what in the metadata stands in the way. */
export function ggufTokenizer(metadata: Checkpoint['metadata'], file: string): GgufTokenizer {
  const get = (name: string) => metadata.get(`tokenizer.ggml.${name}`);
  const id = (name: string) => {
    const value = get(`${name}_token_id`);
    return typeof value === 'number' ? value : undefined;
  };
  const specials = { bos: id('bos'), eos: id('eos'), pad: id('padding'), unk: id('unknown') };
  const whole = metadata.get('tokenizer.huggingface.json');
  if (typeof whole === 'string') {
    try {
      return { definition: JSON.parse(whole) as TokenizerDefinition, specials };
    } catch {
      return { problem: 'tokenizer.huggingface.json in the metadata is no valid JSON' };
    }
  }
  const model = get('model');
  const tokens = strings(get('tokens'));
  if (!tokens) return { problem: `tokenizer.ggml.tokens is missing in ${file}` };
  const types = get('token_type') as ArrayLike<number> | undefined;
  if (model === 'gpt2') {
    const found = byteLevel(metadata, tokens, addedTokens(tokens, types), file);
    return 'problem' in found ? found : { ...found, specials };
  }
  if (model !== 'llama') return { problem: `a tokenizer of kind "${String(model)}" cannot be read from GGUF metadata` };
  const scores = get('scores');
  if (!(scores instanceof Float32Array) || scores.length !== tokens.length)
    return { problem: `tokenizer.ggml.scores is missing or does not fit the tokens in ${file}` };
  const unknown = specials.unk ?? tokens.findIndex((_, i) => types?.[i] === unknownType);
  const definition = sentencePieceDefinition({
    tokens,
    scores,
    added: addedTokens(tokens, types),
    unknown: tokens[unknown],
    spacePrefix: get('add_space_prefix') !== false,
  });
  return { definition, specials };
}

function byteLevel(
  metadata: Checkpoint['metadata'],
  tokens: readonly string[],
  added: AddedToken[],
  file: string,
): { definition: TokenizerDefinition } | { problem: string } {
  const pre = metadata.get('tokenizer.ggml.pre') ?? 'gpt-2';
  const split = typeof pre === 'string' ? preTokenizerJson(pre) : undefined;
  if (!split) return { problem: `the split pattern of tokenizer.ggml.pre = "${String(pre)}" is not known` };
  const merges = strings(metadata.get('tokenizer.ggml.merges'));
  if (!merges) return { problem: `tokenizer.ggml.merges is missing in ${file}` };
  const vocab = new Map<string, number>();
  tokens.forEach((content, i) => {
    // The first of two equal texts keeps the id.
    if (!vocab.has(content)) vocab.set(content, i);
  });
  return {
    definition: {
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: split.pre_tokenizer as TokenizerDefinition['pre_tokenizer'],
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(vocab),
        merges: merges.map((m) => splitMerge(m)),
        ignore_merges: split.ignore_merges,
      },
    },
  };
}

function addedTokens(tokens: readonly string[], types: ArrayLike<number> | undefined): AddedToken[] {
  const added: AddedToken[] = [];
  tokens.forEach((content, id) => {
    const type = types?.[id];
    if (type !== control && type !== userDefined) return;
    const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    added.push({ id, content, ...plain, special: type === control });
  });
  return added;
}

/** At the first space after the first character: the byte alphabet has none, but llama.cpp looks from there too. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  return [merge.slice(0, at), merge.slice(at + 1)];
}

function strings(value: MetadataValue | undefined): string[] | undefined {
  return Array.isArray(value) && value.every((v) => typeof v === 'string') ? (value as string[]) : undefined;
}
