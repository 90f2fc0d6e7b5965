// What a token file was made of.

import { readFile, stat } from 'node:fs/promises';

export interface SourceRecord {
  /** The file, or `hf:datasets/org/name@<commit>/path`. */
  readonly source: string;
  readonly documents: number;
  /** UTF-16 units. */
  readonly characters: number;
  /** Ends of documents included. */
  readonly tokens: number;
  /** SHA-256, in hex, of the documents' text as UTF-8, each with a zero byte after it. */
  readonly digest: string;
}

export interface Manifest {
  readonly kind: 'subbyte tokens';
  readonly version: 1;
  readonly tokens: number;
  readonly bytesPerToken: 2 | 4;
  /** SHA-256, in hex, of the token file. */
  readonly digest: string;
  readonly vocabSize: number;
  /** SHA-256, in hex, of the tokenizer's definition. */
  readonly tokenizer: string;
  /** Id that ends documents, or null. */
  readonly endOfText: number | null;
  readonly field: string | null;
  readonly sources: readonly SourceRecord[];
}

const mostBytes = 2 ** 24;

/** The manifest of a token file; undefined when there is none that fits the file, which is then made again. */
export async function readManifest(path: string): Promise<Manifest | undefined> {
  try {
    const { size } = await stat(`${path}.json`);
    if (size > mostBytes) return undefined;
    const manifest = JSON.parse(await readFile(`${path}.json`, 'utf8')) as Partial<Manifest> | null;
    if (manifest?.kind !== 'subbyte tokens' || manifest.version !== 1) return undefined;
    const { tokens, bytesPerToken } = manifest;
    if (bytesPerToken !== 2 && bytesPerToken !== 4) return undefined;
    if ((await stat(path)).size !== Number(tokens) * bytesPerToken) return undefined;
    return manifest as Manifest;
  } catch {
    return undefined;
  }
}
