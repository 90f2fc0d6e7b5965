// Texts to a token file, once: later runs find it by what went into it.
//
// A token file holds the ids of all documents of all texts, one after the other, as unsigned little-endian numbers of 16
// bits (32 where the vocabulary needs them); each document is followed by the end-of-text token when asked for. A plain
// text file is one document. Text is tokenized without special tokens in chunks of 1,000,000 characters. The manifest
// `<name>.tokens.json` says what went in: it is written last, so a token file with a manifest is whole.
// Texts are streamed and never held. It does not do: dropping duplicates, mixing texts by weight.

import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { SubbyteError, userError } from '../../errors.ts';
import { encodedChunks } from '../../evaluate/token-stream.ts';
import { openText, type TextOptions, type TextPiece } from '../../io/datasets.ts';
import { fileError } from '../../io/file-errors.ts';
import { makeFolder } from '../../io/make-folder.ts';
import type { Tokenizer } from '../../io/tokenizer.ts';
import { type Manifest, readManifest, type SourceRecord } from './manifest.ts';
import { openTokenFile, type TokenFile } from './token-file.ts';

export interface TokenizeOptions extends TextOptions {
  /** Files, or hf:datasets/org/name. */
  readonly sources: readonly string[];
  readonly tokenizer: Pick<Tokenizer, 'encode' | 'specials' | 'vocabSize'>;
  /** SHA-256, in hex, of the tokenizer's definition. */
  readonly tokenizerDigest: string;
  readonly endOfText: boolean;
  /** Folder of the token files; made when missing. */
  readonly cache: string;
  /** Called with the tokens written so far. */
  readonly onTokens?: (tokens: number) => void;
}

const op = 'tokenize';

/**
 * Opens the token file of these texts, and makes it when there is none.
 *
 * @throws user error for what is wrong with the texts, `interrupted` when the signal aborts
 * @example const file = await openTokens({ sources: ['train.txt'], tokenizer, tokenizerDigest, endOfText: true, cache: 'tokens' });
 */
export async function openTokens(options: TokenizeOptions): Promise<TokenFile> {
  const { sources, cache } = options;
  const path = join(cache, `${stem(sources[0])}-${(await keyOf(options)).slice(0, 16)}.tokens`);
  const known = await readManifest(path);
  if (known) return openTokenFile(path, known);
  try {
    await makeFolder(cache);
  } catch (cause) {
    throw fileError('write', cache, cause);
  }
  const manifest = await writeTokens(path, options);
  return openTokenFile(path, manifest);
}

const stem = (source: string) =>
  basename(source)
    .replace(/\..*$/, '')
    .replace(/[^\w-]+/g, '-')
    .slice(0, 40) || 'text';

/** What a token file is found by: where the texts lie, how large and how old they are, and how they become tokens. */
async function keyOf({ sources, field, tokenizerDigest, endOfText }: TokenizeOptions): Promise<string> {
  const identities = await Promise.all(
    sources.map(async (source) => {
      if (source.startsWith('hf:')) return [source];
      try {
        const { size, mtimeMs } = await stat(source);
        return [source, size, mtimeMs];
      } catch (cause) {
        throw fileError('read text', source, cause);
      }
    }),
  );
  const parts = [1, identities, field ?? null, tokenizerDigest, endOfText];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

async function writeTokens(path: string, options: TokenizeOptions): Promise<Manifest> {
  const { tokenizer, sources, endOfText, tokenizerDigest, field } = options;
  const end = endOfText ? endToken(options) : undefined;
  // a name of its own, since other runs may make the same file at the same time
  const partial = `${path}.${process.pid}.partial`;
  const bytesPerToken = tokenizer.vocabSize <= 2 ** 16 ? 2 : 4;
  try {
    const handle = await open(partial, 'w');
    try {
      const writer = new TokenWriter(handle, bytesPerToken);
      const records: SourceRecord[] = [];
      for (const source of sources) records.push(await writeSource(source, writer, end, options));
      const digest = await writer.finish();
      const manifest: Manifest = {
        kind: 'subbyte tokens',
        version: 1,
        tokens: writer.tokens,
        bytesPerToken,
        digest,
        vocabSize: tokenizer.vocabSize,
        tokenizer: tokenizerDigest,
        endOfText: end ?? null,
        field: field ?? null,
        sources: records,
      };
      await handle.close();
      await writeFile(`${partial}.json`, `${JSON.stringify(manifest, undefined, 2)}\n`);
      await rename(partial, path);
      await rename(`${partial}.json`, `${path}.json`);
      return manifest;
    } finally {
      await handle.close().catch(() => undefined);
    }
  } catch (cause) {
    await rm(partial, { force: true });
    await rm(`${partial}.json`, { force: true });
    throw cause instanceof SubbyteError ? cause : fileError('write', path, cause);
  }
}

function endToken({ tokenizer }: TokenizeOptions): number {
  const id = tokenizer.specials.eos;
  if (id !== undefined) return id;
  throw userError({
    code: 'end-of-text-missing',
    op,
    problem: 'the tokenizer names no end-of-text token',
    fix: 'set data.endOfText: false, or put eos_token into tokenizer_config.json',
  });
}

async function writeSource(
  source: string,
  writer: TokenWriter,
  end: number | undefined,
  options: TokenizeOptions,
): Promise<SourceRecord> {
  const opened = await openText(source, options);
  const pieces = opened.pieces();
  const hash = createHash('sha256');
  const before = writer.tokens;
  let documents = 0;
  let characters = 0;
  for (;;) {
    const reading = { started: false };
    for await (const ids of encodedChunks(options.tokenizer.encode, documentText(pieces, reading, hash))) {
      if (options.signal?.aborted) throw interrupted(source);
      await writer.write(ids);
      options.onTokens?.(writer.tokens);
    }
    if (!reading.started) break;
    documents++;
    if (end !== undefined) await writer.write(Int32Array.of(end));
  }
  const tokens = writer.tokens - before;
  return { source: opened.source, documents, characters, tokens, digest: hash.digest('hex') };

  async function* documentText(from: AsyncGenerator<TextPiece>, reading: { started: boolean }, digest: Hash) {
    for (;;) {
      const next = await from.next();
      if (next.done) return;
      reading.started = true;
      const { text, end: last } = next.value;
      digest.update(text);
      if (last) digest.update('\0');
      characters += text.length;
      yield text;
      if (last) return;
    }
  }
}

const interrupted = (file: string) =>
  new SubbyteError('interrupted', { code: 'tokenize-interrupted', op, problem: 'interrupted', file });

/** Ids as bytes, in large writes. */
class TokenWriter {
  readonly #handle: FileHandle;
  readonly #width: 2 | 4;
  readonly #hash = createHash('sha256');
  readonly #buffer = new DataView(new ArrayBuffer(2 ** 20));
  #filled = 0;
  #position = 0;
  tokens = 0;

  constructor(handle: FileHandle, width: 2 | 4) {
    this.#handle = handle;
    this.#width = width;
  }

  async write(ids: Int32Array): Promise<void> {
    for (const id of ids) {
      if (this.#filled === this.#buffer.byteLength) await this.#flush();
      if (this.#width === 2) this.#buffer.setUint16(this.#filled, id, true);
      else this.#buffer.setUint32(this.#filled, id, true);
      this.#filled += this.#width;
    }
    this.tokens += ids.length;
  }

  /** SHA-256 of the whole file, which is on the disk then. */
  async finish(): Promise<string> {
    await this.#flush();
    await this.#handle.sync();
    return this.#hash.digest('hex');
  }

  async #flush(): Promise<void> {
    const bytes = new Uint8Array(this.#buffer.buffer, 0, this.#filled);
    for (let done = 0; done < bytes.length; )
      done += (await this.#handle.write(bytes, done, bytes.length - done, this.#position + done)).bytesWritten;
    this.#hash.update(bytes);
    this.#position += bytes.length;
    this.#filled = 0;
  }
}
