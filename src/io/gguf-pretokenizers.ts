// `tokenizer.ggml.pre`: the names by which llama.cpp knows how a byte-level BPE splits text before merging.
//
// Problem: tokenizer.json writes the split as regular expressions; llama.cpp has them compiled in under names, and a
// wrong name gives other tokens without an error.
// Method: bring the pre-tokenizer to a canonical form (the list of its split patterns), look it up, and look at
// `ignore_merges` where llama.cpp's names differ in that alone. Both directions.
// Source: llama.cpp, src/llama-vocab.cpp (patterns by name), as of v0.5.0.
// It does not do: guessing. A pattern that is not in the table is an error that shows it.

/** The two fields of tokenizer.json that the name depends on. */
export interface PreTokenizerJson {
  pre_tokenizer?: unknown;
  ignore_merges?: boolean;
}

interface Entry {
  readonly name: string;
  /** Split patterns in order; 'digits' stands for a split into single digits, 'gpt2' for ByteLevel's own pattern. */
  readonly splits: readonly string[];
  readonly ignoreMerges: boolean;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const words = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const cased = (suffix: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${suffix}|${digits}` +
  '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const marks =
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*` +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const entries: readonly Entry[] = [
  { name: 'gpt-2', splits: ['gpt2'], ignoreMerges: false },
  { name: 'llama-bpe', splits: [words('\\p{N}{1,3}')], ignoreMerges: true },
  { name: 'smaug-bpe', splits: [words('\\p{N}{1,3}')], ignoreMerges: false },
  { name: 'qwen2', splits: [words('\\p{N}')], ignoreMerges: false },
  { name: 'qwen35', splits: [marks], ignoreMerges: false },
  { name: 'smollm', splits: ['digits', 'gpt2'], ignoreMerges: false },
  { name: 'tekken', splits: [cased('', '\\p{N}')], ignoreMerges: true },
  { name: 'gpt-4o', splits: [cased(`${contractions}?`, '\\p{N}{1,3}')], ignoreMerges: false },
];

/** Other names that llama.cpp treats like one of the table. */
const aliases: Readonly<Record<string, string>> = {
  llama3: 'llama-bpe',
  'llama-v3': 'llama-bpe',
  'deepseek-r1-qwen': 'qwen2',
  megrez: 'qwen2',
  starcoder: 'smollm',
  refact: 'smollm',
  'command-r': 'smollm',
  codeshell: 'smollm',
  dbrx: 'smaug-bpe',
  olmo: 'gpt-2',
  'phi-2': 'gpt-2',
  mpt: 'gpt-2',
  llama4: 'gpt-4o',
};

/** The split patterns of a `pre_tokenizer` object, or what it holds that has no name here. */
export function splitPatterns(pre: unknown): { splits: string[] } | { unknown: string } {
  const list = isObject(pre) && pre.type === 'Sequence' && Array.isArray(pre.pretokenizers) ? pre.pretokenizers : [pre];
  const splits: string[] = [];
  for (const p of list) {
    if (!isObject(p)) return { unknown: JSON.stringify(p ?? null) };
    if (p.type === 'ByteLevel') {
      if (p.add_prefix_space === true) return { unknown: 'ByteLevel with add_prefix_space' };
      if (p.use_regex !== false) splits.push('gpt2');
    } else if (p.type === 'Digits' && p.individual_digits === true) splits.push('digits');
    else if (p.type === 'Split' && isObject(p.pattern) && p.behavior === 'Isolated' && p.invert !== true) {
      const pattern = p.pattern.Regex ?? p.pattern.String;
      splits.push(pattern === '\\p{N}' ? 'digits' : String(pattern));
    } else return { unknown: JSON.stringify(p).slice(0, 120) };
  }
  return { splits };
}

/** The name for a tokenizer.json, or the pattern that has none. */
export function preTokenizerName(json: PreTokenizerJson): { name: string } | { unknown: string } {
  const found = splitPatterns(json.pre_tokenizer);
  if ('unknown' in found) return found;
  const same = entries.filter((e) => e.splits.join('\n') === found.splits.join('\n'));
  const exact = same.find((e) => e.ignoreMerges === (json.ignore_merges ?? false));
  if (exact) return { name: exact.name };
  const why = same.length > 0 ? `ignore_merges ${json.ignore_merges ?? false} with ` : '';
  return { unknown: `${why}${found.splits.join(' then ') || 'no split at all'}`.slice(0, 160) };
}

/** `pre_tokenizer` and `ignore_merges` of a name, undefined for a name that is not in the table. */
export function preTokenizerJson(name: string): Required<PreTokenizerJson> | undefined {
  const entry = entries.find((e) => e.name === (aliases[name] ?? name));
  if (!entry) return undefined;
  const byteLevel = (regex: boolean) => ({
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: regex,
  });
  const parts = entry.splits.map((s) => {
    if (s === 'gpt2') return byteLevel(true);
    if (s === 'digits') return { type: 'Digits', individual_digits: true };
    return { type: 'Split', pattern: { Regex: s }, behavior: 'Isolated', invert: false };
  });
  const all = entry.splits.includes('gpt2') ? parts : [...parts, byteLevel(false)];
  return {
    pre_tokenizer: all.length === 1 ? all[0] : { type: 'Sequence', pretokenizers: all },
    ignore_merges: entry.ignoreMerges,
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
