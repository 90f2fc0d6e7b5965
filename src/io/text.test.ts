import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readText, streamText } from './text.ts';
import { streamLines } from './text-lines.ts';
import { firstInvalidByte, unfinishedBytes } from './utf8.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-text-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const write = (name: string, bytes: Uint8Array | string) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};

const sample = 'Größe, naïve, 日本語 🙂\n'.repeat(40);
const xz = readFileSync(new URL('../../test/fixtures/io/sample.txt.xz', import.meta.url));

describe('readText', () => {
  it('reads plain and compressed files alike', async () => {
    const bytes = Buffer.from(sample);
    expect(await readText(write('a.txt', bytes))).toBe(sample);
    expect(await readText(write('a.txt.gz', gzipSync(bytes)))).toBe(sample);
    expect(await readText(write('a.txt.br', brotliCompressSync(bytes)))).toBe(sample);
    expect(await readText(write('a.txt.zst', zstdCompressSync(bytes)))).toBe(sample);
    expect(await readText(write('a.txt.xz', xz))).toBe(sample);
    expect(await readText(write('empty.txt', ''))).toBe('');
  });

  it('drops a byte order mark', async () => {
    expect(await readText(write('bom.txt', '\ufeffhello'))).toBe('hello');
  });

  it('names the first byte that is not UTF-8', async () => {
    const latin = write('latin.txt', Buffer.from('abc gr\xfc\xdfe', 'latin1'));
    await expect(readText(latin)).rejects.toThrow(/not UTF-8, got byte 0xfc at position 6 .*latin\.txt/);
    await expect(readText(latin)).rejects.toMatchObject({ kind: 'user' });
    const utf16 = write('utf16.txt', Buffer.from('\ufeffhello', 'utf16le'));
    await expect(readText(utf16)).rejects.toThrow(/not UTF-8 but UTF-16/);
  });

  it('says that compressed data is damaged or cut off', async () => {
    const bytes = Buffer.from(sample);
    for (const [name, data] of [
      ['cut.gz', gzipSync(bytes).subarray(0, 40)],
      ['cut.br', brotliCompressSync(bytes).subarray(0, 30)],
      ['cut.zst', zstdCompressSync(bytes).subarray(0, 30)],
      ['cut.xz', xz.subarray(0, 60)],
      ['no.gz', bytes],
      ['no.zst', bytes],
      ['no.xz', bytes],
    ] as const)
      await expect(readText(write(name, data)), name).rejects.toThrow(/damaged or cut off/);
  });

  it('says that a path is wrong', async () => {
    await expect(readText(join(folder, 'absent.txt'))).rejects.toThrow(/no such file.*absent\.txt/);
    await expect(readText(folder)).rejects.toThrow(/is a folder/);
  });
});

/** 6 MB; characters of one to four bytes at all offsets from the ends of pieces. */
const long = Array.from({ length: 150_000 }, (_, i) => `${i} Größe, naïve, 日本語 🙂 ${'x'.repeat(i % 7)}\n`).join('');
const packed = gzipSync(long, { level: 1 });

const openFiles = () =>
  readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });

describe('streamText', () => {
  it('gives the text in pieces that end between characters', async () => {
    const path = write('long.txt', long);
    const pieces: string[] = [];
    for await (const piece of streamText(path)) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(50);
    expect(pieces.every((piece) => piece.isWellFormed() && !piece.includes('\ufffd'))).toBe(true);
    expect(pieces.join('') === long).toBe(true);
    expect((await readText(write('long.txt.gz', packed))) === long).toBe(true);
  });

  it('reads and decompresses no more than it is asked for', async () => {
    // the second half is damaged, which only a reader of the whole text notices
    const path = write('half.txt.gz', Buffer.concat([packed.subarray(0, packed.length / 2), Buffer.alloc(1000, 7)]));
    let text = '';
    for await (const piece of streamText(path)) if ((text += piece).length > 500_000) break;
    expect(long.startsWith(text)).toBe(true);
    expect(text.length).toBeLessThan(700_000);
    await expect(readText(path)).rejects.toThrow(/damaged or cut off.*half\.txt\.gz/);
    await setTimeout(20);
    if (process.platform === 'linux') expect(openFiles()).not.toContain(path);
  });

  it('counts positions of wrong bytes from the start of the file', async () => {
    const bytes = Buffer.from(long);
    bytes[3_000_001] = 0xff;
    await expect(readText(write('wrong.txt', bytes))).rejects.toThrow(/got byte 0xff at position 3000001 /);
    await expect(readText(write('end.txt', Buffer.from('abcü').subarray(0, 4)))).rejects.toThrow(/0xc3 at position 3 /);
    const marks = `${'a'.repeat(2 ** 16 - 1)}\ufeff\ufeffb`;
    expect(await readText(write('marks.txt', `\ufeff${marks}`))).toBe(marks);
  });
});

describe('streamLines', () => {
  it('gives numbered lines, whatever they end with', async () => {
    const lines: string[] = [];
    for await (const { text, number } of streamLines(write('l.txt', 'a\r\n\nb\rc\nlast')))
      lines.push(`${number} ${text}`);
    expect(lines).toEqual(['1 a', '2 ', '3 b\rc', '4 last']);
    let count = 0;
    for await (const { text, number } of streamLines(write('lines.txt.gz', packed)))
      if (text.startsWith(`${number - 1} Größe`)) count++;
    expect(count).toBe(150_000);
  });

  it('refuses a line without end', async () => {
    const path = write('endless.txt.gz', gzipSync(Buffer.alloc(2 ** 26 + 2, 97), { level: 1 }));
    await expect(async () => {
      for await (const _ of streamLines(path));
    }).rejects.toThrow(/line 1 is too long.*endless\.txt\.gz:1/);
  });
});

describe('unfinishedBytes', () => {
  it('counts what a sequence at the end has of itself', () => {
    const bytes = Buffer.from('aü日🙂');
    const whole = [0, 1, 3, 6, 10];
    for (let end = 0; end <= 10; end++)
      expect(unfinishedBytes(bytes.subarray(0, end)), `${end}`).toBe(end - whole.findLast((w) => w <= end)!);
    expect(unfinishedBytes(Uint8Array.of(0x80, 0x80, 0x80, 0x80))).toBe(0);
  });
});

describe('firstInvalidByte', () => {
  it('agrees with TextDecoder on bytes at the edges of the rules', () => {
    const decodes = (bytes: Uint8Array) => {
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(bytes);
        return true;
      } catch {
        return false;
      }
    };
    const edges = [
      0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff,
    ];
    const wrong: string[] = [];
    for (let a = 0; a < 256; a++)
      for (const b of edges)
        for (const tail of [[], [0x80], [0x80, 0x80], [0x41], [0xbf, 0x41]]) {
          const bytes = Uint8Array.of(a, b, ...tail);
          if ((firstInvalidByte(bytes) === -1) !== decodes(bytes)) wrong.push(bytes.toString());
        }
    expect(wrong).toEqual([]);
  });
});
