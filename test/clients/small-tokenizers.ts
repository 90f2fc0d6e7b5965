// Small BPE tokenizers in the form of tokenizer.json, trained on a given text in the plainest way: merge the most frequent
// pair, again and again.

interface SmallTokenizer {
  added_tokens: { id: number; content: string; special: boolean; [flag: string]: unknown }[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  decoder: unknown;
  post_processor: null;
  model: {
    type: 'BPE';
    vocab: Record<string, number>;
    merges: [string, string][];
    byte_fallback: boolean;
    ignore_merges: boolean;
    unk_token: string | null;
    fuse_unk: boolean;
  };
}

/** The alphabet of byte-level BPE: printable bytes stand for themselves, the others from U+0100 on (GPT-2). */
function byteAlphabet(): string[] {
  const own = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(own(b) ? b : next++));
}

/** Merges of the most frequent neighbours within words; ties go to the smaller text. */
export function train(words: string[][], alphabet: string[], count: number, extra: string[]): SmallTokenizer {
  const vocab = Object.fromEntries([...extra, ...alphabet].map((t, i) => [t, i]));
  const merges: [string, string][] = [];
  const parts = words.map((w) => [...w]);
  while (merges.length < count) {
    const seen = new Map<string, number>();
    for (const word of parts)
      for (let i = 1; i < word.length; i++) {
        const pair = JSON.stringify([word[i - 1], word[i]]);
        seen.set(pair, (seen.get(pair) ?? 0) + 1);
      }
    // a token is made by one pair only, so that SentencePiece scores exist
    const free = [...seen].filter(([pair]) => !((JSON.parse(pair) as string[]).join('') in vocab));
    const best = free.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0];
    if (!best) break;
    const [a, b] = JSON.parse(best[0]) as [string, string];
    merges.push([a, b]);
    vocab[a + b] = Object.keys(vocab).length;
    for (const word of parts)
      for (let i = word.length - 1; i > 0; i--) if (word[i - 1] === a && word[i] === b) word.splice(i - 1, 2, a + b);
  }
  return {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    decoder: null,
    post_processor: null,
    model: {
      type: 'BPE',
      vocab,
      merges,
      byte_fallback: false,
      ignore_merges: false,
      unk_token: null,
      fuse_unk: false,
    },
  };
}

const special = (content: string, id: number) => ({
  id,
  content,
  special: true,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

/** Byte-level BPE, split by `pattern`, or by GPT-2's own. */
export function byteLevelTokenizer(corpus: string, pattern: string | undefined, ignoreMerges: boolean): SmallTokenizer {
  const alphabet = byteAlphabet();
  const words = (corpus.match(/\s?\p{L}+|\s?\p{N}{1,3}|\s?[^\s\p{L}\p{N}]+|\s+/gu) ?? []).map((w) =>
    [...new TextEncoder().encode(w)].map((b) => alphabet[b]),
  );
  const t = train(words, alphabet, 200, ['<s>', '</s>']);
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: pattern === undefined,
  };
  t.added_tokens = [special('<s>', 0), special('</s>', 1)];
  t.decoder = byteLevel;
  t.pre_tokenizer = pattern
    ? {
        type: 'Sequence',
        pretokenizers: [{ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false }, byteLevel],
      }
    : byteLevel;
  t.model.ignore_merges = ignoreMerges;
  return t;
}

/** BPE over characters with "▁" for spaces and byte fallback, as transformers stores Llama 2 and Mistral. */
export function sentencePieceTokenizer(corpus: string): SmallTokenizer {
  const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
  const text = `▁${corpus.replaceAll(' ', '▁')}`;
  const letters = [...new Set(text)].filter((c) => /[ -~▁]/u.test(c));
  const words = (text.match(/▁*[^▁]+/gu) ?? []).map((w) => [...w].filter((c) => letters.includes(c)));
  const t = train(words, letters, 200, ['<unk>', '<s>', '</s>', ...bytes]);
  t.added_tokens = [special('<unk>', 0), special('<s>', 1), special('</s>', 2)];
  t.normalizer = {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  };
  t.decoder = {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  };
  t.model.byte_fallback = true;
  t.model.unk_token = '<unk>';
  t.model.fuse_unk = true;
  return t;
}
