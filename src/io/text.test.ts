import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { readText } from './text.ts';
import { firstInvalidByte } from './utf8.ts';

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
