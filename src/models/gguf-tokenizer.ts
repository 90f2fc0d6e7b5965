// tokenizer.json ↔ the `tokenizer.*` keys of a GGUF file.
//
// Problem: llama.cpp carries the tokenizer inside the model file: tokens by id with their types, merges as "a b"
// strings, the name of the pre-tokenizer, special ids and flags.
// Method: byte-level BPE (Llama 3, Qwen, GPT-2 style) becomes model `gpt2`. BPE with byte fallback over "▁" (Llama 2,
// Mistral: SentencePiece in tokenizer.json's clothes) becomes model `llama`, whose tokenizer merges the pair with the
// highest score: a token's score is minus the rank of its merge, which gives the same order when all merges of a token
// stand together in the list; a list that is not like that is refused. Ids that no token has are filled with [PAD<id>].
// Source: llama.cpp, conversion/base.py and src/llama-vocab.cpp; the GGUF specification.
// It does not do: Unigram and WordPiece models, normalizers other than NFC (llama.cpp skips NFC: text that is not
// composed may give other tokens there), and token ids above the model's vocab_size.

import { modelError } from '../errors.ts';
import { preTokenizerName } from '../io/gguf-pretokenizers.ts';
import type { GgufEntry } from '../io/gguf-types.ts';

const op = 'write GGUF tokenizer';

/** Token types of the file format. */
export const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The parts of tokenizer.json that matter here. */
export interface TokenizerJson {
  added_tokens?: { id: number; content: string; special?: boolean }[] | null;
  normalizer?: unknown;
  pre_tokenizer?: unknown;
  post_processor?: unknown;
  decoder?: unknown;
  model: {
    type?: string;
    vocab: Record<string, number>;
    merges?: (string | [string, string])[];
    byte_fallback?: boolean;
    ignore_merges?: boolean;
    unk_token?: string | null;
  };
}

export interface TokenizerFiles {
  /** tokenizer.json, parsed. */
  tokenizer: unknown;
  /** tokenizer_config.json, parsed, when there is one. */
  tokenizerConfig?: Record<string, unknown>;
  /** chat_template.jinja, when there is one. */
  chatTemplate?: string;
  vocabSize: number;
  bosId?: number;
  eosId?: number;
  /** Overrides the name found for the pre-tokenizer. */
  pre?: string;
}

/**
 * The tokenizer keys of a GGUF file. Throws a model error when the tokenizer is of a kind that llama.cpp's `gpt2` and
 * `llama` tokenizers cannot express.
 *
 * @example tokenizerEntries({ tokenizer: JSON.parse(text), vocabSize: 2048, bosId: 0, eosId: 1 })
 */
export function tokenizerEntries(files: TokenizerFiles): GgufEntry[] {
  const json = checkTokenizer(files.tokenizer);
  const byteLevel = !json.model.byte_fallback;
  const { tokens, types } = tokenList(json, files.vocabSize);
  const merges = mergeList(json);
  const entries: GgufEntry[] = [
    { key: 'tokenizer.ggml.model', type: 'string', value: byteLevel ? 'gpt2' : 'llama' },
    { key: 'tokenizer.ggml.pre', type: 'string', value: byteLevel ? preName(json, files.pre) : 'default' },
    { key: 'tokenizer.ggml.tokens', type: 'string[]', value: tokens },
    { key: 'tokenizer.ggml.token_type', type: 'i32[]', value: types },
  ];
  if (byteLevel)
    entries.push({ key: 'tokenizer.ggml.merges', type: 'string[]', value: merges.map((m) => m.join(' ')) });
  else entries.push(...sentencePieceEntries(json, tokens, types, merges));
  return [...entries, ...specialEntries(json, files, tokens)];
}

function checkTokenizer(value: unknown): TokenizerJson {
  const json = value as Partial<TokenizerJson> | null;
  const model = json?.model;
  const type = model?.type ?? (model?.merges ? 'BPE' : undefined);
  if (type !== 'BPE' || typeof model?.vocab !== 'object' || model.vocab === null || !Array.isArray(model.merges))
    throw modelError({
      code: 'gguf-tokenizer-model',
      op,
      problem: 'the tokenizer model cannot be written to GGUF',
      got: String(type ?? 'no model'),
      expected: 'BPE with vocab and merges',
      file: 'tokenizer.json',
      fix: 'write safetensors instead',
    });
  const normalizer = (json as TokenizerJson).normalizer as { type?: string } | null | undefined;
  if (normalizer && normalizer.type !== 'NFC' && !model.byte_fallback)
    throw modelError({
      code: 'gguf-tokenizer-normalizer',
      op,
      problem: 'llama.cpp has no such text normalizer for byte-level BPE',
      got: String(normalizer.type),
      expected: 'none or NFC',
      file: 'tokenizer.json',
      fix: 'write safetensors instead',
    });
  return json as TokenizerJson;
}

function preName(json: TokenizerJson, override: string | undefined): string {
  if (override) return override;
  const found = preTokenizerName({ pre_tokenizer: json.pre_tokenizer, ignore_merges: json.model.ignore_merges });
  if ('name' in found) return found.name;
  throw modelError({
    code: 'gguf-tokenizer-pre',
    op,
    problem: `llama.cpp's name for this pre-tokenizer is not known: ${found.unknown}`,
    file: 'tokenizer.json',
    fix: 'name it (option pre), or write safetensors instead',
  });
}

function tokenList(json: TokenizerJson, vocabSize: number): { tokens: string[]; types: Int32Array } {
  const tokens = new Array<string | undefined>(vocabSize).fill(undefined);
  const types = new Int32Array(vocabSize).fill(tokenType.unused);
  const put = (id: number, text: string, type: number) => {
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw modelError({
        code: 'gguf-tokenizer-id',
        op,
        problem: `token ${JSON.stringify(text)} lies outside the vocabulary of the model`,
        got: id,
        expected: `0 to ${vocabSize - 1}`,
        file: 'tokenizer.json',
      });
    tokens[id] = text;
    types[id] = type;
  };
  for (const [text, id] of Object.entries(json.model.vocab)) put(id, text, tokenType.normal);
  for (const t of json.added_tokens ?? []) put(t.id, t.content, t.special ? tokenType.control : tokenType.userDefined);
  if (json.model.byte_fallback)
    for (let id = 0; id < vocabSize; id++) if (/^<0x[0-9A-F]{2}>$/.test(tokens[id] ?? '')) types[id] = tokenType.byte;
  return { tokens: tokens.map((t, id) => t ?? `[PAD${id}]`), types };
}

/** Merges as pairs, from `"a b"` strings (tokenizers before 0.20) or `["a", "b"]`. */
function mergeList(json: TokenizerJson): [string, string][] {
  return (json.model.merges ?? []).map((m, rank) => {
    const pair = typeof m === 'string' ? m.split(' ') : m;
    if (pair.length === 2 && typeof pair[0] === 'string' && typeof pair[1] === 'string') return [pair[0], pair[1]];
    throw modelError({
      code: 'gguf-tokenizer-merge',
      op,
      problem: `merge ${rank} is not a pair of tokens`,
      got: JSON.stringify(m).slice(0, 60),
      file: 'tokenizer.json',
    });
  });
}

function sentencePieceEntries(
  json: TokenizerJson,
  tokens: readonly string[],
  types: Int32Array,
  merges: readonly [string, string][],
): GgufEntry[] {
  const score = new Map<string, number>();
  merges.forEach(([a, b], rank) => {
    const made = a + b;
    if (!score.has(made)) score.set(made, -rank);
    else if (merges[rank - 1].join('') !== made)
      throw modelError({
        code: 'gguf-tokenizer-scores',
        op,
        problem: `the merges that make ${JSON.stringify(made)} do not stand together, so no scores give their order`,
        file: 'tokenizer.json',
        fix: 'write safetensors instead',
      });
  });
  const lowest = -merges.length - 1;
  const unknown = tokens.indexOf(json.model.unk_token ?? '<unk>');
  if (unknown >= 0) types[unknown] = tokenType.unknown;
  const entries: GgufEntry[] = [
    {
      key: 'tokenizer.ggml.scores',
      type: 'f32[]',
      value: Float32Array.from(tokens, (t, id) => (types[id] === tokenType.normal ? (score.get(t) ?? lowest) : 0)),
    },
    { key: 'tokenizer.ggml.add_space_prefix', type: 'bool', value: prependsSpace(json) },
  ];
  if (unknown >= 0) entries.push({ key: 'tokenizer.ggml.unknown_token_id', type: 'u32', value: unknown });
  // scores do not tell the normalizer and the decoder: kept for programs that read tokenizer.json
  entries.push({ key: 'tokenizer.huggingface.json', type: 'string', value: JSON.stringify(json) });
  return entries;
}

/** True when "▁" is put before the text: a Prepend normalizer, or Metaspace that is not told otherwise. */
function prependsSpace(json: TokenizerJson): boolean {
  const text = JSON.stringify([json.normalizer ?? null, json.pre_tokenizer ?? null]);
  if (text.includes('"Prepend"')) return true;
  return text.includes('"Metaspace"') && !text.includes('"never"') && !text.includes('"add_prefix_space":false');
}

function specialEntries(json: TokenizerJson, files: TokenizerFiles, tokens: readonly string[]): GgufEntry[] {
  const config = files.tokenizerConfig ?? {};
  const idOf = (name: string): number | undefined => {
    const value = config[name];
    const text = typeof value === 'string' ? value : (value as { content?: unknown } | null | undefined)?.content;
    const id = typeof text === 'string' ? tokens.indexOf(text) : -1;
    return id >= 0 ? id : undefined;
  };
  const entries: GgufEntry[] = [];
  const id = (key: string, value: number | undefined) => {
    if (value !== undefined && value < tokens.length)
      entries.push({ key: `tokenizer.ggml.${key}`, type: 'u32', value });
  };
  const bos = idOf('bos_token') ?? files.bosId;
  const eos = idOf('eos_token') ?? files.eosId;
  id('bos_token_id', bos);
  id('eos_token_id', eos);
  id('padding_token_id', idOf('pad_token'));
  const adds = addedBySingle(json, tokens);
  const flag = (name: string, ids: Set<number>, special: number | undefined) => {
    const written = config[name];
    const value = special !== undefined && (ids.has(special) || (ids.size === 0 && written === true));
    entries.push({ key: `tokenizer.ggml.${name}`, type: 'bool', value });
  };
  flag('add_bos_token', adds.before, bos);
  flag('add_eos_token', adds.after, eos);
  const template = files.chatTemplate ?? defaultTemplate(config.chat_template);
  if (template) entries.push({ key: 'tokenizer.chat_template', type: 'string', value: template });
  return entries;
}

/** A template string, or the one named "default" of a list. */
function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const list = value as { name?: unknown; template?: unknown }[];
  const found = (list.find((t) => t?.name === 'default') ?? list[0])?.template;
  return typeof found === 'string' ? found : undefined;
}

/** Ids that the post-processor puts before and after a single text. */
function addedBySingle(json: TokenizerJson, tokens: readonly string[]): { before: Set<number>; after: Set<number> } {
  const adds = { before: new Set<number>(), after: new Set<number>() };
  const visit = (p: unknown): void => {
    const o = p as { type?: string; processors?: unknown[]; single?: unknown[] } | null;
    if (o?.type === 'Sequence') for (const inner of o.processors ?? []) visit(inner);
    if (o?.type !== 'TemplateProcessing' || !Array.isArray(o.single)) return;
    let side = adds.before;
    for (const part of o.single as { Sequence?: unknown; SpecialToken?: { id?: string } }[])
      if (part.Sequence) side = adds.after;
      else if (part.SpecialToken) side.add(tokens.indexOf(part.SpecialToken.id ?? ''));
  };
  visit(json.post_processor);
  return adds;
}
