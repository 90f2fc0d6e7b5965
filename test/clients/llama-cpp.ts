// llama.cpp in a child process with a time limit.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LoadedImatrix } from './imatrix-child.ts';
import type { LlamaAnswer, LlamaRequest } from './llama-cpp-child.ts';
import type { QuantizeRequest } from './llama-quantize-child.ts';

/** Loads and evaluates files in one process; rejects with its messages when it fails, aborts or takes too long. */
export function runLlama(requests: LlamaRequest[], timeoutMs = 180_000): Promise<LlamaAnswer[]> {
  return runChild('llama-cpp-child.ts', requests, timeoutMs);
}

/** Runs llama.cpp's quantizer; gives what it printed, file by file. */
export function runLlamaQuantizer(requests: QuantizeRequest[], timeoutMs = 180_000): Promise<string[]> {
  return runChild('llama-quantize-child.ts', requests, timeoutMs);
}

/** Reads importance matrices with llama.cpp's loader; null for files that it refuses. */
export function loadImatrices(paths: string[], timeoutMs = 60_000): Promise<(LoadedImatrix | null)[]> {
  return runChild('imatrix-child.ts', paths, timeoutMs);
}

/** JSON on stdin, JSON as the last line of stdout. */
function runChild<T>(program: string, request: unknown, timeoutMs: number): Promise<T> {
  const path = fileURLToPath(new URL(program, import.meta.url));
  return new Promise((resolve, reject) => {
    const running = spawn(process.execPath, ['--no-warnings', path], { timeout: timeoutMs, killSignal: 'SIGKILL' });
    let out = '';
    let err = '';
    running.stdout.on('data', (d) => {
      out += d;
    });
    running.stderr.on('data', (d) => {
      err += d;
    });
    running.on('error', reject);
    running.on('close', (code, signal) => {
      const fail = () =>
        reject(new Error(`${program} ended with ${signal ?? `code ${code}`}: ${(err + out).slice(-2000)}`));
      if (code !== 0) return fail();
      try {
        resolve(JSON.parse(out.trim().split('\n').at(-1) ?? '') as T);
      } catch {
        fail();
      }
    });
    running.stdin.on('error', () => {});
    running.stdin.end(JSON.stringify(request));
  });
}

/** exp of the mean of all NLLs. */
export function perplexity(nll: readonly (readonly number[])[]): number {
  const all = nll.flat();
  return Math.exp(all.reduce((sum, x) => sum + x, 0) / all.length);
}
