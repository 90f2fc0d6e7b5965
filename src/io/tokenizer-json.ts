// The parts of tokenizer.json that are built or looked at here; the rest passes through to the library.

export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
  special: boolean;
}

export interface TokenizerDefinition {
  added_tokens?: AddedToken[] | null;
  normalizer?: { type?: string } | null;
  pre_tokenizer?: { type?: string; [key: string]: unknown } | null;
  post_processor?: unknown;
  decoder?: unknown;
  model: {
    type?: string;
    vocab: unknown;
    [key: string]: unknown;
  };
}

/** Ids of the special tokens that the model names; absent ones are undefined. */
export interface SpecialTokens {
  bos?: number;
  eos?: number;
  pad?: number;
  unk?: number;
}
