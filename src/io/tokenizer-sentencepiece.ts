// The SentencePiece kind of GGUF tokenizer (`llama`: Llama 2, Mistral) as the structure of tokenizer.json.
//
// llama.cpp joins, again and again, the two neighbours whose concatenation is the token with the highest score. BPE does
// the same with a list of merges in that order: every way to cut a token into two others, by falling score of the
// token. (Hugging Face's converter builds its merges so.) Spaces are "▁", one is put before the text unless
// add_space_prefix says no, and characters outside the vocabulary become byte tokens.
// It does not do: the tie between two different tokens of equal score, which llama.cpp gives to the left one.

import type { AddedToken, TokenizerDefinition } from './tokenizer-json.ts';

export interface SentencePieceParts {
  tokens: readonly string[];
  scores: ArrayLike<number>;
  /** Tokens that are matched whole in the text. */
  added: AddedToken[];
  /** The text of the unknown token. */
  unknown: string | undefined;
  spacePrefix: boolean;
}

/** A definition for the library. */
export function sentencePieceDefinition(parts: SentencePieceParts): TokenizerDefinition {
  const { tokens, scores, added, unknown, spacePrefix } = parts;
  const vocab = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (!vocab.has(token)) vocab.set(token, id);
  });
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const restore = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const decoders = [restore, { type: 'ByteFallback' }, { type: 'Fuse' }];
  return {
    added_tokens: added,
    normalizer: {
      type: 'Sequence',
      normalizers: spacePrefix ? [{ type: 'Prepend', prepend: '▁' }, space] : [space],
    } as TokenizerDefinition['normalizer'],
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: spacePrefix ? [...decoders, { type: 'Strip', content: ' ', start: 1, stop: 0 }] : decoders,
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(vocab),
      merges: mergesByScore(vocab, scores, new Set(added.map((t) => t.content))),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}

/** Every cut of every token into two tokens, by falling score; the cuts of one token by the ids of the parts. */
function mergesByScore(
  vocab: ReadonlyMap<string, number>,
  scores: ArrayLike<number>,
  whole: ReadonlySet<string>,
): [string, string][] {
  const merges: { pair: [string, string]; ids: [number, number]; score: number }[] = [];
  for (const [token, id] of vocab) {
    if (whole.has(token) || /^<0x[0-9A-F]{2}>$/.test(token)) continue;
    const characters = Array.from(token);
    for (let cut = 1; cut < characters.length; cut++) {
      const pair: [string, string] = [characters.slice(0, cut).join(''), characters.slice(cut).join('')];
      const [a, b] = [vocab.get(pair[0]), vocab.get(pair[1])];
      if (a !== undefined && b !== undefined) merges.push({ pair, ids: [a, b], score: scores[id] });
    }
  }
  merges.sort((x, y) => y.score - x.score || x.ids[0] - y.ids[0] || x.ids[1] - y.ids[1]);
  return merges.map((m) => m.pair);
}
