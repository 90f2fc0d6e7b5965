// The command line: `subbyte <command>`. Each command is one file and is loaded only when it is called, so that
// `--help` and small commands start fast. Conventions: docs/cli.md.

import { Command, CommanderError, Option } from 'commander';
import { SubbyteError, userError } from '../errors.ts';
import { toolVersion } from '../version.ts';
import { type CommandDefinition, parseCount } from './command.ts';
import { defectExitCode, errorBody, jsonLine } from './failure.ts';
import { endWithParent, needsGpuProcess, runInGpuProcess } from './gpu-process.ts';
import { type GlobalOptions, openSession } from './session.ts';

const commandFiles: Record<string, () => Promise<{ default: CommandDefinition }>> = {
  quantize: () => import('./quantize.ts'),
  eval: () => import('./eval.ts'),
  verify: () => import('./verify.ts'),
  generate: () => import('./generate.ts'),
  inspect: () => import('./inspect.ts'),
  estimate: () => import('./estimate.ts'),
  convert: () => import('./convert.ts'),
  formats: () => import('./formats.ts'),
  train: () => import('./train.ts'),
  laws: () => import('./laws.ts'),
  reproduce: () => import('./reproduce.ts'),
  doctor: () => import('./doctor.ts'),
  demo: () => import('./demo.ts'),
};

const globalOptions = (): Option[] => [
  new Option('--json', 'print one JSON document on stdout and nothing else there'),
  new Option('-q, --quiet', 'no progress, only results and errors'),
  new Option('--seed <n>', 'seed of everything random (default: 0, or what a recipe says)').argParser(parseCount),
  new Option('--threads <n>', 'worker threads (default: all cores)').argParser(parseThreads),
  new Option('--debug', 'print stack traces'),
];

function parseThreads(text: string): number {
  const n = parseCount(text);
  if (n > 0) return n;
  throw userError({ code: 'threads', op: 'options', problem: 'there must be a thread', got: n, expected: '1 or more' });
}

function attach(
  parent: Command,
  definition: CommandDefinition,
  onRun: (code: Promise<void>) => void,
  path: readonly string[] = [],
): void {
  const names = [...path, definition.name];
  const command = parent.command(definition.name).summary(definition.summary).description(definition.summary);
  for (const [name, description] of definition.arguments ?? []) command.argument(name, description);
  for (const option of [...(definition.options ?? []), ...globalOptions()]) command.addOption(option);
  for (const below of definition.commands ?? []) attach(command.enablePositionalOptions(), below, onRun, names);
  command.addHelpText('after', `\nExamples:\n${definition.examples.map((e) => `  $ ${e}`).join('\n')}`);
  command.action((...all: unknown[]) => {
    all.pop();
    const options = all.pop() as Record<string, unknown>;
    const given = options as Partial<GlobalOptions>;
    const session = openSession(names.join(' '), { ...given, seed: given.seed ?? 0, givenSeed: given.seed });
    onRun(session.guard(() => definition.run(session, all.flat() as string[], options)));
  });
}

/** Runs one command line and returns the exit code; never throws. */
export async function main(argv: readonly string[]): Promise<number> {
  if (needsGpuProcess(argv)) return runInGpuProcess(argv);
  endWithParent();
  const program = new Command('subbyte')
    .description('Make a checkpoint small and still right: quantize, evaluate, verify, export.')
    .version(toolVersion)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      outputError: (text) => process.stderr.write(`${oneLine(text).replace(/^error: /, 'subbyte: ')}\n`),
    })
    .exitOverride()
    // options belong to the command that they stand behind
    .enablePositionalOptions();
  program.addHelpText('after', '\nRun `subbyte <command> --help` for options and examples.');
  let running: Promise<void> | undefined;
  // whoever reads the output may stop early (`subbyte formats | head`): the command still ends with its own exit code
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  const wanted = argv.find((a) => !a.startsWith('-'));
  const helpTarget = wanted === 'help' ? argv[argv.indexOf('help') + 1] : wanted;
  try {
    for (const [name, load] of Object.entries(commandFiles)) {
      if (helpTarget !== undefined && name !== helpTarget && helpTarget in commandFiles) continue;
      attach(program, (await load()).default, (p) => {
        running = p;
      });
    }
    if (argv.length === 0) {
      program.outputHelp();
      return 0;
    }
    program.parse(argv, { from: 'user' });
    await running;
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, argv, running !== undefined);
  }
}

const oneLine = (text: string) => text.trim().replace(/\s*\n\s*/g, ' ');

/** Prints an error for people and gives its exit code; once a command runs, its session prints the JSON document. */
function report(error: unknown, argv: readonly string[], started: boolean): number {
  const json = argv.includes('--json') && !started;
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    const message = oneLine(error.message).replace(/^error: /, '');
    if (json) process.stdout.write(jsonLine({ error: { kind: 'user', exitCode: 1, code: error.code, message } }));
    return 1;
  }
  if (json) process.stdout.write(jsonLine({ error: errorBody(error) }));
  const known = error instanceof SubbyteError ? error : undefined;
  const message = known ? known.message : `internal error: ${error instanceof Error ? error.message : String(error)}`;
  process.stderr.write(`subbyte: ${message}\n`);
  if (!known || argv.includes('--debug')) process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
  return known?.exitCode ?? defectExitCode;
}
