// What is wrong with a run's texts and sizes is said before its first step.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { type ConfigOverrides, createConfig } from './config/config.ts';
import { runTraining } from './loop.ts';
import { prepareRun } from './prepare.ts';

const tokenizer = fileURLToPath(new URL('../../models/qwen3-6m', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'subbyte-prepare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}
const long = write('long.txt', 'the quick brown fox jumps over the lazy dog. '.repeat(100));

/** The error of a run of two steps. */
async function failure(more: ConfigOverrides): Promise<{ message: string; exitCode: number }> {
  const config = createConfig({
    steps: 2,
    model: { layers: 1, hiddenSize: 32, heads: 2, mlpSize: 64, tokenizer },
    batch: { sequences: 2, tokens: 16 },
    output: { folder: join(folder, 'run'), tensorboard: false },
    ...more,
    data: { train: long, cache: join(folder, 'tokens'), ...more.data },
  });
  try {
    const prepared = await prepareRun(config);
    try {
      await runTraining(config, prepared, createReferenceBackend());
    } finally {
      await prepared.close();
    }
  } catch (error) {
    return error as { message: string; exitCode: number };
  }
  throw new Error('the run went well');
}

describe('one sentence and exit code 1 for', () => {
  const model = { layers: 1, hiddenSize: 48, heads: 2, mlpSize: 64, tokenizer };
  it.each<[string, () => ConfigOverrides, RegExp]>([
    [
      'a text shorter than a step',
      () => ({ data: { train: write('short.txt', 'few words') } }),
      /^train: the training text has fewer tokens than one step takes, got \d+ tokens, 0 windows of 16, expected at least 33 tokens, 2 windows \(file .*short\.txt\); give more text/,
    ],
    [
      'a held-out text shorter than a window',
      () => ({ data: { validation: write('held-out.txt', 'few words') } }),
      /^train: the held-out text has fewer tokens than one window, got \d+, expected at least 16 \(file .*held-out\.txt\); give a longer text$/,
    ],
    ['an empty text', () => ({ data: { train: write('empty.txt', '') } }), /empty\.txt/],
    [
      'a recipe whose blocks do not fit the width',
      () => ({ model, recipe: { use: 'quartet' } }),
      /^train: the blocks of recipe quartet do not divide the inputs of model\.layers\.0\.self_attn\.q_proj, got 48, expected a multiple of 32; .*recipe\.layers$/,
    ],
    [
      'a recipe of a later phase whose blocks do not fit the batch',
      () => ({ batch: { sequences: 1, tokens: 24 }, recipe: { phases: [{ from: 0.5, use: 'backward-sr' }] } }),
      /the blocks of recipe backward-sr do not divide the tokens a batch of .*q_proj, got 24, expected a multiple of 32/,
    ],
    [
      'key heads narrower than a block',
      () => ({ model: { ...model, hiddenSize: 32, kvHeads: 1 }, recipe: { use: 'quartet' } }),
      /do not divide the outputs of model\.layers\.0\.self_attn\.k_proj, got 16/,
    ],
  ])('%s', async (_, more, says) => {
    const { message, exitCode } = await failure(more());
    expect(message).toMatch(says);
    expect(exitCode).toBe(1);
  });
});
