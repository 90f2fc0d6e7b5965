// llama.cpp's own quantizers as an oracle: libggml-base.so from the npm package @node-llama-cpp/linux-x64, called
// through koffi in a child process, because a violated assertion in the library ends the process that loaded it.
//
// Run directly (`node ggml-oracle.ts`) this file is the child: it answers jobs over the IPC channel.

import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { GgmlTypeName } from '../../src/formats/format.ts';
import { ggmlRowBytes, ggmlType } from '../../src/formats/ggml/types.ts';

type Job =
  | { kind: 'quantize'; type: GgmlTypeName; values: Float32Array; rows: number; importance?: Float32Array }
  | { kind: 'dequantize'; type: GgmlTypeName; bytes: Uint8Array; values: number };

/** Path of the shared library, or undefined where the package does not exist (it is Linux x86-64 only). */
export function oracleLibrary(): string | undefined {
  try {
    const entry = createRequire(import.meta.url).resolve('@node-llama-cpp/linux-x64/package.json');
    return join(dirname(entry), 'bins/linux-x64/libggml-base.so');
  } catch {
    // The package may hide its package.json behind "exports".
    const root = fileURLToPath(new URL('../../node_modules/@node-llama-cpp/linux-x64/', import.meta.url));
    return process.platform === 'linux' && process.arch === 'x64'
      ? join(root, 'bins/linux-x64/libggml-base.so')
      : undefined;
  }
}

/** ggml's name of a type inside function names: q4_K, iq4_nl, mxfp4. */
const symbol = (type: GgmlTypeName) => type.replace('ggml-', '').replace('_k', '_K');

export interface Oracle {
  quantize(type: GgmlTypeName, values: Float32Array, rows: number, importance?: Float32Array): Promise<Uint8Array>;
  dequantize(type: GgmlTypeName, bytes: Uint8Array, values: number): Promise<Float32Array>;
  close(): void;
}

/** Starts the child process. Jobs of a child that died are rejected with its exit code. */
export function startOracle(): Oracle {
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), { serialization: 'advanced' });
  const waiting = new Map<number, { resolve: (v: never) => void; reject: (e: Error) => void }>();
  let next = 0;
  child.on('message', (message: { id: number; result: never }) => {
    waiting.get(message.id)?.resolve(message.result);
    waiting.delete(message.id);
  });
  child.on('exit', (code, signal) => {
    for (const job of waiting.values()) job.reject(new Error(`the ggml oracle ended with ${signal ?? code}`));
    waiting.clear();
  });
  const ask = <T>(job: Job): Promise<T> =>
    new Promise((resolve, reject) => {
      const id = next++;
      waiting.set(id, { resolve, reject });
      child.send({ id, job });
    });
  return {
    quantize: (type, values, rows, importance) => ask({ kind: 'quantize', type, values, rows, importance }),
    dequantize: (type, bytes, values) => ask({ kind: 'dequantize', type, bytes, values }),
    close: () => child.disconnect(),
  };
}

async function serve(): Promise<void> {
  const { default: koffi } = await import('koffi');
  const library = koffi.load(oracleLibrary() ?? '');
  const quantizeChunk = library.func(
    'size_t ggml_quantize_chunk(int, const float *, void *, int64_t, int64_t, int64_t, const float *)',
  );
  process.on('message', ({ id, job }: { id: number; job: Job }) => {
    if (job.kind === 'quantize') {
      const { id: typeId } = ggmlType(job.type);
      const cols = job.values.length / job.rows;
      const out = new Uint8Array(job.rows * ggmlRowBytes(job.type, cols));
      quantizeChunk(typeId, job.values, out, 0, job.rows, cols, job.importance ?? null);
      process.send?.({ id, result: out });
    } else {
      const decode = library.func(`void dequantize_row_${symbol(job.type)}(const void *, _Out_ float *, int64_t)`);
      const out = new Float32Array(job.values);
      decode(job.bytes, out, job.values);
      process.send?.({ id, result: out });
    }
  });
  process.on('disconnect', () => process.exit(0));
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.send) await serve();
