// Headless Chromium and SwiftShader (a software Vulkan) from the npm package @sparticuz/chromium, for Linux x64.
//
// The package holds Brotli archives. They are unpacked once into node_modules/.cache, into a folder that gets its name
// when it is whole, so that test files which run side by side can share it.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));
const packageFolder = path.join(modules, '@sparticuz/chromium');

/** Why the package cannot be used here, for the name of the skipped tests; undefined when it can. */
export function missingChromiumPackage(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'SwiftShader is packaged for Linux x64 only';
  return existsSync(packageFolder) ? undefined : '@sparticuz/chromium is not installed';
}

/** The files of a tar archive (plain files only, which is all that these hold). */
function* tarFiles(tar: Buffer): Generator<[name: string, data: Buffer]> {
  for (let at = 0; tar[at] !== 0 && at < tar.length; ) {
    const field = (offset: number, length: number) =>
      tar.toString('latin1', at + offset, at + offset + length).replace(/\0.*$/s, '');
    const size = Number.parseInt(field(124, 12), 8);
    if (size > 0) yield [field(0, 100), tar.subarray(at + 512, at + 512 + size)];
    at += 512 * (1 + Math.ceil(size / 512));
  }
}

function* filesOf(archive: string): Generator<[name: string, data: Buffer]> {
  const data = brotliDecompressSync(readFileSync(path.join(packageFolder, 'bin', `${archive}.br`)));
  if (archive.endsWith('.tar')) yield* tarFiles(data);
  else yield [archive, data];
}

/** A folder with the files of the archives, side by side; `name` is for the cache. */
export function unpackChromium(name: string, archives: readonly string[]): string {
  const { version } = JSON.parse(readFileSync(path.join(packageFolder, 'package.json'), 'utf8'));
  const folder = path.join(modules, '.cache', `${name}-${version}`);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  for (const archive of archives)
    for (const [file, data] of filesOf(archive))
      writeFileSync(path.join(partial, path.basename(file)), data, { mode: 0o755 });
  try {
    renameSync(partial, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error; // else another test was faster
    rmSync(partial, { recursive: true });
  }
  return folder;
}
