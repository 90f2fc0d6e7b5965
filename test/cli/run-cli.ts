// Runs the real command line in a child process and gives what a user sees.

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const shippedModel = path.join(root, 'models/qwen3-6m');

export interface CliResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  cwd?: string;
  /** Sends SIGINT when this matches what was printed on stderr so far. */
  interruptAt?: RegExp;
  /** Kills outright (SIGKILL) at that moment. */
  killAt?: RegExp;
  /** Variables besides those of this process. */
  env?: Readonly<Record<string, string>>;
}

/** Variables under which the plotting library cannot be loaded, as where only what trains is installed. */
export const withoutVega = {
  NODE_OPTIONS: `--import=${new URL('../support/without-vega.mjs', import.meta.url).href}`,
};

/** `subbyte …args` */
export function subbyte(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path.join(root, 'bin/subbyte.mjs'), ...args], {
      cwd: options.cwd ?? root,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
    });
    let stdout = '';
    let stderr = '';
    let sent = false;
    child.stdout.on('data', (data) => {
      stdout += data;
    });
    child.stderr.on('data', (data) => {
      stderr += data;
      if (sent) return;
      if (options.interruptAt?.test(stderr)) sent = child.kill('SIGINT');
      else if (options.killAt?.test(stderr)) sent = child.kill('SIGKILL');
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** A temporary folder that is removed when `use` ends. */
export async function inTemporaryFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A copy of the shipped model that a test may damage. */
export async function copyModel(folder: string): Promise<string> {
  const copy = path.join(folder, 'model');
  await cp(shippedModel, copy, { recursive: true });
  return copy;
}

/** Starts a command and kills it once a file is there. */
export async function killWhen(args: readonly string[], file: string): Promise<void> {
  const child = spawn(process.execPath, [path.join(root, 'bin/subbyte.mjs'), ...args], { stdio: 'ignore' });
  const closed = new Promise((resolve) => child.on('close', resolve));
  while (child.exitCode === null && !existsSync(file)) await sleep(2);
  if (child.exitCode !== null) throw new Error(`the command ended before ${file} was there`);
  child.kill('SIGKILL');
  await closed;
}
