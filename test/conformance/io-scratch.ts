// A folder of its own for each test file, and small builders of broken files.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

export const project = new URL('../../', import.meta.url).pathname;
export const qwen = join(project, 'models/qwen3-6m');

/** A temporary folder that is removed after the tests of the calling file. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'subbyte-io-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const bytesOf = (path: string) => new Uint8Array(readFileSync(path));

export function u64(value: number | bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export const text = (value: string) => new TextEncoder().encode(value);

/** GGUF string: length, bytes. */
export const ggufString = (value: string) => concat(u64(text(value).byteLength), text(value));

export function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A safetensors file with this header text, whatever it says, and `dataBytes` zeros. */
export function safetensorsFile(header: unknown, dataBytes: number): Uint8Array {
  const json = text(typeof header === 'string' ? header : JSON.stringify(header));
  return concat(u64(json.byteLength), json, new Uint8Array(dataBytes));
}

export function write(folder: string, name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}
