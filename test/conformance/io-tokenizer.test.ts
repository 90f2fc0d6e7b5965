// Tokenizers against ids that Python's tokenizers gave, and the word cache against the library's whole pipeline.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openGguf } from '../../src/io/gguf.ts';
import { preTokenizerJson } from '../../src/io/gguf-pretokenizers.ts';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { readText } from '../../src/io/text.ts';
import { loadTokenizer, parseTokenizer, type Tokenizer } from '../../src/io/tokenizer.ts';
import type { TokenizerDefinition } from '../../src/io/tokenizer-json.ts';
import { Tokenizer as Pipeline } from '../../src/io/tokenizer-library.ts';
import { tokenizerEntries } from '../../src/models/gguf-tokenizer.ts';
import { bytesOf, project, qwen, scratchFolder, text } from './io-scratch.ts';

const folder = scratchFolder();
const zoo = process.env.SUBBYTE_ZOO ?? join(project, '../shared/zoo');
const head = readFileSync(join(project, 'test/fixtures/io/val-head.txt'), 'utf8');
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const definition = (): TokenizerDefinition => json(join(qwen, 'tokenizer.json'));

const probe = (model: string): number[] => json(join(model, 'reference.json')).probe.ids;
const load = async (model: string) => {
  const checkpoint = await openCheckpoint(model);
  return await loadTokenizer(checkpoint).finally(() => checkpoint.close());
};

/** A text of everything that pre-tokenizers treat specially. */
const awkward =
  "It's we'LL I'd  two  spaces\ttab\r\n\r\n  indented\n\n\n1234567 3.14 ½ ٣٤ naïve cafe\u0301 café 日本語テスト " +
  '🙂👩‍👩‍👧 <s>inside</s> </s></s> a</sb> \u00a0\u2003\u200b end   ';

describe('ids of Python', () => {
  for (const name of ['qwen3-6m', 'llama-16m', 'mixtral-9m']) {
    const model = name === 'qwen3-6m' ? qwen : join(zoo, name);
    const absent = !existsSync(model);
    it.skipIf(absent)(`the first 64 tokens of val with ${name}${absent ? ' (zoo absent)' : ''}`, async () => {
      const tokenizer = await load(model);
      const ids = probe(model);
      expect([...tokenizer.encode(head).subarray(0, 64)]).toEqual(ids);
      const decoded = tokenizer.decode(ids);
      expect(head.startsWith(decoded)).toBe(true);
      expect([...tokenizer.encode(decoded)]).toEqual(ids);
      expect(tokenizer.decode(tokenizer.encode(head))).toBe(head);
      expect(tokenizer.specials).toEqual({ bos: 0, eos: 1, pad: undefined, unk: undefined });
    });
  }

  const val = join(zoo, '../data/val.txt.xz');
  it.skipIf(!existsSync(val))('a whole text comes back (needs the shared data)', async () => {
    const tokenizer = await load(qwen);
    const part = (await readText(val)).slice(0, 100_000);
    const ids = tokenizer.encode(part);
    expect(tokenizer.decode(ids)).toBe(part);
    expect(Math.max(...ids)).toBeLessThan(tokenizer.vocabSize);
  });
});

describe('the word cache gives what the library gives', () => {
  /** The project's vocabulary under other split rules and normalizers. */
  const variants: [string, Partial<TokenizerDefinition>][] = [
    ['ByteLevel alone', {}],
    ['NFC', { normalizer: { type: 'NFC' } }],
    ...['qwen2', 'llama-bpe', 'smollm', 'gpt-4o'].map((name): [string, Partial<TokenizerDefinition>] => [
      name,
      { pre_tokenizer: preTokenizerJson(name)!.pre_tokenizer as TokenizerDefinition['pre_tokenizer'] },
    ]),
  ];
  for (const [name, change] of variants)
    it(name, () => {
      const changed = { ...definition(), ...change };
      const library = new Pipeline(changed, {});
      const ours = parseTokenizer(text(JSON.stringify(changed)));
      const check = (sample: string): void => {
        const expected = library.encode(sample, { add_special_tokens: false }).ids;
        expect([...ours.encode(sample)], JSON.stringify(sample)).toEqual(expected);
      };
      check(awkward);
      check(head);
      const pieces = fc.constantFrom(...awkward.split(/(?<=[\s<>])/), '\n', ' ', "'s", '1', 'the', 'é', '🙂');
      fc.assert(
        fc.property(
          fc.oneof(
            fc.string({ unit: 'binary', maxLength: 40 }),
            fc.array(pieces).map((p) => p.join('')),
          ),
          check,
        ),
        { numRuns: 200, seed: 7 },
      );
    });

  it('tokens that strip their surroundings go the library’s way', () => {
    const changed = definition();
    changed.added_tokens!.push({ ...changed.added_tokens![0], id: 2047, content: '<mask>', lstrip: true });
    const library = new Pipeline(changed, {});
    const ours = parseTokenizer(text(JSON.stringify(changed)));
    const sample = 'a   <mask> b';
    expect([...ours.encode(sample)]).toEqual(library.encode(sample, { add_special_tokens: false }).ids);
  });
});

describe('from GGUF metadata', () => {
  const write = async (name: string, drop: string[] = [], more: object[] = []) => {
    const path = join(folder, `${name}.gguf`);
    const entries = tokenizerEntries({
      tokenizer: definition(),
      tokenizerConfig: json(join(qwen, 'tokenizer_config.json')),
      vocabSize: 2048,
    });
    const metadata = [
      { key: 'general.architecture', type: 'string', value: 'qwen3' } as const,
      ...entries.filter((e) => !drop.includes(e.key)),
      ...(more as typeof entries),
    ];
    await writeGguf({ path, metadata, tensors: [] });
    return await openGguf(path);
  };
  const using = async (name: string, ...rest: [string[]?, object[]?]): Promise<Tokenizer> => {
    const model = await write(name, ...rest);
    return await loadTokenizer(model).finally(() => model.close());
  };

  it('gives the ids of tokenizer.json', async () => {
    const tokenizer = await using('whole');
    const original = await load(qwen);
    for (const sample of [head, awkward]) expect(tokenizer.encode(sample)).toEqual(original.encode(sample));
    expect(tokenizer.decode(tokenizer.encode(head))).toBe(head);
    expect(tokenizer.specials).toMatchObject({ bos: 0, eos: 1 });
    expect(tokenizer.vocabSize).toBe(2048);
    expect(tokenizer.decode(Int32Array.of(0, 73, 1))).toBe(original.decode([73]));
    expect(tokenizer.decode([0, 73, 1], { specials: true })).toBe(`<s>${original.decode([73])}</s>`);
  });

  it('says what it cannot read', async () => {
    const kind = (value: string) => [{ key: 'tokenizer.ggml.model', type: 'string', value }];
    const drop = ['tokenizer.ggml.model'];
    await expect(using('bert', drop, kind('bert'))).rejects.toThrow(/kind "bert".*tokenizer\.json/);
    await expect(using('spm', drop, kind('llama'))).rejects.toThrow(/scores is missing/);
    const pre = { key: 'tokenizer.ggml.pre', type: 'string', value: 'nobody' };
    await expect(using('pre', ['tokenizer.ggml.pre'], [pre])).rejects.toThrow(/tokenizer\.ggml\.pre = "nobody"/);
    await expect(using('merges', ['tokenizer.ggml.merges'])).rejects.toThrow(/merges is missing/);
  });
});

/** Byte-pair merges of a text, learned by counting: a small vocabulary in the manner of SentencePiece. */
function sentencePieceLike(sample: string, mergeCount: number): TokenizerDefinition {
  const words = sample.split(' ').map((w) => Array.from(`▁${w}`));
  const pieces = ['<unk>', '<s>', '</s>'];
  for (let b = 0; b < 256; b++) pieces.push(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
  pieces.push(...new Set(words.flat()));
  const merges: [string, string][] = [];
  for (let m = 0; m < mergeCount; m++) {
    const counts = new Map<string, number>();
    for (const w of words)
      for (let i = 1; i < w.length; i++)
        counts.set(`${w[i - 1]}\t${w[i]}`, (counts.get(`${w[i - 1]}\t${w[i]}`) ?? 0) + 1);
    // A piece that two pairs make would have two ranks: only new ones are learned.
    const best = [...counts].filter(([k]) => !pieces.includes(k.replace('\t', ''))).sort((a, b) => b[1] - a[1])[0][0];
    const pair = best.split('\t') as [string, string];
    merges.push(pair);
    pieces.push(pair.join(''));
    for (const w of words)
      for (let i = 1; i < w.length; i++)
        if (w[i - 1] === pair[0] && w[i] === pair[1]) w.splice(i - 1, 2, pair.join(''));
  }
  const special = (id: number) => ({
    id,
    content: pieces[id],
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const replace = (from: string, content: string) => ({ type: 'Replace', pattern: { String: from }, content });
  const normalizers = [{ type: 'Prepend', prepend: '▁' }, replace(' ', '▁')];
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    added_tokens: [special(0), special(1), special(2)],
    normalizer: { type: 'Sequence', normalizers } as TokenizerDefinition['normalizer'],
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Sequence', decoders: [replace('▁', ' '), { type: 'ByteFallback' }, { type: 'Fuse' }, strip] },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(pieces.map((p, i) => [p, i])),
      merges,
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}

it('SentencePiece: scores in GGUF give the ids of the merges in tokenizer.json', async () => {
  const original = sentencePieceLike(head.slice(0, 2000), 120);
  const vocabSize = Object.keys(original.model.vocab as object).length;
  const config = { bos_token: '<s>', eos_token: '</s>' };
  const path = join(folder, 'sentencepiece.gguf');
  const metadata = tokenizerEntries({ tokenizer: original, tokenizerConfig: config, vocabSize });
  expect(metadata[0].value).toBe('llama');
  await writeGguf({ path, metadata, tensors: [] });
  const model = await openGguf(path);
  const rebuilt = await loadTokenizer(model).finally(() => model.close());
  const tokenizer = parseTokenizer(text(JSON.stringify(original)), text(JSON.stringify(config)));
  for (const sample of [head, awkward, 'unseen: ẞ 🙂', ' leading', 'x'])
    expect([...rebuilt.encode(sample)], sample).toEqual([...tokenizer.encode(sample)]);
  expect(rebuilt.decode(rebuilt.encode(head))).toBe(head);
  expect(rebuilt.specials).toMatchObject({ bos: 1, eos: 2, unk: 0 });
});

describe('bad input', () => {
  it('is one sentence', async () => {
    expect(() => parseTokenizer(text('{'))).toThrow(/tokenizer\.json is no valid JSON/);
    expect(() => parseTokenizer(text('{}'))).toThrow(/tokenizer\.json cannot be used/);
    expect(() => parseTokenizer(text('[]'))).toThrow(/load tokenizer/);
    expect(() => parseTokenizer(text('{"model":{"type":"BPE"}}'))).toThrow(/cannot be used/);
    const tokenizer = parseTokenizer(bytesOf(join(qwen, 'tokenizer.json')));
    expect(() => tokenizer.decode([2048])).toThrow(/outside the vocabulary, got 2048, expected 0 to 2047/);
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.encode('')).toEqual(new Int32Array(0));
    const bare = await openCheckpoint(join(qwen, 'model-00002-of-00002.safetensors'));
    await expect(loadTokenizer({ ...bare, sidecar: async () => undefined })).rejects.toThrow(/without tokenizer\.json/);
    await bare.close();
  });
});
