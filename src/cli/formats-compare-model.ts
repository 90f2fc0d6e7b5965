// The tensors of a model for `formats compare`: weights one at a time, inputs of the layers on a text.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { userError } from '../errors.ts';
import { takingTurns } from '../evaluate/yield.ts';
import { loadChatTemplate } from '../io/chat-template.ts';
import { loadTokenizer } from '../io/tokenizer.ts';
import { packageFile } from '../package-files.ts';
import { loadCalibration } from '../quantize/calibration/windows.ts';
import { compareInputs, compareWeight, linearNames } from '../quantize/qsnr/model.ts';
import type { TensorComparison } from '../quantize/qsnr/tensor.ts';
import { openBackend } from './device.ts';
import { type OpenedModel, openModel } from './open-model.ts';
import type { Session } from './session.ts';

export interface ModelOptions {
  rows: number;
  weightsOnly?: boolean;
  filter?: string;
  calib?: string;
  windows: number;
  window: number;
  device: string;
}

export interface ModelComparison {
  weights: TensorComparison[];
  inputs: TensorComparison[];
  /** Weights that could not be compared. */
  skipped: string[];
  protocol: string;
}

const sampleText = fileURLToPath(packageFile('models/calibration.txt.xz'));
/** Activations beyond this go to disk. */
const memory = 2 ** 30;

export async function compareModel(
  session: Session,
  reference: string,
  options: ModelOptions,
): Promise<ModelComparison> {
  checkOptions(options);
  const model = await openModel(session, reference);
  const { weights, skipped } = await compareWeights(session, model, options);
  const inputs = options.weightsOnly ? undefined : await inputsOf(session, model, options);
  const { rows } = options;
  return {
    weights,
    skipped,
    inputs: inputs?.found ?? [],
    protocol: `Model ${reference}: ${weights.length} weights, ${rows} evenly spaced rows each${inputs ? `; ${inputs.found.length} inputs of its linear layers, the first ${rows} rows of ${inputs.samples} windows of ${options.window} tokens of ${inputs.source}` : ''}. Rotation signs: seed ${session.options.seed}.`,
  };
}

function checkOptions({ rows, windows, window }: ModelOptions): void {
  for (const [name, value, least] of [
    ['--rows', rows, 1],
    ['--windows', windows, 1],
    ['--window', window, 2],
  ] as const)
    if (value < least)
      throw userError({
        code: 'too-small',
        op: 'formats compare',
        problem: `${name} is too small`,
        got: value,
        expected: `at least ${least}`,
      });
}

async function compareWeights(session: Session, { weights }: OpenedModel, { rows, filter = '' }: ModelOptions) {
  const names = linearNames(weights).filter((name) => name.includes(filter));
  if (names.length === 0)
    throw userError({
      code: 'no-tensors',
      op: 'formats compare',
      problem: 'no weight of a linear layer has this in its name',
      got: JSON.stringify(filter),
      fix: '`subbyte inspect` lists the tensors',
    });
  const progress = session.progress('weights', names.length, 'tensors');
  const turn = takingTurns(session.signal);
  const found: TensorComparison[] = [];
  const skipped: string[] = [];
  for (const name of names) {
    await turn();
    const compared = await compareWeight(weights, name, rows, session.options.seed);
    if (compared) found.push(compared);
    else skipped.push(name);
    progress.advance(1, name);
  }
  progress.done();
  return { weights: found, skipped };
}

async function inputsOf(session: Session, model: OpenedModel, options: ModelOptions) {
  const { seed } = session.options;
  const text = await loadCalibration(
    {
      source: options.calib ?? sampleText,
      samples: options.windows,
      window: options.window,
      sampling: 'spread',
      seed,
    },
    await loadTokenizer(model.checkpoint),
    {
      template: await loadChatTemplate(model.checkpoint),
      vocabSize: model.weights.config.vocabSize,
      signal: session.signal,
    },
  );
  for (const note of text.notes) session.warn(`  note         ${note}`);
  const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-compare-'));
  const backend = await openBackend(session, options.device);
  // the calibration goes through every stage but the last of the last block
  const passes = 5 * model.weights.config.layers - 1;
  const progress = session.progress('inputs', text.ids.length * passes, 'tok');
  try {
    const found = await compareInputs({
      weights: model.weights,
      ids: text.ids,
      window: text.window,
      rows: options.rows,
      backend,
      folder: path.join(folder, 'work'),
      memory,
      seed,
      signal: session.signal,
      onProgress: (tokens, place) => progress.advance(tokens, place),
    });
    progress.done();
    return { found, samples: text.samples, source: options.calib ?? 'models/calibration.txt.xz' };
  } finally {
    backend.dispose();
    await rm(folder, { recursive: true, force: true });
  }
}
