// What a running command shares with the person (or script) that called it: where results go, how progress is shown,
// how an interruption ends. Results go to stdout, everything else to stderr; with --json stdout carries exactly one
// document.

import pc from 'picocolors';
import { SubbyteError } from '../errors.ts';
import { asKnownError, errorBody, jsonLine } from './failure.ts';
import { openProgress, type Progress } from './progress.ts';

export interface GlobalOptions {
  json?: boolean;
  quiet?: boolean;
  seed: number;
  /** The seed where one was given: a recipe's own holds otherwise. */
  givenSeed?: number;
  threads?: number;
  debug?: boolean;
}

export interface Session {
  readonly command: string;
  readonly options: GlobalOptions;
  /** Aborted on Ctrl-C or SIGTERM; long work checks it between tensors and windows. */
  readonly signal: AbortSignal;
  readonly color: ReturnType<typeof pc.createColors>;
  /** A line for people on stderr; silent with --quiet or --json. */
  note(line: string): void;
  /** A line that must not be missed, also with --quiet. */
  warn(line: string): void;
  /** Result lines for people on stdout; nothing with --json. */
  print(text: string): void;
  /** The command's one JSON document, printed when the command ends; an error after it (a gate) is added to it. */
  result(document: object): void;
  /** A piece of work with known length: a bar on a terminal, lines at intervals elsewhere. */
  progress(label: string, total: number, unit: string): Progress;
  /** Something to close when the command ends, however it ends. */
  atEnd(close: () => Promise<void>): void;
  /** Runs the command with interruption handling. */
  guard(run: () => Promise<void>): Promise<void>;
}

/** Commands whose work is kept when they are stopped. */
const resumable = new Set(['quantize', 'convert', 'demo', 'train']);

export function openSession(command: string, options: GlobalOptions): Session {
  const controller = new AbortController();
  const color = pc.createColors(Boolean(process.stdout.isTTY) && !process.env.NO_COLOR);
  const quiet = Boolean(options.quiet || options.json);
  let document: object | undefined;
  const closing: (() => Promise<void>)[] = [];
  const interrupt = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort(
      new SubbyteError('interrupted', {
        code: 'interrupted',
        op: command,
        problem: `stopped by ${name}`,
        fix: resumable.has(command) ? 'run the same command again to continue where it stopped' : undefined,
      }),
    );
  };
  return {
    command,
    options,
    signal: controller.signal,
    color,
    note: (line) => {
      if (!quiet) process.stderr.write(`${line}\n`);
    },
    warn: (line) => {
      process.stderr.write(`${line}\n`);
    },
    print: (text) => {
      if (!options.json) process.stdout.write(`${text}\n`);
    },
    result: (body) => {
      document = body;
    },
    progress: (label, total, unit) => openProgress(label, total, unit, quiet ? 'silent' : process.stderr),
    atEnd: (close) => {
      closing.push(close);
    },
    guard: async (run) => {
      process.on('SIGINT', interrupt);
      process.on('SIGTERM', interrupt);
      try {
        await run();
        if (options.json) process.stdout.write(jsonLine(document ?? {}));
      } catch (cause) {
        const error = asKnownError(cause, command);
        if (options.json) process.stdout.write(jsonLine({ ...document, error: errorBody(error) }));
        throw error;
      } finally {
        for (const close of closing) await close();
        process.off('SIGINT', interrupt);
        process.off('SIGTERM', interrupt);
      }
    },
  };
}
