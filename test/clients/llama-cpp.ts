// llama.cpp in a child process with a time limit.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { LlamaAnswer, LlamaRequest } from './llama-cpp-child.ts';

const child = fileURLToPath(new URL('./llama-cpp-child.ts', import.meta.url));

/** What the child prints as its last line; rejects with its messages when it fails, aborts or takes too long. */
export function runLlama(request: LlamaRequest, timeoutMs = 30_000): Promise<LlamaAnswer> {
  return runChild(child, request, timeoutMs);
}

/** Runs a TypeScript program with a JSON request on stdin and a JSON answer as the last line of stdout. */
export function runChild<T>(program: string, request: unknown, timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const running = spawn(process.execPath, ['--no-warnings', program], { timeout: timeoutMs, killSignal: 'SIGKILL' });
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
      const last = out.trim().split('\n').at(-1) ?? '';
      if (code === 0) resolve(JSON.parse(last) as T);
      else reject(new Error(`the child ended with ${signal ?? `code ${code}`}: ${(err + out).slice(-2000)}`));
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
