// Reading token files: any run of ids by its position, whatever the size of the file.
//
// Reads are positional, so the system's page cache holds what is used often and nothing else is in memory.

import { modelError } from '../../errors.ts';
import { openFile } from '../../io/source-file.ts';
import type { Manifest } from './manifest.ts';

export interface TokenFile {
  readonly path: string;
  readonly manifest: Manifest;
  /** Ids in all. */
  readonly tokens: number;
  /** Ids first … first + count − 1. Throws a model error where the file is damaged. */
  read(first: number, count: number): Promise<Int32Array>;
  close(): Promise<void>;
}

/** Opens a token file with its manifest. Throws a user error when it cannot be read. */
export async function openTokenFile(path: string, manifest: Manifest): Promise<TokenFile> {
  const source = await openFile(path);
  const { tokens, bytesPerToken, vocabSize } = manifest;
  return {
    path,
    manifest,
    tokens,
    async read(first, count) {
      const bytes = await source.read(first * bytesPerToken, count * bytesPerToken);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const out = new Int32Array(count);
      for (let i = 0; i < count; i++) {
        const id = bytesPerToken === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true);
        if (id >= vocabSize) throw damaged(path, first + i, id, vocabSize);
        out[i] = id;
      }
      return out;
    },
    close: () => source.close(),
  };
}

const damaged = (file: string, position: number, got: number, vocabSize: number) =>
  modelError({
    code: 'token-file-damaged',
    op: 'read tokens',
    problem: `the token at position ${position} is none`,
    got,
    expected: `0 … ${vocabSize - 1}`,
    file,
    fix: 'delete the file; the next run makes it again',
  });
