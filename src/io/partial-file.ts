// Output files that appear under their name only when whole, and that a killed run continues (Node only).
//
// Bytes go to `<name>.partial`. After every whole part (a header, a tensor) a journal `<name>.partial.json` says how
// far the file is (partial-journal.ts). A later run with the same fingerprint and layout reads
// the partial back, compares its length and CRC-32 with the journal, cuts off what follows and goes on with the next
// part; anything else starts over. The CRC makes this safe after a power cut too, when the journal may have reached the
// disk before the data.
//
// What is written goes on to the disk while more is computed, so that the flush at the end finds little to do.
//
// What stays after a failure: with a fingerprint, an interrupted run (abort, kill) and a device failure (disk full)
// keep partial and journal; every other error removes them. Without a fingerprint nothing can continue, so both go,
// unless the process is killed. The next run overwrites leftovers.

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { deviceError, SubbyteError, userError } from '../errors.ts';
import { fileError, systemCode } from './file-errors.ts';
import { makeFolder } from './make-folder.ts';
import { type JournalFile, type JournalState, openJournal, usableState } from './partial-journal.ts';

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

/** After so many new bytes the disk is asked to take them. */
const flushBytes = 64 * 2 ** 20;

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
  const origin = fingerprint === undefined ? undefined : { fingerprint, layout };
  let handle: FileHandle;
  let state: JournalState | undefined;
  let journal: JournalFile | undefined;
  try {
    await makeFolder(dirname(path));
    await refuseFolder(path);
    // Created when missing, kept when present.
    handle = await open(partial, constants.O_RDWR | constants.O_CREAT);
  } catch (cause) {
    throw fileError('write', path, cause);
  }
  try {
    state = origin && (await usableState(journalPath, handle, origin));
    await handle.truncate(state?.bytes ?? 0);
    if (!state) await rm(journalPath, { force: true });
    await checkSpace(path, options.totalBytes - (state?.bytes ?? 0));
    journal = origin && openJournal(journalPath, origin, state !== undefined);
  } catch (cause) {
    await handle.close();
    if (!state) await rm(partial, { force: true });
    throw fileError('write', path, cause);
  }

  let { parts, bytes: position, crc } = state ?? { parts: 0, bytes: 0, crc: 0 };
  let isOpen = true;
  const flusher = backgroundFlush(handle, position);
  const close = async () => {
    if (!isOpen) return;
    isOpen = false;
    journal?.close();
    await handle.close();
  };
  return {
    partsDone: parts,
    write: async (bytes) => {
      if (bytes.byteLength === 0) return;
      try {
        const written = writeAll(handle, bytes, position);
        // on this thread, while another one writes
        if (journal) crc = crc32(bytes, crc);
        await written;
        position += bytes.byteLength;
        flusher.reached(position);
      } catch (cause) {
        throw fileError('write', partial, cause);
      }
    },
    endPart: async () => {
      parts++;
      try {
        journal?.write({ parts, bytes: position, crc });
      } catch (cause) {
        throw fileError('write', journalPath, cause);
      }
    },
    seal: async () => {
      try {
        await flusher.finish();
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
      await flusher.finish().catch(() => undefined);
      await close().catch(() => undefined);
      const kind = error instanceof SubbyteError ? error.kind : undefined;
      if (fingerprint !== undefined && (kind === 'interrupted' || kind === 'device')) return;
      await rm(partial, { force: true }).catch(() => undefined);
      await rm(journalPath, { force: true }).catch(() => undefined);
    },
  };
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; )
    done += (await handle.write(bytes, done, bytes.byteLength - done, position + done)).bytesWritten;
}

/**
 * Sends what is written to the disk behind the writer's back, one request at a time. The system reports a failed flush
 * once: `reached` and `finish` throw it.
 */
function backgroundFlush(handle: FileHandle, start: number) {
  let asked = start;
  let running: Promise<void> | undefined;
  let failure: { cause: unknown } | undefined;
  const check = () => {
    if (failure) throw failure.cause;
  };
  return {
    reached: (position: number): void => {
      check();
      if (running || position - asked < flushBytes) return;
      asked = position;
      running = handle
        .datasync()
        .catch((cause) => {
          failure = { cause };
        })
        .finally(() => {
          running = undefined;
        });
    },
    finish: async (): Promise<void> => {
      await running;
      check();
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

/** Makes a rename durable; not every platform can. */
async function syncFolder(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r');
    await handle.sync().finally(() => handle.close());
  } catch {
    // Windows cannot open folders; the rename is durable there when the file is.
  }
}
