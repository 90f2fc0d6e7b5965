// Runs commands that may use a GPU in a process of their own.
//
// A graphics driver can end the process that it lives in. The terminal's process stays outside: it starts the same
// command line again, hands signals on, and turns a sudden end into a message and an exit code. What the command had
// finished is on disk, so the same command continues there.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { whyNoGpu } from '../backends/webgpu/likely.ts';
import { deviceError, type SubbyteError } from '../errors.ts';
import { packageFile } from '../package-files.ts';
import { errorBody, jsonLine } from './failure.ts';

const mark = 'SUBBYTE_GPU_PROCESS';

/** Commands that compute on `auto` unless told otherwise; a config of `train` may name a GPU. */
const choosing = new Set(['quantize', 'eval', 'generate', 'demo', 'train']);

/** Whether a command line may open a GPU and is not in its own process yet. */
export function needsGpuProcess(argv: readonly string[]): boolean {
  if (process.env[mark]) return false;
  const value = (name: string) => {
    const at = argv.findLastIndex((a) => a === name || a.startsWith(`${name}=`));
    return at < 0 ? undefined : argv[at] === name ? argv[at + 1] : argv[at].slice(name.length + 1);
  };
  if (argv.includes('--help') || argv.includes('-h')) return false;
  if (value('--device')?.startsWith('webgpu') || value('--on')?.includes('webgpu')) return true;
  const command = argv.find((a) => !a.startsWith('-')) ?? '';
  if (command === 'doctor') return true;
  return choosing.has(command) && (value('--device') ?? 'auto') === 'auto' && whyNoGpu() === undefined;
}

/** Runs the command line in a child process; its exit code, or that of a device error when the child died. */
export function runInGpuProcess(argv: readonly string[]): Promise<number> {
  const entry = fileURLToPath(packageFile('bin/subbyte.mjs'));
  const child = spawn(process.execPath, [...process.execArgv, entry, ...argv], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [mark]: '1' },
  });
  // Ctrl-C reaches the child by itself: both belong to the terminal's foreground group
  const interrupt = () => {
    if (!process.stdin.isTTY) child.kill('SIGINT');
  };
  const terminate = () => child.kill('SIGTERM');
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', terminate);
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(report(argv, startError(error))));
    child.on('exit', (code, signal) => {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', terminate);
      if (code !== null && !abortCodes.has(code)) resolve(code);
      else if (signal === 'SIGINT' || signal === 'SIGTERM') resolve(130);
      else resolve(report(argv, crashError(signal ?? `exit code ${code}`)));
    });
  });
}

/** The child ends when the process that it was started by is gone. */
export function endWithParent(): void {
  if (!process.env[mark] || !process.channel) return;
  process.on('disconnect', () => process.exit(130));
  process.channel.unref();
}

/** Exit codes of shells and of Windows for a process that was ended by a fault. */
const abortCodes = new Set(
  [constants.signals.SIGSEGV, constants.signals.SIGABRT].map((n) => 128 + n).concat(3221225477),
);

function crashError(how: string): SubbyteError {
  return deviceError({
    code: 'gpu-process-died',
    op: 'webgpu',
    problem: `the process that used the GPU ended without a word (${how}); this is the graphics driver, or too little memory`,
    fix: 'run the same command again to continue where it stopped, or add --device wasm',
  });
}

const startError = (error: Error) =>
  deviceError({ code: 'gpu-process', op: 'webgpu', problem: `no process could be started (${error.message})` });

function report(argv: readonly string[], error: SubbyteError): number {
  if (argv.includes('--json')) process.stdout.write(jsonLine({ error: errorBody(error) }));
  process.stderr.write(`subbyte: ${error.message}\n`);
  return error.exitCode;
}
