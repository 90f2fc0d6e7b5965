// What a run leaves to be read: its effective config, its log (JSON lines) and its TensorBoard events.

import { rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileError } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { type LogEntry, openRunLog } from '../track/run-log.ts';
import { openEvents } from '../track/tensorboard.ts';
import { printConfig, type TrainConfig } from './config/config.ts';
import type { NoiseReport } from './noise.ts';
import type { RunStart, StepReport, Validation } from './report.ts';

export interface Recorder {
  readonly path: string;
  start(start: RunStart, device: string): void;
  step(report: StepReport, seconds: number): void;
  noise(step: number, found: NoiseReport): void;
  validation(found: Validation): void;
  note(entry: LogEntry): void;
  close(): void;
}

/** Opens the records of the output folder for the steps after `step`. */
export async function openRecorder(config: TrainConfig, folder: string, step: number): Promise<Recorder> {
  await writeConfig(config, join(folder, 'config.yaml'));
  const log = await openRunLog(join(folder, 'log.jsonl'), step);
  const events = config.output.tensorboard ? await openEvents(join(folder, 'tensorboard'), step + 1) : undefined;
  return {
    path: log.path,
    start: (start, device) => {
      const entry = { time: new Date().toISOString(), device, ...start };
      log.write(step === 0 ? { kind: 'start', ...entry, config } : { kind: 'resume', ...entry });
    },
    step: (report, seconds) => {
      if (report.step % config.output.logEvery !== 0 && report.step !== config.steps) return;
      log.write({ kind: 'step', ...report, seconds });
      events?.scalars(report.step, {
        'train/loss': report.loss,
        'train/gradient_norm': report.gradientNorm,
        'train/learning_rate': report.learningRate,
        'train/tokens_per_second': report.tokensPerSecond,
        'train/matmul_share': report.matmulShare,
      });
    },
    noise: (step, { ratio, lowest }) => {
      log.write({ kind: 'noise', step, ratio, lowest });
      events?.scalars(step, { 'train/noise_ratio': ratio, 'train/noise_ratio_lowest': lowest.ratio });
    },
    validation: (found) => {
      log.write({ kind: 'validation', ...found });
      events?.scalars(found.step, { 'validation/loss': found.nll, 'validation/perplexity': found.perplexity });
    },
    note: (entry) => log.write(entry),
    close: () => {
      log.close();
      events?.close();
    },
  };
}

async function writeConfig(config: TrainConfig, file: string): Promise<void> {
  try {
    await makeFolder(dirname(file));
    await writeFile(`${file}.partial`, printConfig(config, 'yaml'));
    await rename(`${file}.partial`, file);
  } catch (cause) {
    throw fileError('write', file, cause);
  }
}
