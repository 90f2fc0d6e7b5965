// Folders that several make at the same time.

import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFolder } from './make-folder.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'make-folder-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

it('makes siblings under parents that none has made yet, all at once, and again', async () => {
  for (let round = 0; round < 50; round++) {
    const made = Array.from({ length: 8 }, (_, i) => join(root, `${round}`, 'a', 'b', `${i}`));
    await Promise.all([...made, ...made].map(makeFolder));
    for (const path of made) expect((await stat(path)).isDirectory()).toBe(true);
  }
});

it('refuses a file in the way, and a place where the system makes none', async () => {
  await writeFile(join(root, 'file'), '');
  await expect(makeFolder(join(root, 'file'))).rejects.toMatchObject({ code: 'EEXIST' });
  await expect(makeFolder(join(root, 'file', 'below'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  if (process.platform === 'linux')
    await expect(makeFolder('/proc/no/folder')).rejects.toMatchObject({ code: 'ENOENT' });
});
