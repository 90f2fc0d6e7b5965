// One file of the hub into the cache: continued where an earlier attempt stopped, checked against its hash.
//
// Bytes go to `blobs/<etag>.incomplete`, as in the Python client; the next attempt asks for the rest. A finished file is
// checked: SHA-256 for large files (the etag is the hash), git's blob SHA-1 for small ones. Node only.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { modelError } from '../errors.ts';
import { fileError } from './file-errors.ts';
import { type HttpOptions, httpRange } from './http-range.ts';
import { makeFolder } from './make-folder.ts';

export interface HubFile {
  path: string;
  size: number;
  /** Name of the blob: SHA-256 of files in large file storage, else git's object id. */
  etag: string;
  hash: 'sha256' | 'git';
}

/** Downloads `url` to `blob`, unless it is there already. `onBytes` gets the bytes that are on the disk so far. */
export async function downloadBlob(
  url: string,
  blob: string,
  file: HubFile,
  options: HttpOptions,
  onBytes: (done: number) => void,
): Promise<void> {
  if ((await sizeOf(blob)) === file.size) return;
  const incomplete = `${blob}.incomplete`;
  try {
    await makeFolder(dirname(blob));
    let have = (await sizeOf(incomplete)) ?? 0;
    if (have > file.size) {
      await rm(incomplete);
      have = 0;
    }
    const handle = await open(incomplete, 'a');
    try {
      onBytes(have);
      if (have < file.size)
        for await (const { bytes } of httpRange(url, have, file.size, options)) {
          await handle.appendFile(bytes);
          have += bytes.byteLength;
          onBytes(have);
        }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await checkHash(incomplete, file, url);
    await rename(incomplete, blob);
  } catch (cause) {
    throw fileError('download', blob, cause);
  }
}

async function checkHash(path: string, file: HubFile, url: string): Promise<void> {
  const hash = createHash(file.hash === 'sha256' ? 'sha256' : 'sha1');
  if (file.hash === 'git') hash.update(`blob ${file.size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  const got = hash.digest('hex');
  if (got === file.etag) return;
  await rm(path, { force: true });
  throw modelError({
    code: 'download-hash',
    op: 'download',
    problem: `${file.path} does not have the hash that the hub announces`,
    got,
    expected: file.etag,
    file: url,
    fix: 'run again; the damaged download was removed',
  });
}

const sizeOf = async (path: string) => (await stat(path).catch(() => undefined))?.size;
