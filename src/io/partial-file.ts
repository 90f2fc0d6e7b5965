// Output files that appear under their name only when whole, and that a killed run continues (Node only).
//
// Bytes go to `<name>.partial`. After every whole part (a header, a tensor) a journal `<name>.partial.json` says how
// far the file is: { fingerprint, layout, parts, bytes, crc }. A later run with the same fingerprint and layout reads
// the partial back, compares its length and CRC-32 with the journal, cuts off what follows and goes on with the next
// part; anything else starts over. The CRC makes this safe after a power cut too, when the journal may have reached the
// disk before the data. The journal is replaced by renaming, so it is never half-written.
//
// What stays after a failure: with a fingerprint, an interrupted run (abort, kill) and a device failure (disk full)
// keep partial and journal; every other error removes them. Without a fingerprint nothing can continue, so both go,
// unless the process is killed. The next run overwrites leftovers.

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { deviceError, SubbyteError, userError } from '../errors.ts';
import { fileError, systemCode } from './file-errors.ts';
import { makeFolder } from './make-folder.ts';

export interface PartialOptions {
  path: string;
  /** Bytes of the finished file: checked against the free space before the first write. */
  totalBytes: number;
  /** Everything that decides the content (inputs, options, version). Absent: never continued. */
  fingerprint?: string;
  /** The bytes that describe the parts, a header: a changed layout starts over. */
  layout: Uint8Array;
}

export interface PartialFile {
  /** Parts that an earlier run wrote and that need not be written again. */
  readonly partsDone: number;
  write(bytes: Uint8Array): Promise<void>;
  /** One more part is whole. */
  endPart(): Promise<void>;
  /** Everything is written: flush to the disk and close. The file keeps its partial name. */
  seal(): Promise<void>;
  /** Gives the sealed file its name. */
  publish(): Promise<void>;
  /** After an error: keeps or removes the partial, as the module header says. */
  fail(error: unknown): Promise<void>;
}

interface Journal {
  fingerprint: string;
  layout: string;
  parts: number;
  bytes: number;
  crc: number;
}

const copyBytes = 4 * 2 ** 20;

/**
 * Opens (or continues) `<path>.partial`. The folder is created when missing.
 *
 * Throws a user error when the path is a folder or cannot be written, a device error when the disk is too small.
 */
export async function openPartial(options: PartialOptions): Promise<PartialFile> {
  const { path, fingerprint } = options;
  const partial = `${path}.partial`;
  const journalPath = `${partial}.json`;
  const layout = createHash('sha256').update(options.layout).digest('hex');
  let handle: FileHandle;
  let journal: Journal | undefined;
  try {
    await makeFolder(dirname(path));
    await refuseFolder(path);
    // Created when missing, kept when present.
    handle = await open(partial, constants.O_RDWR | constants.O_CREAT);
  } catch (cause) {
    throw fileError('write', path, cause);
  }
  try {
    journal = fingerprint === undefined ? undefined : await usableJournal(journalPath, handle, fingerprint, layout);
    await handle.truncate(journal?.bytes ?? 0);
    if (!journal) await rm(journalPath, { force: true });
    await checkSpace(path, options.totalBytes - (journal?.bytes ?? 0));
  } catch (cause) {
    await handle.close();
    if (!journal) await rm(partial, { force: true });
    throw fileError('write', path, cause);
  }

  let position = journal?.bytes ?? 0;
  let crc = journal?.crc ?? 0;
  let parts = journal?.parts ?? 0;
  let open_ = true;
  const close = async () => {
    if (open_) await handle.close();
    open_ = false;
  };
  return {
    partsDone: parts,
    write: async (bytes) => {
      try {
        for (let done = 0; done < bytes.byteLength; )
          done += (await handle.write(bytes, done, bytes.byteLength - done, position + done)).bytesWritten;
      } catch (cause) {
        throw fileError('write', partial, cause);
      }
      position += bytes.byteLength;
      if (fingerprint !== undefined) crc = crc32(bytes, crc);
    },
    endPart: async () => {
      parts++;
      if (fingerprint === undefined) return;
      try {
        await replaceJson(journalPath, { fingerprint, layout, parts, bytes: position, crc });
      } catch (cause) {
        throw fileError('write', journalPath, cause);
      }
    },
    seal: async () => {
      try {
        await handle.sync();
        await close();
      } catch (cause) {
        throw fileError('write', partial, cause);
      }
    },
    publish: async () => {
      try {
        await rename(partial, path);
        await rm(journalPath, { force: true });
        await syncFolder(dirname(path));
      } catch (cause) {
        throw fileError('write', path, cause);
      }
    },
    fail: async (error) => {
      await close().catch(() => undefined);
      const kind = error instanceof SubbyteError ? error.kind : undefined;
      if (fingerprint !== undefined && (kind === 'interrupted' || kind === 'device')) return;
      await rm(partial, { force: true }).catch(() => undefined);
      await rm(journalPath, { force: true }).catch(() => undefined);
    },
  };
}

async function refuseFolder(path: string): Promise<void> {
  const info = await stat(path).catch((cause) => {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw cause;
  });
  if (info?.isDirectory())
    throw userError({
      code: 'write-folder-in-the-way',
      op: 'write',
      problem: 'a folder has the name of the output file',
      file: path,
      fix: 'choose another name or remove the folder',
    });
}

async function checkSpace(path: string, needed: number): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(dirname(path));
  const free = bavail * bsize;
  // Some network file systems report no sizes at all.
  if (blocks > 0 && needed > free)
    throw deviceError({
      code: 'disk-full',
      op: 'write',
      problem: 'the disk has too little free space for the output',
      got: `${free} bytes free`,
      expected: `${needed} bytes`,
      file: path,
      fix: 'free space or choose another folder',
    });
}

/** The journal of an earlier run when it fits this one and the partial still has those bytes. */
async function usableJournal(
  journalPath: string,
  handle: FileHandle,
  fingerprint: string,
  layout: string,
): Promise<Journal | undefined> {
  let journal: Journal;
  try {
    journal = JSON.parse(await readFile(journalPath, 'utf8')) as Journal;
  } catch {
    return undefined;
  }
  if (journal?.fingerprint !== fingerprint || journal.layout !== layout) return undefined;
  if (!Number.isSafeInteger(journal.bytes) || !Number.isSafeInteger(journal.parts)) return undefined;
  if ((await handle.stat()).size < journal.bytes) return undefined;
  const buffer = new Uint8Array(Math.min(copyBytes, journal.bytes));
  let crc = 0;
  for (let at = 0; at < journal.bytes; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, journal.bytes - at), at);
    if (bytesRead === 0) return undefined;
    crc = crc32(buffer.subarray(0, bytesRead), crc);
    at += bytesRead;
  }
  return crc === journal.crc ? journal : undefined;
}

async function replaceJson(path: string, value: object): Promise<void> {
  const handle = await open(`${path}.new`, 'w');
  try {
    await handle.writeFile(JSON.stringify(value));
  } finally {
    await handle.close();
  }
  await rename(`${path}.new`, path);
}

/** Makes a rename durable; not every platform can. */
async function syncFolder(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r');
    await handle.sync().finally(() => handle.close());
  } catch {
    // Windows cannot open folders; the rename is durable there when the file is.
  }
}
