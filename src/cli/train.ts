// subbyte train: trains a model as a config says, resumes what was stopped, leaves a model that other commands open.

import { Option } from 'commander';
import { type ConfigOverrides, loadConfig, printConfig, type TrainConfig } from '../train/config/config.ts';
import { runTraining } from '../train/loop.ts';
import { type Prepared, prepareRun } from '../train/prepare.ts';
import { tensorCoresOf } from '../train/recipes/tensor-cores.ts';
import type { StepReport, TrainResult } from '../train/report.ts';
import { type CommandDefinition, parseCount, parseRepeated } from './command.ts';
import { checkDevice, openBackend, parseDevice } from './device.ts';
import { humanBytes, humanCount, humanTime, type Progress } from './progress.ts';
import type { Session } from './session.ts';
import { readEntries } from './set-option.ts';
import { writeLossCurve } from './train-curve.ts';

interface TrainCommandOptions {
  out?: string;
  steps?: number;
  set?: string[];
  device?: string;
  resume?: number;
  fresh?: boolean;
  printConfig?: boolean;
}

const definition: CommandDefinition = {
  name: 'train',
  summary: 'train a language model as a config says; run again to continue',
  arguments: [['<config>', 'YAML, JSON or TypeScript file, or a preset such as subbyte:llama-30m']],
  options: [
    new Option('-o, --out <folder>', 'output.folder of the config'),
    new Option('--steps <n>', 'steps of the config').argParser(parseCount),
    new Option('--set <entry=value>', "another value for an entry: 'schedule.learningRate=1e-3'").argParser(
      parseRepeated,
    ),
    new Option('--device <name>', 'device of the config: auto, wasm, webgpu, webgpu:N or reference').argParser(
      checkDevice,
    ),
    new Option('--resume <step>', 'go on from the checkpoint of this step (default: the newest)').argParser(parseCount),
    new Option('--fresh', 'remove the run that is in the output folder and start over'),
    new Option('--print-config', 'print the effective config, every default filled in, and do nothing else'),
  ],
  examples: [
    'subbyte train train.yaml',
    "subbyte train train.yaml --set 'optimizer.weightDecay=0' --steps 200 --out run-a",
    'subbyte train train.yaml --resume 500',
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as TrainCommandOptions;
    const config = await loadConfig(reference, overridesOf(options, session.options.givenSeed));
    if (options.printConfig) {
      session.print(printConfig(config, 'yaml').trimEnd());
      session.result({ config });
      return;
    }
    const prepared = await prepare(session, config);
    try {
      // a run goes on with the bits of the device it began on: a GPU is taken when it is asked for
      const device = config.device === 'auto' ? 'wasm' : (options.device ?? config.device);
      const backend = await openBackend(session, device, { tensorCores: tensorCoresOf(config.recipe.use) });
      try {
        await report(session, await train(session, config, prepared, backend, options));
      } finally {
        backend.dispose();
      }
    } finally {
      await prepared.close();
    }
  },
};

async function prepare(session: Session, config: TrainConfig): Promise<Prepared> {
  let shown = 0;
  const prepared = await prepareRun(config, {
    signal: session.signal,
    onTokens: (source, tokens) => {
      if (performance.now() - shown < 2000) return;
      shown = performance.now();
      session.note(`  tokenize     ${source}  ${humanCount(tokens)} tokens`);
    },
  });
  const { train } = prepared;
  const documents = train.manifest.sources.reduce((n, s) => n + s.documents, 0);
  session.note(
    `  data         ${humanCount(train.tokens)} tokens of ${humanCount(documents)} documents, ${train.path}`,
  );
  return prepared;
}

async function train(
  session: Session,
  config: TrainConfig,
  prepared: Prepared,
  backend: Parameters<typeof runTraining>[2],
  { resume, fresh }: TrainCommandOptions,
): Promise<TrainResult> {
  let progress: Progress | undefined;
  let perStep = 0;
  const stepLine = stepLines();
  const result = await runTraining(config, prepared, backend, {
    ...{ signal: session.signal, resume, fresh },
    onStart: (start) => {
      perStep = start.tokensPerStep;
      const epochs = ((config.steps * perStep) / (start.windows * config.batch.tokens)).toFixed(2);
      session.note(
        `  model        ${humanCount(start.parameters)} parameters, ${humanBytes(start.memoryBytes)} to train`,
      );
      session.note(
        `  run          ${config.steps} steps of ${humanCount(perStep)} tokens, ${epochs} epochs; f32 products ${humanCount(start.matmulRate)}FLOP/s`,
      );
      if (start.step > 0) session.note(`  continue     at step ${start.step}`);
      progress = session.progress('train', (config.steps - start.step) * perStep, 'tokens');
    },
    onStep: (step) => progress?.advance(perStep, stepLine(step)),
    onValidation: ({ step, nll, perplexity }) =>
      session.note(`  validation   step ${step}  loss ${nll.toFixed(4)}  perplexity ${perplexity.toFixed(3)}`),
    onPhase: (step, phase) =>
      session.note(`  phase        from step ${step}: ${config.recipe.phases[phase - 1]?.use ?? config.recipe.use}`),
    onCheckpoint: (step, file) => session.note(`  checkpoint   step ${step}  ${file}`),
    onWarning: (text) => session.warn(`  note         ${text}`),
  });
  progress?.done();
  return result;
}

/** Describes steps; the last gradient-to-noise ratio stays until there is another. */
function stepLines(): (report: StepReport) => string {
  let noise = '';
  return ({ step, loss, matmulShare, noiseRatio }) => {
    if (noiseRatio !== undefined) noise = `  gradient/noise ${noiseRatio.toFixed(2)}`;
    return `step ${step}  loss ${loss.toFixed(4)}  ${(100 * matmulShare).toFixed(0)} % of f32 products${noise}`;
  };
}

async function report(session: Session, result: TrainResult): Promise<void> {
  const { loss, validation, seconds, model, log } = result;
  const parts = [
    loss === undefined ? 'finished before' : `loss ${loss.toFixed(4)}`,
    validation && `validation ${validation.nll.toFixed(4)} (perplexity ${validation.perplexity.toFixed(3)})`,
    `${humanTime(seconds)} of steps`,
  ];
  session.print(`  ${parts.filter(Boolean).join(', ')}`);
  session.print(`  model        ${model}`);
  session.print(`  log          ${log}`);
  const { files: curve, warning } = await writeLossCurve(log);
  if (warning !== undefined) session.warn(`  note         ${warning}`);
  if (curve.length > 0) session.print(`  curve        ${curve.join(', ')}`);
  session.result({ ...result, curve });
}

/** What the command line says over the config. */
function overridesOf({ out, steps, device, set = [] }: TrainCommandOptions, seed?: number): ConfigOverrides {
  return readEntries(set, {
    ...(steps !== undefined && { steps }),
    ...(device !== undefined && { device: parseDevice(device).name }),
    ...(out !== undefined && { output: { folder: out } }),
    ...(seed !== undefined && { seeds: { init: seed, data: seed, rounding: seed } }),
  }) as ConfigOverrides;
}

export default definition;
