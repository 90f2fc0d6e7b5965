// Compiles the AssemblyScript kernels to WebAssembly.
//
// Every folder src/backends/wasm/kernels/<module>/ with an index.ts becomes build/wasm/<module>.wasm. A module is
// rebuilt only when a file it was compiled from, the compiler or an option changed (the list of those files with their
// hashes stands beside the output), so `npm ci` and the test setup can call this every time.
// The first KiB of a memory is the thread pool's control block, static data of the module follows and must end within
// the first MiB, where the host's allocator starts.
//
// Usage: node scripts/build-wasm.mjs [--force] [module ...]      (plain JavaScript, Node 20 or later)

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const kernels = path.join(root, 'src/backends/wasm/kernels');
const output = path.join(root, 'build/wasm');

const options = [
  ['--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert', '--uncheckedBehavior', 'always'],
  ['--runtime', 'stub', '--importMemory', '--noExportMemory', '--sharedMemory'],
  ['--memoryBase', '1024', '--initialMemory', '16', '--maximumMemory', '65536'],
  ['--enable', 'simd', '--enable', 'relaxed-simd', '--enable', 'threads', '--disableWarning', '112'],
].flat();

const hash = (data) => createHash('sha256').update(data).digest('hex').slice(0, 32);

/** Names of the modules: folders with an index.ts. */
export function wasmModules() {
  return readdirSync(kernels, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(path.join(kernels, entry.name, 'index.ts')))
    .map((entry) => entry.name);
}

function compilerVersion() {
  return JSON.parse(readFileSync(path.join(root, 'node_modules/assemblyscript/package.json'), 'utf8')).version;
}

/** The recipe of the last build still holds: same options, compiler and sources. */
function upToDate(name, recipe) {
  const record = path.join(output, `${name}.json`);
  if (!existsSync(record) || !existsSync(path.join(output, `${name}.wasm`))) return false;
  try {
    const built = JSON.parse(readFileSync(record, 'utf8'));
    if (built.recipe !== recipe) return false;
    return Object.entries(built.sources).every(
      ([file, digest]) => existsSync(path.join(root, file)) && hash(readFileSync(path.join(root, file))) === digest,
    );
  } catch {
    return false;
  }
}

/** Writes under a temporary name first, so that a concurrent reader never sees half a file. */
function writeWhole(file, data) {
  const temporary = `${file}.${process.pid}.tmp`;
  writeFileSync(temporary, data);
  renameSync(temporary, file);
}

async function compileModule(name, recipe) {
  const { default: asc } = await import('assemblyscript/asc');
  const sources = {};
  const readFile = (file, baseDir) => {
    const absolute = path.resolve(baseDir, file);
    if (!existsSync(absolute)) return null;
    const text = readFileSync(absolute, 'utf8');
    const relative = path.relative(root, absolute);
    if (!relative.startsWith('node_modules')) sources[relative] = hash(text);
    return text;
  };
  let binary;
  const writeFile = (file, contents) => {
    if (file.endsWith('.wasm')) binary = contents;
  };
  const entry = path.relative(root, path.join(kernels, name, 'index.ts'));
  const result = await asc.main([entry, '--baseDir', root, '--outFile', `${name}.wasm`, ...options], {
    readFile,
    writeFile,
    listFiles: () => [],
  });
  if (result.error || !binary) throw new Error(`${entry} does not compile\n${result.stderr.toString()}`);
  const warnings = result.stderr.toString();
  if (warnings) console.error(warnings);
  mkdirSync(output, { recursive: true });
  writeWhole(path.join(output, `${name}.wasm`), binary);
  writeWhole(path.join(output, `${name}.json`), JSON.stringify({ recipe, sources }, null, 1));
  return binary.length;
}

/** Builds what is not up to date; throws after trying all when one failed. A failed module keeps its last output. */
export async function buildWasm({ modules = wasmModules(), force = false, quiet = false } = {}) {
  const recipe = `${compilerVersion()} ${options.join(' ')}`;
  const failures = [];
  for (const name of modules) {
    if (!force && upToDate(name, recipe)) continue;
    const start = Date.now();
    try {
      const bytes = await compileModule(name, recipe);
      if (!quiet) console.log(`wasm: ${name} ${(bytes / 1024).toFixed(1)} KiB in ${Date.now() - start} ms`);
    } catch (error) {
      failures.push(error.message);
    }
  }
  if (failures.length) throw new Error(`wasm: ${failures.join('\n')}`);
}

/** Vitest global setup: tests run on kernels built from the sources at hand, or say that they do not. */
export default async function setup() {
  try {
    await buildWasm();
  } catch (error) {
    console.error(error.message);
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const modules = args.filter((arg) => !arg.startsWith('--'));
  try {
    await buildWasm({ modules: modules.length ? modules : undefined, force: args.includes('--force') });
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
