// The tokenizer of a GGUF file as the structure of tokenizer.json.
//
// `gpt2` (byte-level BPE): tokens by id, merges as "a b", the split pattern behind a name (gguf-pretokenizers.ts), control
// and user-defined tokens as added tokens. The SentencePiece kind (`llama`: pieces with scores) and the others are not
// rebuilt; a file that carries `tokenizer.huggingface.json` needs none of this.
// Source: the GGUF specification, section on tokenizers.

import type { Checkpoint, MetadataValue } from './checkpoint.ts';
import { preTokenizerJson } from './gguf-pretokenizers.ts';
import type { AddedToken, SpecialTokens, TokenizerDefinition } from './tokenizer-json.ts';

export type GgufTokenizer = { definition: TokenizerDefinition; specials: SpecialTokens } | { problem: string };

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
  if (model !== 'gpt2') return { problem: `a tokenizer of kind "${String(model)}" cannot be read from GGUF metadata` };
  const pre = get('pre') ?? 'gpt-2';
  const split = typeof pre === 'string' ? preTokenizerJson(pre) : undefined;
  if (!split) return { problem: `the split pattern of tokenizer.ggml.pre = "${String(pre)}" is not known` };
  const tokens = strings(get('tokens'));
  const merges = strings(get('merges'));
  if (!tokens || !merges) return { problem: `tokenizer.ggml.tokens or tokenizer.ggml.merges is missing in ${file}` };
  const types = get('token_type') as ArrayLike<number> | undefined;
  const added: AddedToken[] = [];
  const vocab: Record<string, number> = Object.create(null);
  tokens.forEach((content, i) => {
    const type = types?.[i];
    if (type === control || type === userDefined)
      added.push({
        id: i,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: type === control,
      });
    // The first of two equal texts keeps the id, so that encoding is the same as in llama.cpp.
    vocab[content] ??= i;
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    specials,
    definition: {
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: split.pre_tokenizer as TokenizerDefinition['pre_tokenizer'],
      post_processor: null,
      decoder: byteLevel,
      model: { type: 'BPE', vocab, merges: merges.map((m) => splitMerge(m)), ignore_merges: split.ignore_merges },
    },
  };
}

/** At the first space after the first character: the byte alphabet has none, but llama.cpp looks from there too. */
function splitMerge(merge: string): [string, string] {
  const at = merge.indexOf(' ', 1);
  return [merge.slice(0, at), merge.slice(at + 1)];
}

function strings(value: MetadataValue | undefined): string[] | undefined {
  return Array.isArray(value) && value.every((v) => typeof v === 'string') ? (value as string[]) : undefined;
}
