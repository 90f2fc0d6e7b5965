import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, describe, expect, it } from 'vitest';
import { openBatches } from './batches.ts';
import { permutation, windowOrder } from './order.ts';
import type { TokenFile } from './token-file.ts';
import { openTokens, type TokenizeOptions } from './tokenize.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-tokens-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const write = (name: string, content: string | Uint8Array) => {
  const path = join(folder, `${files++}-${name}`);
  writeFileSync(path, content);
  return path;
};

/** One token a code point; 0 ends documents. Counts its calls. */
function pointTokenizer(vocabSize = 60_000) {
  const calls: string[] = [];
  const encode = (text: string) => {
    calls.push(text);
    return Int32Array.from(Array.from(text, (c) => c.codePointAt(0)!));
  };
  return { calls, tokenizer: { encode, vocabSize, specials: { eos: 0 } } };
}
const points = (text: string) => Array.from(text, (c) => c.codePointAt(0)!);

function options(sources: string[], more: Partial<TokenizeOptions> = {}): TokenizeOptions {
  const { tokenizer } = pointTokenizer();
  return { sources, tokenizer, tokenizerDigest: 'd', endOfText: true, cache: join(folder, 'cache'), ...more };
}
const all = async (file: TokenFile) => [...(await file.read(0, file.tokens))];

describe('a token file', () => {
  const docs = ['first one', 'zweites, längeres Stück', '', 'x'];
  const jsonl = docs.map((text) => JSON.stringify({ text, body: `${text}!` })).join('\n');

  it.each<[string, string | Uint8Array, string[], Partial<TokenizeOptions>]>([
    ['a.jsonl', jsonl, docs, {}],
    ['a.jsonl.gz', gzipSync(jsonl), docs.map((d) => `${d}!`), { field: 'body' }],
    ['a.txt', docs.join('\n'), [docs.join('\n')], {}],
    [
      'a.parquet',
      new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'text', data: docs, type: 'STRING' }] })),
      docs,
      {},
    ],
  ])('holds the documents of %s, each with its end', async (name, content, expected, more) => {
    const path = write(name, content);
    const file = await openTokens(options([path], more));
    expect(await all(file)).toEqual(expected.flatMap((d) => [...points(d), 0]));
    const text = expected.map((d) => `${d}\0`).join('');
    expect(file.manifest).toMatchObject({ bytesPerToken: 2, endOfText: 0, tokenizer: 'd', tokens: file.tokens });
    expect(file.manifest.sources).toEqual([
      {
        source: path,
        documents: expected.length,
        characters: expected.join('').length,
        tokens: file.tokens,
        digest: createHash('sha256').update(text).digest('hex'),
      },
    ]);
    expect(file.manifest.digest).toBe(createHash('sha256').update(readFileSync(file.path)).digest('hex'));
    await file.close();
  });

  it('of several texts holds one after the other, without ends when asked', async () => {
    const [a, b] = [write('a.txt', 'ab'), write('b.txt', 'cd😀')];
    const { tokenizer } = pointTokenizer(0x20000);
    const file = await openTokens(options([a, b], { endOfText: false, tokenizer }));
    expect(await all(file)).toEqual(points('abcd😀'));
    expect(file.manifest.bytesPerToken).toBe(4);
    expect(file.manifest.sources.map((s) => s.tokens)).toEqual([2, 3]);
    await file.close();
  });

  it('of a text longer than a chunk is that of its chunks', async () => {
    const text = 'abcdefghi\n'.repeat(250_000);
    const { calls, tokenizer } = pointTokenizer();
    const file = await openTokens(options([write('long.txt', text)], { tokenizer }));
    expect(calls.map((c) => c.length)).toEqual([1_000_000, 1_000_000, 500_000]);
    expect(file.tokens).toBe(2_500_001);
    expect([...(await file.read(1_999_995, 10))]).toEqual(points(text.slice(1_999_995, 2_000_005)));
    await file.close();
  });

  it('is made once, and again when text, tokenizer or options change or it is damaged', async () => {
    const path = write('once.txt', 'some text');
    const made = async (more: Partial<TokenizeOptions> = {}) => {
      const { calls, tokenizer } = pointTokenizer();
      const file = await openTokens(options([path], { tokenizer, ...more }));
      await file.close();
      return { again: calls.length > 0, path: file.path };
    };
    const first = await made();
    expect([first.again, (await made()).again]).toEqual([true, false]);
    expect((await made({ tokenizerDigest: 'e' })).again).toBe(true);
    expect((await made({ endOfText: false })).again).toBe(true);
    truncateSync(first.path, 6);
    expect((await made()).again).toBe(true);
    writeFileSync(`${first.path}.json`, '{"kind":"subbyte tokens","version":1,"tokens":1e99,"bytesPerToken":2}');
    expect((await made()).again).toBe(true);
    writeFileSync(`${first.path}.json`, 'null');
    expect((await made()).again).toBe(true);
    writeFileSync(path, 'other text');
    expect((await made()).again).toBe(true);
  });

  it('leaves nothing behind when something is wrong', async () => {
    const cache = join(folder, 'broken');
    const broken = write('b.jsonl', '{"text":"a"}\n{"text":');
    await expect(openTokens(options([broken], { cache }))).rejects.toThrow(/line 2 is no JSON.*b\.jsonl:2/);
    const good = write('g.txt', 'abc');
    await expect(openTokens(options([good, join(folder, 'no.txt')], { cache }))).rejects.toThrow(
      /no such file.*no\.txt/,
    );
    const signal = AbortSignal.abort();
    await expect(openTokens(options([good], { cache, signal }))).rejects.toThrow(/tokenize: interrupted.*g\.txt/);
    const none = { ...pointTokenizer().tokenizer, specials: {} };
    await expect(openTokens(options([good], { cache, tokenizer: none }))).rejects.toThrow(
      /names no end-of-text token; set data\.endOfText: false/,
    );
    expect(readdirSync(cache)).toEqual([]);
  });

  it('with an id that is none is a damaged file', async () => {
    const file = await openTokens(options([write('d.txt', 'abcdefgh')]));
    const bytes = readFileSync(file.path);
    bytes.writeUInt16LE(65_000, 6);
    writeFileSync(file.path, bytes);
    await expect(file.read(0, 8)).rejects.toThrow(/position 3 is none, got 65000.*tokens\); delete the file/);
    await file.close();
  });
});

describe('the order of windows', () => {
  it('is a permutation of its own in every epoch and for every seed', () => {
    const sorted = Uint32Array.from({ length: 1000 }, (_, i) => i);
    const orders = [permutation(1000, 1, 0), permutation(1000, 1, 1), permutation(1000, 2, 0)];
    for (const order of orders) expect(order.slice().sort()).toEqual(sorted);
    for (const [a, b] of [
      [0, 1],
      [0, 2],
      [1, 2],
    ])
      expect(orders[a].filter((w, i) => w === orders[b][i]).length).toBeLessThan(8);
    expect(permutation(1000, 1, 0)).toEqual(orders[0]);
  });

  it('gives all orders of four windows equally often', () => {
    const counts = new Map<string, number>();
    const draws = 24_000;
    for (let epoch = 0; epoch < draws; epoch++) {
      const key = permutation(4, 7, epoch).join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    const chi = [...counts.values()].reduce((sum, n) => sum + (n - draws / 24) ** 2 / (draws / 24), 0);
    expect(chi).toBeLessThan(49.7); // 23 degrees of freedom, p = 0.001
  });

  it('goes on from any sequence', () => {
    const whole = windowOrder(7, 3, true);
    const expected = Array.from({ length: 30 }, (_, p) => whole(p));
    for (const start of [0, 5, 7, 13, 29]) expect(windowOrder(7, 3, true)(start)).toBe(expected[start]);
    expect(new Set(expected.slice(7, 14)).size).toBe(7);
    expect(Array.from({ length: 9 }, (_, p) => windowOrder(7, 3, false)(p))).toEqual([0, 1, 2, 3, 4, 5, 6, 0, 1]);
  });
});

describe('batches', () => {
  const text = Array.from({ length: 101 }, (_, i) => String.fromCharCode(1000 + i)).join('');
  const open = () => openTokens(options([write('b.txt', text)], { endOfText: false }));
  const base = { sequences: 3, tokens: 10, perStep: 6, seed: 5 };

  it('are all windows, each token but the first predicted once an epoch', async () => {
    const file = await open();
    const batches = openBatches(file, { ...base, shuffle: true });
    expect(batches.windows).toBe(10);
    const predicted: number[] = [];
    const starts: number[] = [];
    for (let index = 0; index < 10; index++) {
      const { ids, targets } = await batches.get(index);
      for (let b = 0; b < 3; b++) {
        starts.push(ids[10 * b]);
        for (let t = 0; t < 9; t++) expect(targets[10 * b + t]).toBe(ids[10 * b + t + 1]);
      }
      predicted.push(...targets);
    }
    const counted = Array.from({ length: 101 }, (_, i) => predicted.filter((id) => id === 1000 + i).length);
    expect(counted).toEqual([0, ...new Array(100).fill(3)]);
    expect(starts.slice(0, 10)).not.toEqual(starts.slice(0, 10).sort());
    const again = openBatches(file, { ...base, shuffle: true });
    const seventh = await again.get(7);
    expect([0, 10, 20].map((i) => seventh.ids[i])).toEqual(starts.slice(21, 24));
    await file.close();
  });

  it('are in the order of the text without shuffling', async () => {
    const file = await open();
    const { ids, targets } = await openBatches(file, { ...base, shuffle: false }).get(3);
    expect([ids[0], ids[10], ids[20], targets[29]]).toEqual([1090, 1000, 1010, 1020]);
    await file.close();
  });

  it('need a text that is long enough for a step', async () => {
    const file = await open();
    expect(() => openBatches(file, { ...base, perStep: 11, shuffle: true })).toThrow(
      /^train: the training text has fewer tokens than one step takes, got 101 tokens, 10 windows of 10, expected at least 111 tokens, 11 windows \(file .*b\.txt\); give more text/,
    );
    await file.close();
  });
});
