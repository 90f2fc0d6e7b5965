// How far an unfinished output file is, in a small file beside it (Node only).
//
// { fingerprint, layout, parts, bytes, crc }: the first `bytes` bytes of the partial are `parts` whole parts and have
// this CRC-32. The journal is overwritten in place, by one short write of constant length: models have thousands of
// tensors, and a new file for each would cost more than the tensors do. A torn journal is no valid JSON or does not fit
// the CRC, and so is a journal that reached the disk before its data in a power cut; the next run then starts over.

import { closeSync, openSync, writeSync } from 'node:fs';
import { type FileHandle, readFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

/** What the content depends on: a journal of other origin is not continued. */
export interface JournalOrigin {
  readonly fingerprint: string;
  /** Hash of the bytes that describe the parts. */
  readonly layout: string;
}

export interface JournalState {
  readonly parts: number;
  readonly bytes: number;
  /** CRC-32 of those bytes. */
  readonly crc: number;
}

export interface JournalFile {
  write(state: JournalState): void;
  close(): void;
}

const readBytes = 4 * 2 ** 20;
const largest: JournalState = { parts: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER, crc: 2 ** 32 - 1 };

/**
 * Opens the journal for writing; `resumed` keeps what it says until the first write.
 *
 * Writes are synchronous: a few hundred bytes into the page cache take less time than handing them to a thread.
 */
export function openJournal(path: string, origin: JournalOrigin, resumed: boolean): JournalFile {
  const text = (state: JournalState) => JSON.stringify({ ...origin, ...state });
  const { length } = text(largest);
  const file = openSync(path, resumed ? 'r+' : 'w');
  return {
    write: (state) => {
      writeSync(file, text(state).padEnd(length), 0);
    },
    close: () => closeSync(file),
  };
}

/** The state of an earlier run when it fits this one and the partial still has those bytes. */
export async function usableState(
  path: string,
  partial: FileHandle,
  origin: JournalOrigin,
): Promise<JournalState | undefined> {
  let journal: JournalOrigin & JournalState;
  try {
    journal = JSON.parse(await readFile(path, 'utf8')) as JournalOrigin & JournalState;
  } catch {
    return undefined;
  }
  if (journal?.fingerprint !== origin.fingerprint || journal.layout !== origin.layout) return undefined;
  const { parts, bytes, crc } = journal;
  if (!Number.isSafeInteger(bytes) || !Number.isSafeInteger(parts) || bytes < 0 || parts < 0) return undefined;
  if ((await partial.stat()).size < bytes) return undefined;
  return (await crcOf(partial, bytes)) === crc ? { parts, bytes, crc } : undefined;
}

/** CRC-32 of the first `length` bytes; undefined when the file ends before. */
async function crcOf(file: FileHandle, length: number): Promise<number | undefined> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(readBytes, length));
  let crc = 0;
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.byteLength, length - at), at);
    if (bytesRead === 0) return undefined;
    crc = crc32(buffer.subarray(0, bytesRead), crc);
    at += bytesRead;
  }
  return crc;
}
