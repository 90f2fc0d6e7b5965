// The command line: `subbyte <command>`. Each command is one file and is loaded only when it is called, so that
// `--help` and small commands start fast. Conventions: docs/cli.md.

import { Command, CommanderError, Option } from 'commander';
import { SubbyteError } from '../errors.ts';
import { toolVersion } from '../version.ts';
import { type CommandDefinition, parseCount } from './command.ts';
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
  demo: () => import('./demo.ts'),
};

const globalOptions = (): Option[] => [
  new Option('--json', 'print one JSON document on stdout and nothing else there'),
  new Option('-q, --quiet', 'no progress, only results and errors'),
  new Option('--seed <n>', 'seed of everything random').default(0).argParser(parseCount),
  new Option('--threads <n>', 'worker threads (default: all cores)').argParser(parseCount),
  new Option('--debug', 'print stack traces'),
];

function attach(program: Command, definition: CommandDefinition, onRun: (code: Promise<void>) => void): void {
  const command = program.command(definition.name).summary(definition.summary).description(definition.summary);
  for (const [name, description] of definition.arguments ?? []) command.argument(name, description);
  for (const option of [...(definition.options ?? []), ...globalOptions()]) command.addOption(option);
  command.addHelpText('after', `\nExamples:\n${definition.examples.map((e) => `  $ ${e}`).join('\n')}`);
  command.action((...all: unknown[]) => {
    all.pop();
    const options = all.pop() as Record<string, unknown>;
    const session = openSession(definition.name, options as unknown as GlobalOptions);
    onRun(session.guard(() => definition.run(session, all.flat() as string[], options)));
  });
}

/** Runs one command line and returns the exit code; never throws. */
export async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('subbyte')
    .description('Make a checkpoint small and still right: quantize, evaluate, verify, export.')
    .version(toolVersion)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: (text) => process.stderr.write(text.replace(/^error: /, 'subbyte: ')) })
    .exitOverride();
  program.addHelpText('after', '\nRun `subbyte <command> --help` for options and examples.');
  let running: Promise<void> | undefined;
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
    return report(error, argv);
  }
}

/** Prints an error for people and gives its exit code; the session has printed the JSON document already. */
function report(error: unknown, argv: readonly string[]): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
  const known = error instanceof SubbyteError ? error : undefined;
  const message = known ? known.message : `internal error: ${error instanceof Error ? error.message : String(error)}`;
  process.stderr.write(`subbyte: ${message}\n`);
  if (!known || argv.includes('--debug')) process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
  return known?.exitCode ?? 70;
}
