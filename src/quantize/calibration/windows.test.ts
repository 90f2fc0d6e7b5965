import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { encodeStream } from '../../evaluate/token-stream.ts';
import { encodeText } from '../../evaluate/tokens.ts';
import { openCheckpoint } from '../../io/open.ts';
import { readText } from '../../io/text.ts';
import { loadTokenizer } from '../../io/tokenizer.ts';
import { type CalibrationText, loadCalibration } from './windows.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-windows-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const write = (name: string, content: string | Uint8Array) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

/** One token for each byte of UTF-8: a token is not a character. */
const bytes = {
  encode: (text: string) => Int32Array.from(Buffer.from(text)),
  decode: (ids: ArrayLike<number>) => Buffer.from(Array.from(ids)).toString(),
};
/** One token for each code point. */
const points = {
  encode: (text: string) => Int32Array.from(Array.from(text, (c) => c.codePointAt(0)!)),
  decode: (ids: ArrayLike<number>) => String.fromCodePoint(...Array.from(ids)),
};
const load = (source: string, more: Partial<CalibrationText> = {}, tokenizer = points, options = {}) =>
  loadCalibration({ source, samples: 4, window: 8, sampling: 'start', seed: 0, ...more }, tokenizer, options);
const windows = ({ ids, samples, window }: { ids: Int32Array; samples: number; window: number }) =>
  Array.from({ length: samples }, (_, i) => ids.subarray(i * window, (i + 1) * window));

/** 60,000 characters that are all different in their order: the position of a window can be found again. */
const numbered = Array.from({ length: 10_000 }, (_, i) => `${String(i).padStart(5, '0')}🙂`).join('');

describe('encodeStream', () => {
  it('is encodeText, whatever the pieces', async () => {
    // chunks of 1,000,000 characters, where pairs count once; the tokens tell what each call was given
    const marking = (text: string) =>
      Int32Array.of(text.length, text.codePointAt(0)!, text.charCodeAt(text.length - 1));
    const text = `${'😀'.repeat(1_200_000)}${'ab😀'.repeat(500_000)}`;
    for (const size of [65_536, 999_999, 5_000_000]) {
      const cut: string[] = [];
      for (let at = 0; at < text.length; ) {
        let end = Math.min(text.length, at + size);
        if (text.codePointAt(end - 1)! > 0xffff) end++;
        cut.push(text.slice(at, end));
        at = end;
      }
      for (const limit of [1, 3, 4, 6, Number.POSITIVE_INFINITY]) {
        const ids = await encodeStream(marking, stream(cut), limit);
        expect(ids).toEqual(encodeText(marking, text, limit));
      }
    }
  });

  it('takes no more pieces than it needs', async () => {
    let taken = 0;
    const counted = (async function* () {
      for (; ; taken++) yield 'x'.repeat(100_000);
    })();
    expect((await encodeStream(points.encode, counted, 1_500_000)).length).toBe(1_500_000);
    expect(taken).toBeLessThan(31);
  });
});

async function* stream(list: readonly string[]): AsyncGenerator<string> {
  yield* list;
}

describe('windows from the start', () => {
  it('are the first tokens of the text by the protocol of evaluations', async () => {
    const found = await load(write('a.txt', numbered));
    expect(found).toMatchObject({
      samples: 4,
      window: 8,
      source: join(folder, 'a.txt'),
      tokensRead: 60_000,
      notes: [],
    });
    expect(points.decode(found.ids)).toBe(Array.from(numbered).slice(0, 32).join(''));
    const expected = createHash('sha256').update(Buffer.from(found.ids.buffer)).digest('hex');
    expect(found.digest).toBe(expected);
  });

  it('with a real tokenizer are the tokens of evaluations', async () => {
    const checkpoint = await openCheckpoint('models/qwen3-6m');
    const tokenizer = await loadTokenizer(checkpoint);
    const text = await readText('models/val.txt.xz');
    const expected = encodeText((part) => tokenizer.encode(part), text, 64 * 128);
    const source = 'models/val.txt.xz';
    const options = { samples: 64, window: 128, seed: 0, source };
    const start = await loadCalibration({ ...options, sampling: 'start' }, tokenizer);
    expect(start.ids).toEqual(expected);
    for (const sampling of ['spread', 'random'] as const) {
      const { ids, samples, tokensRead } = await loadCalibration({ ...options, sampling }, tokenizer);
      expect([samples, ids.length]).toEqual([64, 64 * 128]);
      // the probe of 2^16 characters, and stretches of 1.5 times 144 tokens, doubled once at most
      expect(tokensRead).toBeLessThan(25_000 + 64 * 144 * (1.5 + 3));
      // every window is a piece of the text
      for (const row of windows({ ids, samples, window: 128 })) expect(text).toContain(tokenizer.decode(row));
    }
    await checkpoint.close();
  });

  it('do not need what lies behind them', async () => {
    const packed = gzipSync('some text '.repeat(1_000_000), { level: 1 });
    const path = write('cut.txt.gz', packed.subarray(0, packed.length - 100));
    await expect(load(path)).resolves.toMatchObject({ samples: 4 });
    await expect(load(path, { sampling: 'spread' })).rejects.toThrow(/damaged or cut off/);
  });

  it('come out of JSONL with documents joined', async () => {
    const path = write('a.jsonl', '{"body":"abc"}\n{"body":"defghijklmnop"}');
    const { ids } = await load(path, { field: 'body', samples: 2 });
    expect(points.decode(ids)).toBe('abc\n\ndefghijklmn');
  });
});

describe.each(['spread', 'random'] as const)('windows by %s', (sampling) => {
  const placesOf = (found: { ids: Int32Array; samples: number; window: number }, text = numbered) =>
    windows(found).map((row) => {
      const part = points.decode(row);
      const at = text.indexOf(part);
      expect(at, part).toBeGreaterThanOrEqual(0);
      return at;
    });

  it('lie all over the text, in its order, without overlap', async () => {
    const path = write('b.txt', numbered);
    const found = await load(path, { sampling, samples: 50, window: 20 });
    const places = placesOf(found);
    for (const [i, at] of places.entries()) if (i > 0) expect(at - places[i - 1]).toBeGreaterThanOrEqual(20);
    expect(places[0]).toBeLessThan(numbered.length / 4);
    expect(places[49]).toBeGreaterThan((3 * numbered.length) / 4);
    // the probe, and 1.5 times the windows and 16 tokens more
    expect(found.tokensRead).toBeLessThan(60_000 + 50 * 1.6 * 36);
    expect((await load(path, { sampling, samples: 50, window: 20 })).digest).toBe(found.digest);
    const packed = await load(write('b.txt.gz', gzipSync(numbered)), { sampling, samples: 50, window: 20 });
    expect(packed.digest).toBe(found.digest);
  });

  it('begin where a character begins, also among tokens that are parts of one', async () => {
    const text = 'aü日🙂'.repeat(3000);
    const path = write('c.txt', text);
    // 30,000 tokens: room for 100 stretches, but not for 900, which lie among the tokens
    for (const samples of [100, 900]) {
      const found = await load(path, { sampling, samples, window: 30 }, bytes);
      expect(found.samples).toBe(samples);
      for (const row of windows(found)) expect(row[0] & 0xc0).not.toBe(0x80);
    }
  });

  it('do not overlap in a text that has just room', async () => {
    const path = write('d.txt', numbered);
    const found = await load(path, { sampling, samples: 1150, window: 48 });
    expect(found).toMatchObject({ samples: 1150, notes: [] });
    const places = placesOf(found);
    for (let i = 1; i < places.length; i++) expect(places[i] - places[i - 1]).toBeGreaterThanOrEqual(48);
  });

  it('are as many as a short text has, with a note', async () => {
    const path = write('e.txt', numbered.slice(0, 100));
    const found = await load(path, { sampling, samples: 20, window: 10 });
    expect(found.samples).toBe(8);
    expect(found.ids).toEqual(points.encode(numbered.slice(0, 100)).subarray(0, 80));
    expect(found.notes).toEqual([`${path} has text for 8 of 20 windows of 10 tokens`]);
  });

  it('find text of many characters a token', async () => {
    // the text starts dense and becomes 40 times as sparse: stretches of the start's length do not do
    const sparse = {
      encode: (text: string) => Int32Array.from(text.match(/[a-y]|z+/g) ?? [], (t) => t.length),
      decode: () => '',
    };
    const path = write('f.txt', 'abcdefgh'.repeat(10_000) + `a${'z'.repeat(60)}`.repeat(20_000));
    const found = await load(path, { sampling, samples: 10, window: 32 }, sparse);
    expect(found.samples).toBe(10);
    const lengths = new Set(found.ids);
    expect(lengths).toContain(60);
  });
});

describe('places', () => {
  it('of spread windows are even, from the start on', async () => {
    const found = await load(write('g.txt', numbered), { sampling: 'spread', samples: 3, window: 10 });
    const [a, b, c] = windows(found).map((row) => numbered.indexOf(points.decode(row)));
    expect(a).toBe(0);
    expect(Math.abs(b - (a + c) / 2)).toBeLessThanOrEqual(1);
    expect(c).toBeGreaterThan(numbered.length - 60);
  });

  it('of random windows follow the seed, and spread over the text evenly', async () => {
    const path = write('h.txt', numbered);
    const at = async (seed: number) =>
      windows(await load(path, { sampling: 'random', samples: 100, window: 10, seed })).map((row) =>
        numbered.indexOf(points.decode(row)),
      );
    const [one, other] = [await at(1), await at(2)];
    expect(one).not.toEqual(other);
    for (const places of [one, other]) {
      const mean = places.reduce((a, b) => a + b) / places.length / numbered.length;
      expect(Math.abs(mean - 0.5)).toBeLessThan(0.1);
    }
  });
});

describe('a calibration text', () => {
  it('of less than a window is refused', async () => {
    const path = write('short.txt', 'abcdefg');
    for (const sampling of ['start', 'spread', 'random'] as const)
      await expect(load(path, { sampling })).rejects.toThrow(
        /fewer tokens than one window, got 7, expected at least 8 \(file .*short\.txt\); give a longer text/,
      );
    await expect(load(write('none.txt', ''), { sampling: 'random' })).rejects.toThrow(/got 0, expected at least 8/);
  });

  it('with tokens that the model does not have is refused', async () => {
    const path = write('wide.txt', 'abcdefghijklmnopqrstuvwxyz');
    await expect(load(path, {}, points, { vocabSize: 123 })).resolves.toMatchObject({ samples: 3 });
    await expect(load(path, {}, points, { vocabSize: 100 })).rejects.toThrow(
      /a token that the model does not have, got 100, expected 0 to 99 \(file .*wide\.txt\); use the tokenizer/,
    );
  });

  it('is not read for more than 2^28 tokens, nor after an interruption', async () => {
    const path = write('i.txt', numbered);
    await expect(load(path, { samples: 2 ** 20, window: 512 })).rejects.toThrow(
      /too large, got 1048576 windows of 512/,
    );
    const signal = AbortSignal.abort();
    await expect(load(path, {}, points, { signal })).rejects.toMatchObject({ kind: 'interrupted' });
  });
});
