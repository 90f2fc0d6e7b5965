// The trainer of a run: at its first step, or as a checkpoint left it.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Backend, Buffer } from '../backends/backend.ts';
import { modelError, type SubbyteError, userError } from '../errors.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import type { OptimizerOptions } from '../nn/optimizers.ts';
import { printShape, sameShape } from '../tensor/shape.ts';
import { checkpointPath, type LoadedCheckpoint, listCheckpoints, loadCheckpoint } from './checkpoint.ts';
import { configDigest, type TrainConfig } from './config/config.ts';
import type { Prepared } from './prepare.ts';
import { noPhases, openPhases, type PhaseRecord, type Phases } from './recipes/phases.ts';
import { loadTrainable } from './step.ts';
import { Trainer, type TrainerOptions } from './trainer.ts';

export interface Start {
  /** Updates done. */
  readonly step: number;
  readonly losses: readonly number[];
  readonly phases: PhaseRecord;
  readonly seconds: number;
}

export interface ResumeOptions {
  readonly signal?: AbortSignal;
  /** Step of the checkpoint to go on from; the newest when absent. */
  readonly resume?: number;
  /** Remove the run that is in the folder and start over. */
  readonly fresh?: boolean;
}

/** Opens the trainer where the output folder's run stands. Throws what loadCheckpoint throws. */
export async function openTrainer(
  config: TrainConfig,
  prepared: Prepared,
  backend: Backend,
  { signal, resume, fresh }: ResumeOptions,
): Promise<{ trainer: Trainer; start: Start; phases: Phases }> {
  const folder = join(config.output.folder ?? 'run', 'checkpoints');
  if (fresh) await rm(folder, { recursive: true, force: true });
  const steps = await listCheckpoints(folder);
  const step = resume ?? steps.at(-1);
  if (step !== undefined && !steps.includes(step)) throw noCheckpoint(folder, step, steps);
  const checkpoint = step === undefined ? undefined : await loadCheckpoint(folder, step);
  if (checkpoint) checkSameRun(config, prepared, checkpoint);
  const phases = openPhases(prepared.weights.config, { ...config, seed: config.seeds.rounding });
  let model = await loadTrainable(prepared.weights, backend, { signal });
  try {
    if (!checkpoint) {
      const trainer = await Trainer.open(model, trainerOptions(config, model, phases, phases.at(1, noPhases)));
      return { trainer, start: { step: 0, losses: [], phases: noPhases, seconds: 0 }, phases };
    }
    const restored = await restore(model, checkpoint);
    model = restored.model;
    // steps after this one are taken again
    for (const later of steps.filter((s) => s > checkpoint.record.step))
      await rm(checkpointPath(folder, later), { recursive: true, force: true });
    const start = { ...checkpoint.record, phases: checkpoint.record.phases ?? noPhases };
    const options = trainerOptions(config, model, phases, phases.at(start.step + 1, start.phases));
    return { trainer: await Trainer.open(model, options, restored.moments), start, phases };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** The checkpoint's weights as a model, and the moments; `model` is disposed of when all are there. */
async function restore(
  model: LoadedDecoder,
  checkpoint: LoadedCheckpoint,
): Promise<{ model: LoadedDecoder; moments: ReadonlyMap<string, Buffer> }> {
  const { backend, types } = model;
  const found = new Map<string, Buffer>();
  const wrong = (tensor: string, problem: string, more: { got?: string; expected?: string } = {}) =>
    modelError({
      ...{ code: 'checkpoint-tensor', op: 'checkpoint', problem, ...more, tensor },
      file: checkpoint.path,
      fix: 'start over with --fresh',
    });
  try {
    await checkpoint.readStates(async (name, tensor) => {
      const type = types.get(name.replace(/\/[mv]$/, ''));
      if (!type) throw wrong(name, 'a tensor is not one of this model');
      if (!sameShape(type.shape, tensor.shape)) {
        const [got, expected] = [printShape(tensor.shape), printShape(type.shape)];
        throw wrong(name, 'a tensor has another shape than in this model', { got, expected });
      }
      found.set(name, await backend.upload(tensor));
    });
    for (const name of types.keys()) if (!found.has(name)) throw wrong(name, 'a weight is missing');
  } catch (error) {
    for (const buffer of found.values()) buffer.dispose();
    throw error;
  }
  model.dispose();
  const buffers = new Map([...types.keys()].map((name) => [name, found.get(name) as Buffer]));
  const dispose = () => {
    for (const buffer of buffers.values()) buffer.dispose();
    buffers.clear();
  };
  const moments = new Map([...found].filter(([name]) => !types.has(name)));
  return { model: { ...model, buffers, dispose }, moments };
}

function trainerOptions(config: TrainConfig, { types }: LoadedDecoder, phases: Phases, phase: number): TrainerOptions {
  const { batch, optimizer } = config;
  const decays = (name: string) =>
    (types.get(name)?.shape.length ?? 0) >= 2 &&
    (optimizer.decayEmbeddings || !/^(model\.embed_tokens|lm_head)\.weight$/.test(name));
  const bf16Seed = optimizer.masterWeights === 'bf16' ? config.seeds.rounding : undefined;
  const products = phases.products(phase);
  return { ...batch, optimizer: optimizerOf(config), clipNorm: optimizer.clipNorm, decays, bf16Seed, products };
}

function optimizerOf({ optimizer }: TrainConfig): OptimizerOptions {
  const { kind, beta1, beta2, epsilon, weightDecay, momentum, nesterov } = optimizer;
  if (kind === 'adamw') return { kind, beta1, beta2, epsilon, weightDecay };
  return { kind, momentum, nesterov, weightDecay };
}

function checkSameRun(config: TrainConfig, prepared: Prepared, { record, path }: LoadedCheckpoint): void {
  const other = (what: string) =>
    userError({
      code: 'run-other',
      op: 'train',
      problem: `the output folder holds a run of ${what}`,
      file: path,
      fix: 'choose another output.folder, or start over with --fresh',
    });
  if (record.config !== configDigest(config)) throw other('another config');
  if (record.tokens !== prepared.train.manifest.digest) throw other('another training text');
}

const noCheckpoint = (file: string, step: number, steps: readonly number[]): SubbyteError =>
  userError({
    code: 'checkpoint-none',
    op: 'train',
    problem: `there is no checkpoint of step ${step}`,
    expected: steps.length > 0 ? `one of ${steps.join(', ')}` : 'a folder with checkpoints',
    file,
    fix: 'leave out --resume',
  });
