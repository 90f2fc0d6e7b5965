// @huggingface/tokenizers with the types of what is used here.
//
// The package's declarations import each other without file extensions, which Node's module resolution does not follow,
// so TypeScript sees nothing of them.

import * as library from '@huggingface/tokenizers';
import type { TokenizerDefinition } from './tokenizer-json.ts';

/** The whole pipeline behind a tokenizer.json. */
export interface Pipeline {
  readonly model: {
    readonly vocab: readonly (string | undefined)[];
    readonly tokens_to_ids: ReadonlyMap<string, number>;
    readonly unk_token_id?: number;
    /** Pre-tokenized words to tokens. */
    _call(words: string[]): string[];
  };
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_added_tokens_decoder(): Map<number, { special: boolean }>;
}

export interface PreTokenizer {
  pre_tokenize_text(text: string): string[];
}

interface Library {
  Tokenizer: new (definition: TokenizerDefinition, config: object) => Pipeline;
  ByteLevelPreTokenizer: new (config: object) => PreTokenizer & { readonly pattern: RegExp };
  DigitsPreTokenizer: new (config: object) => PreTokenizer;
  SplitPreTokenizer: new (config: object) => PreTokenizer;
}

export const { Tokenizer, ByteLevelPreTokenizer, DigitsPreTokenizer, SplitPreTokenizer } =
  library as unknown as Library;
