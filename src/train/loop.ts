// A training run from its first step, or from a checkpoint, to the finished model.
//
// Step s takes batches (s−1)·A … s·A−1 of the run's order, so everything that follows from a step number follows from a
// checkpoint's: a resumed run gives the bits of one that was never stopped, on the same backend (the WASM backend gives
// the same bits for every number of threads). A step whose loss or gradient norm is not finite changes nothing and ends
// the run with the first value that went wrong; a loss far above those before it is reported.

import { join } from 'node:path';
import type { Backend } from '../backends/backend.ts';
import { modelError, type SubbyteError } from '../errors.ts';
import { takingTurns } from '../evaluate/yield.ts';
import { elementCount } from '../tensor/shape.ts';
import { checkpointPath, saveCheckpoint } from './checkpoint.ts';
import { configDigest, type TrainConfig } from './config/config.ts';
import { type Batch, type Batches, openBatches } from './data/batches.ts';
import { exportModel } from './export.ts';
import { measureMatmulRate } from './matmul-rate.ts';
import { NoiseProbe, type NoiseReport } from './noise.ts';
import type { Prepared } from './prepare.ts';
import type { PhaseRecord, Phases } from './recipes/phases.ts';
import { openRecorder, type Recorder } from './recorder.ts';
import type { RunStart, StepReport, TrainResult, Validation } from './report.ts';
import { openTrainer, type ResumeOptions, type Start } from './resume.ts';
import { learningRateAt } from './schedule.ts';
import { findSpike, remembered } from './spikes.ts';
import type { StepResult, Trainer } from './trainer.ts';
import { validationBatches } from './validation.ts';

export interface TrainOptions extends ResumeOptions {
  readonly onStart?: (start: RunStart) => void;
  readonly onStep?: (report: StepReport) => void;
  readonly onValidation?: (validation: Validation) => void;
  /** A phase of the recipe begins with a step. */
  readonly onPhase?: (step: number, phase: number) => void;
  readonly onCheckpoint?: (step: number, path: string) => void;
  /** Something that a person should know. */
  readonly onWarning?: (text: string) => void;
}

/**
 * Trains what `config` describes and writes checkpoints, logs and the finished model into its output folder. The caller
 * closes what it prepared.
 *
 * @throws user error for a folder that holds another run, model error for a damaged checkpoint and for a loss that is not
 *   finite, `interrupted` when the signal aborts, after a checkpoint of the steps done
 * @example await runTraining(config, await prepareRun(config), await createWasmBackend());
 */
export async function runTraining(
  config: TrainConfig,
  prepared: Prepared,
  backend: Backend,
  options: TrainOptions = {},
): Promise<TrainResult> {
  const { sequences, accumulate, tokens } = config.batch;
  const batches = openBatches(prepared.train, {
    ...{ sequences, tokens, perStep: sequences * accumulate },
    shuffle: config.data.shuffle,
    seed: config.seeds.data,
  });
  const { trainer, start, phases } = await openTrainer(config, prepared, backend, options);
  try {
    const recorder = await openRecorder(config, folderOf(config), start.step);
    try {
      const run = new Run({ config, prepared, batches, trainer, phases, recorder, options }, start);
      try {
        return await run.all();
      } finally {
        run.dispose();
      }
    } finally {
      recorder.close();
    }
  } finally {
    trainer.dispose();
  }
}

const folderOf = ({ output }: TrainConfig) => output.folder ?? 'run';
const checkpointsOf = (config: TrainConfig) => join(folderOf(config), 'checkpoints');

interface Parts {
  readonly config: TrainConfig;
  readonly prepared: Prepared;
  readonly batches: Batches;
  readonly trainer: Trainer;
  readonly phases: Phases;
  readonly recorder: Recorder;
  readonly options: TrainOptions;
}

/** A step that the trainer has begun. */
interface Started {
  readonly step: number;
  readonly learningRate: number;
  readonly began: number;
  /** Measured before the step, where it was its turn. */
  readonly noise: NoiseReport | undefined;
  readonly result: Promise<StepResult>;
}

class Run {
  readonly #parts: Parts;
  #step: number;
  #losses: readonly number[];
  #seconds: number;
  /** Step of the last checkpoint. */
  #saved: number | undefined;
  #matmulRate = 0;
  #phase: number;
  /** The next step, where it is under way already. */
  #ahead: Started | undefined;
  /** When the last step ended. */
  #ended = 0;
  /** What decided about phases so far. */
  #phases: PhaseRecord;
  #probe: NoiseProbe | undefined;

  constructor(parts: Parts, start: Start) {
    this.#parts = parts;
    this.#step = start.step;
    this.#saved = start.step > 0 ? start.step : undefined;
    this.#phases = start.phases;
    this.#phase = parts.phases.at(start.step + 1, start.phases);
    this.#losses = start.losses;
    this.#seconds = start.seconds;
  }

  async all(): Promise<TrainResult> {
    const { config, options } = this.#parts;
    const { steps, output } = config;
    const turn = takingTurns(options.signal);
    await this.#begin();
    let report: StepReport | undefined;
    let validation: Validation | undefined;
    try {
      while (this.#step < steps) {
        await turn();
        report = await this.#takeStep();
        const last = this.#step === steps;
        if (last || this.#step % output.evaluateEvery === 0) validation = await this.#validate();
        if (last || this.#step % output.saveEvery === 0) await this.#save();
      }
    } catch (error) {
      await this.#settle();
      // an interrupted run keeps what it has
      if (options.signal?.aborted && this.#saved !== this.#step && this.#step > 0) await this.#save();
      throw error;
    }
    return this.#finish(report, validation);
  }

  dispose(): void {
    this.#probe?.dispose();
    this.#probe = undefined;
  }

  async #begin(): Promise<void> {
    const { config, trainer, batches, recorder, options } = this.#parts;
    await this.#openProbe();
    // compiling can take a GPU's driver minutes
    options.signal?.throwIfAborted();
    const { sequences, accumulate, tokens } = config.batch;
    const { backend, types } = trainer.model;
    this.#matmulRate = await measureMatmulRate(backend);
    const start: RunStart = {
      step: this.#step,
      parameters: [...types.values()].reduce((n, { shape }) => n + elementCount(shape), 0),
      memoryBytes: trainer.byteLength + (this.#probe?.byteLength ?? 0),
      tokensPerStep: sequences * accumulate * tokens,
      windows: batches.windows,
      matmulRate: this.#matmulRate,
    };
    recorder.start(start, backend.description);
    options.onStart?.(start);
  }

  async #takeStep(): Promise<StepReport> {
    const { config, trainer, phases, recorder, options } = this.#parts;
    const { accumulate, sequences, tokens } = config.batch;
    const { step, learningRate, noise, began, result } = this.#ahead ?? (await this.#start(this.#step + 1));
    this.#ahead = undefined;
    if (!noise && this.#mayFollow(step)) this.#ahead = await this.#start(step + 1);
    const { losses, norm, squares } = await result;
    const loss = losses.reduce((sum, part) => sum + part / accumulate, 0);
    const at = losses.findIndex((part) => !Number.isFinite(part));
    const first = (step - 1) * accumulate;
    if (at >= 0) throw await this.#broken(step, `the loss is ${losses[at]}`, first + at);
    if (!Number.isFinite(norm)) throw await this.#broken(step, `the gradient norm is ${norm}`, first, squares);
    // steps that overlap share the time between their ends
    const seconds = (performance.now() - Math.max(began, this.#ended)) / 1000;
    this.#ended = performance.now();
    this.#step = step;
    this.#seconds += seconds;
    const tokensPerSecond = (sequences * accumulate * tokens) / seconds;
    const matmulShare = (trainer.flops * accumulate) / seconds / this.#matmulRate;
    const report = {
      ...{ step, loss, gradientNorm: norm, learningRate, tokensPerSecond, matmulShare },
      ...(noise && { noiseRatio: noise.ratio }),
    };
    if (noise) this.#phases = phases.measured(step, noise.ratio, this.#phases);
    recorder.step(report, this.#seconds);
    options.onStep?.(report);
    this.#watch(report, squares);
    return report;
  }

  /** Begins a step; its result is waited for later. */
  async #start(step: number): Promise<Started> {
    const { config, trainer, batches, phases } = this.#parts;
    const { accumulate } = config.batch;
    await this.#enterPhase(step);
    const noise = await this.#measureNoise(step);
    const began = performance.now();
    const parts: Batch[] = [];
    for (let i = 0; i < accumulate; i++) parts.push(await batches.get((step - 1) * accumulate + i));
    const behind = phases.scheduleStart(step, this.#phases);
    const learningRate = learningRateAt(step - behind, config.steps - behind, config.schedule);
    const result = trainer.step(step, parts, learningRate);
    // heard of when it is waited for
    result.catch(() => {});
    return { step, learningRate, noise, began, result };
  }

  /** Whether the step behind `step` may begin before it has ended: nothing looks at the weights in between. */
  #mayFollow(step: number): boolean {
    const { config, trainer, phases, options } = this.#parts;
    const { evaluateEvery, saveEvery } = config.output;
    const measures = this.#probe && (step + 1) % (config.recipe.noiseEvery ?? 1) === 0;
    return (
      !measures &&
      trainer.startsAhead &&
      step < config.steps &&
      step % evaluateEvery !== 0 &&
      step % saveEvery !== 0 &&
      phases.at(step + 1, this.#phases) === this.#phase &&
      !options.signal?.aborted
    );
  }

  /** Waits for a step that is under way when the run ends early; an interrupted run counts it. */
  async #settle(): Promise<void> {
    if (!this.#ahead) return;
    const { result, step } = this.#ahead;
    const last = await result.catch(() => undefined);
    if (!this.#parts.options.signal?.aborted || !last || step !== this.#step + 1) return;
    // a step that broke changed nothing
    await this.#takeStep().catch(() => {});
  }

  async #enterPhase(step: number): Promise<void> {
    const { phases, trainer, recorder, options } = this.#parts;
    const phase = phases.at(step, this.#phases);
    if (phase === this.#phase) return;
    this.#phase = phase;
    // ratios of another recipe say nothing about this one
    this.#phases = { ...this.#phases, ratios: [] };
    await trainer.useProducts(phases.products(phase));
    await this.#openProbe();
    recorder.note({ kind: 'phase', step, phase });
    options.onPhase?.(step, phase);
  }

  async #openProbe(): Promise<void> {
    const { config, trainer, phases } = this.#parts;
    this.dispose();
    if (config.recipe.noiseEvery === undefined) return;
    const { sequences, tokens, recompute } = config.batch;
    const shape = { batch: sequences, tokens, recompute };
    this.#probe = await NoiseProbe.open(trainer.model, shape, phases.products(this.#phase));
  }

  /** The ratio of gradient to rounding noise, before the step changes weights, where it is this step's turn. */
  async #measureNoise(step: number): Promise<NoiseReport | undefined> {
    const { config, batches, recorder } = this.#parts;
    const { accumulate } = config.batch;
    if (!this.#probe || step % (config.recipe.noiseEvery ?? 1) !== 0) return undefined;
    const numbers = Array.from({ length: accumulate }, (_, i) => (step - 1) * accumulate + i);
    const taken = await Promise.all(numbers.map(async (index) => [await batches.get(index), index] as const));
    const report = await this.#probe.measure(taken);
    recorder.noise(step, report);
    return report;
  }

  /** Reports a loss that is out of line with those before it. */
  #watch({ step, loss }: StepReport, squares: Float32Array): void {
    const { trainer, recorder, options } = this.#parts;
    const spike = findSpike(this.#losses, loss);
    this.#losses = remembered([...this.#losses, loss]);
    if (!spike) return;
    const at = squares.reduce((best, x, i) => (x > squares[best] ? i : best), 0);
    const tensor = [...trainer.model.types.keys()][at];
    const gradientShare = squares[at] / squares.reduce((sum, x) => sum + x, 0);
    const { median } = spike;
    recorder.note({ kind: 'spike', step, loss, median, tensor, gradientShare, checkpoint: this.#saved });
    options.onWarning?.(
      `the loss jumped to ${loss.toFixed(3)} at step ${step}, from a median of ${median.toFixed(3)}; ` +
        `${tensor} has ${Math.round(100 * gradientShare)} % of the squared gradient; ${this.#lastGood()}`,
    );
  }

  #lastGood(): string {
    if (this.#saved === undefined) return 'there is no checkpoint yet';
    return `the last good checkpoint is ${checkpointPath(checkpointsOf(this.#parts.config), this.#saved)}`;
  }

  /** The error of a step that is not finite: which value was the first, and where to go on from. */
  async #broken(step: number, problem: string, index: number, squares?: Float32Array): Promise<SubbyteError> {
    const { trainer, batches, recorder } = this.#parts;
    const overflow = squares?.findIndex((x) => !Number.isFinite(x)) ?? -1;
    const gradient = overflow < 0 ? undefined : `the gradient of ${[...trainer.model.types.keys()][overflow]}`;
    const first = (await trainer.findFirstBad(await batches.get(index), index)) ?? gradient ?? 'a sum of gradients';
    recorder.note({ kind: 'broken', step, problem, first, checkpoint: this.#saved });
    const again = this.#saved === undefined ? 'start over with --fresh' : `go on with --resume ${this.#saved}`;
    return modelError({
      code: 'training-diverged',
      op: 'train',
      problem: `${problem} at step ${step}, the first value that is not finite is ${first}, and ${this.#lastGood()}`,
      fix: `lower schedule.learningRate or optimizer.clipNorm in a config with another output.folder, or ${again}`,
    });
  }

  async #validate(): Promise<Validation | undefined> {
    const { config, prepared, trainer, recorder, options } = this.#parts;
    if (!prepared.validation) return undefined;
    const { tokens: window, sequences } = config.batch;
    const { nll, tokens } = await trainer.evaluate(validationBatches(prepared.validation, window, sequences));
    const found = { step: this.#step, nll, perplexity: Math.exp(nll), tokens };
    recorder.validation(found);
    options.onValidation?.(found);
    return found;
  }

  async #save(): Promise<void> {
    const { config, prepared, trainer, recorder, options } = this.#parts;
    const types = trainer.savedTypes();
    const record = {
      step: this.#step,
      config: configDigest(config),
      tokens: prepared.train.manifest.digest,
      losses: this.#losses,
      phases: this.#phases,
      seconds: this.#seconds,
    };
    const source = {
      names: [...types.keys()],
      shape: (name: string) => types.get(name)?.shape ?? [],
      read: (name: string) => trainer.readState(name),
    };
    const { path } = await saveCheckpoint(checkpointsOf(config), record, source, config.output.keep);
    this.#saved = this.#step;
    recorder.note({ kind: 'checkpoint', step: this.#step, path });
    options.onCheckpoint?.(this.#step, path);
  }

  async #finish(report: StepReport | undefined, validation: Validation | undefined): Promise<TrainResult> {
    const { config, prepared, trainer, recorder } = this.#parts;
    const model = join(folderOf(config), 'model');
    await exportModel(trainer.model, {
      path: model,
      hfConfig: prepared.weights.hfConfig,
      dtype: config.output.dtype,
      files: prepared.files,
      provenance: { training: configDigest(config), tokens: prepared.train.manifest.digest },
    });
    const { steps } = config;
    const seconds = this.#seconds;
    const memoryBytes = trainer.byteLength;
    const result = { steps, loss: report?.loss, validation, seconds, memoryBytes, model, log: recorder.path };
    recorder.note({ kind: 'end', step: steps, ...result });
    return result;
  }
}
