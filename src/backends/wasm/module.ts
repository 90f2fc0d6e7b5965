// Finds and compiles a kernel module (build/wasm/<name>.wasm), in Node from disk, in browsers over HTTP.
//
// The modules are in the package's build/wasm, seen from src/ or from dist/src/; an application that bundles this file
// puts them into a folder wasm/ beside its bundle. Compiled modules are cached: every pool of a process shares one compilation.

import { deviceError } from '../../errors.ts';

const compiled = new Map<string, Promise<WebAssembly.Module>>();
const isNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

function candidates(name: string): URL[] {
  return [
    new URL(`../../../build/wasm/${name}.wasm`, import.meta.url),
    new URL(`../../../../build/wasm/${name}.wasm`, import.meta.url),
    new URL(`./wasm/${name}.wasm`, import.meta.url),
  ];
}

async function readModule(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  for (const url of candidates(name)) {
    if (isNode && url.protocol === 'file:') {
      const { readFile } = await import('node:fs/promises');
      const bytes = await readFile(url).catch(() => undefined);
      if (bytes) return new Uint8Array(bytes);
    } else {
      const response = await fetch(url).catch(() => undefined);
      if (response?.ok) return new Uint8Array(await response.arrayBuffer());
    }
  }
  return undefined;
}

/**
 * Node 20 has relaxed SIMD behind a flag of its engine, which can be set while it runs. Its integer dot product gives
 * wrong sums there when optimized (V8 11.3 reuses a register too early), so the engine module stays refused.
 */
async function compileWithFlag(name: string, bytes: Uint8Array<ArrayBuffer>, cause: unknown) {
  if (!isNode || name === 'engine' || !process.version.startsWith('v20.')) throw cause;
  const { setFlagsFromString } = await import('node:v8');
  setFlagsFromString('--experimental-wasm-relaxed-simd');
  return WebAssembly.compile(bytes);
}

async function compile(name: string): Promise<WebAssembly.Module> {
  const bytes = await readModule(name);
  if (!bytes)
    throw deviceError({
      code: 'wasm-module-missing',
      op: 'wasm',
      problem: `the compiled kernels ${name}.wasm were not found`,
      fix: isNode
        ? 'run node scripts/build-wasm.mjs'
        : "let the bundler copy them beside the code (Vite's development server: optimizeDeps: { exclude: ['subbyte'] })",
    });
  try {
    return await WebAssembly.compile(bytes).catch((cause) => compileWithFlag(name, bytes, cause));
  } catch (cause) {
    throw deviceError(
      {
        code: 'wasm-unsupported',
        op: 'wasm',
        problem: `this engine cannot compile ${name}.wasm, which needs SIMD, relaxed SIMD and threads`,
        fix: 'use Node 22 or later, Chrome 114, Firefox 145 or another engine with WebAssembly relaxed SIMD',
      },
      { cause },
    );
  }
}

/** The compiled module `name`, for example `engine`. Throws a device error when it is missing or not supported. */
export function loadModule(name: string): Promise<WebAssembly.Module> {
  let promise = compiled.get(name);
  if (!promise) {
    promise = compile(name);
    promise.catch(() => compiled.delete(name));
    compiled.set(name, promise);
  }
  return promise;
}
