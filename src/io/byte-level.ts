// Fast path for byte-level BPE: the ids of a word are computed once.
//
// Problem: the library maps every word to its byte alphabet and merges it anew or takes it from a small LRU cache; most
// of the time goes there, because a text of a million characters has a quarter of a million words but only some tens of
// thousands of different ones.
// Method: split by the library's own pre-tokenizer pattern, look each word up in a map, and let the library's model
// encode the words that are new. Valid where words are independent: pre-tokenizers made of Split (isolated), Digits and
// ByteLevel steps, no normalizer but NFC, and added tokens that are plain text. Everything else gives undefined and
// goes the library's whole way.

import type { AddedToken, TokenizerDefinition } from './tokenizer-json.ts';
import { ByteLevelPreTokenizer, DigitsPreTokenizer, type Pipeline, SplitPreTokenizer } from './tokenizer-library.ts';

/** Words that are kept; beyond it new words are encoded without being remembered. */
const maxWords = 500_000;

type Step = (text: string) => string[];

/**
 * An encoder with the results of `pipeline.encode(text, { add_special_tokens: false })`, or undefined where the fast
 * path does not apply.
 */
export function byteLevelEncoder(
  definition: TokenizerDefinition,
  pipeline: Pipeline,
): ((text: string) => Int32Array) | undefined {
  const model = pipeline.model;
  const steps = splitSteps(definition);
  const added = definition.added_tokens ?? [];
  const normalizer = definition.normalizer?.type;
  if (!steps || (normalizer !== undefined && normalizer !== 'NFC')) return undefined;
  if (added.some((t) => !isPlain(t, normalizer !== undefined))) return undefined;

  const bytes = new ByteLevelPreTokenizer({ type: 'ByteLevel', add_prefix_space: false, use_regex: false });
  const words = new Map<string, Int32Array>();
  const encodeWord = (word: string): Int32Array => {
    const tokens = model._call(bytes.pre_tokenize_text(word));
    return Int32Array.from(tokens, (t) => model.tokens_to_ids.get(t) ?? model.unk_token_id ?? 0);
  };
  const addedIds = new Map(added.map((t) => [t.content, t.id]));
  const splitAdded = addedPattern([...addedIds.keys()]);

  return (text) => {
    const out = new IdList(text.length);
    const sections = splitAdded ? text.split(splitAdded) : [text];
    for (const section of sections) {
      const id = addedIds.get(section);
      if (id !== undefined) {
        out.push(id);
        continue;
      }
      let pieces = [normalizer ? section.normalize('NFC') : section];
      for (const step of steps) pieces = pieces.length === 1 ? step(pieces[0]) : pieces.flatMap(step);
      for (const word of pieces) {
        let ids = words.get(word);
        if (!ids) {
          ids = encodeWord(word);
          if (words.size < maxWords) words.set(word, ids);
        }
        out.append(ids);
      }
    }
    return out.finish();
  };
}

/** The splits in order, ending with ByteLevel's own when it has one; undefined for other pre-tokenizers. */
function splitSteps(definition: TokenizerDefinition): Step[] | undefined {
  const pre = definition.pre_tokenizer;
  if (!pre || (definition.model.type ?? 'BPE') !== 'BPE' || definition.model.byte_fallback) return undefined;
  const list = pre.type === 'Sequence' ? (pre.pretokenizers as Record<string, unknown>[]) : [pre];
  if (!Array.isArray(list) || list.at(-1)?.type !== 'ByteLevel') return undefined;
  const steps: Step[] = [];
  for (const [i, p] of list.entries()) {
    if (p.type === 'ByteLevel' && i === list.length - 1 && !p.add_prefix_space) {
      if (p.use_regex === false) continue;
      const { pattern } = new ByteLevelPreTokenizer({ type: 'ByteLevel', add_prefix_space: false });
      steps.push((text) => text.match(pattern) ?? []);
    } else if (p.type === 'Digits') {
      const digits = new DigitsPreTokenizer({ type: 'Digits', individual_digits: p.individual_digits === true });
      steps.push((text) => digits.pre_tokenize_text(text));
    } else if (p.type === 'Split' && p.behavior === 'Isolated' && p.invert === false) {
      const split = new SplitPreTokenizer(p);
      steps.push((text) => split.pre_tokenize_text(text));
    } else return undefined;
  }
  return steps;
}

/** Found in the text as it stands, nothing around it stripped, no word border asked for. */
const isPlain = (t: AddedToken, hasNormalizer: boolean) =>
  t.content !== '' && !t.lstrip && !t.rstrip && !t.single_word && !(t.normalized && hasNormalizer);

/** Captures any added token, the longest where several begin. */
function addedPattern(contents: string[]): RegExp | undefined {
  if (contents.length === 0) return undefined;
  const escaped = contents
    .sort((a, b) => b.length - a.length)
    .map((c) => c.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('|');
  return new RegExp(`(${escaped})`);
}

/** A growing Int32Array: a text has at most as many byte-level tokens as UTF-8 bytes, usually a quarter. */
class IdList {
  private data: Int32Array;
  private length = 0;

  constructor(characters: number) {
    this.data = new Int32Array(Math.max(16, characters >> 1));
  }

  append(ids: Int32Array): void {
    this.reserve(ids.length);
    // Words have few tokens: a loop is faster than set().
    for (let i = 0; i < ids.length; i++) this.data[this.length + i] = ids[i];
    this.length += ids.length;
  }

  push(id: number): void {
    this.reserve(1);
    this.data[this.length++] = id;
  }

  finish(): Int32Array {
    return this.data.slice(0, this.length);
  }

  private reserve(count: number): void {
    if (this.length + count <= this.data.length) return;
    const grown = new Int32Array(2 * this.data.length + count);
    grown.set(this.data.subarray(0, this.length));
    this.data = grown;
  }
}
