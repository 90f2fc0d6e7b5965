// Training from the command line: what a run leaves, that a killed one ends with the same bits, and what goes wrong.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readLog } from '../../src/track/run-log.ts';
import { inTemporaryFolder, root, shippedModel, subbyte, withoutVega } from './run-cli.ts';

const config = `
model: { family: qwen3, layers: 1, hiddenSize: 32, heads: 2, headDim: 16, mlpSize: 64, tiedEmbeddings: true }
batch: { sequences: 2, tokens: 32, accumulate: 2 }
optimizer: { clipNorm: 1 }
schedule: { learningRate: 3.0e-3 }
output: { saveEvery: 5, keep: 3, evaluateEvery: 10, evaluateTokens: 1000 }
steps: 20
`;

/** A folder with a config over the texts that ship; \`train\` runs it with more arguments. */
const withConfig = (
  use: (t: { folder: string; file: string; train: typeof subbyte }) => Promise<void>,
  text = config,
) =>
  inTemporaryFolder(async (folder) => {
    const file = path.join(folder, 'train.yaml');
    await writeFile(file, text);
    const sets = [
      `model.tokenizer=${shippedModel}`,
      `data.train=${path.join(root, 'models/calibration.txt.xz')}`,
      `data.validation=${path.join(root, 'models/val.txt.xz')}`,
      `data.cache=${path.join(folder, 'tokens')}`,
    ].flatMap((set) => ['--set', set]);
    await use({ folder, file, train: (args, options) => subbyte(['train', file, ...sets, ...args], options) });
  });

const weights = (run: string) => readFileSync(path.join(run, 'model/model.safetensors'));
const state = (run: string, step: number) =>
  readFileSync(path.join(run, `checkpoints/step-${String(step).padStart(8, '0')}/state.safetensors`));

it(
  '20 steps are 10, a kill and 10 more, bit for bit, on another number of threads',
  () =>
    withConfig(async ({ folder, train }) => {
      const [whole, killed] = [path.join(folder, 'whole'), path.join(folder, 'killed')];
      const first = await train(['--out', whole, '--json', '--threads', '2']);
      expect(first.stderr).toBe('');
      expect(first.code).toBe(0);
      const result = JSON.parse(first.stdout);
      expect(result).toMatchObject({
        steps: 20,
        model: path.join(whole, 'model'),
        validation: { step: 20, tokens: 961 },
      });
      expect(result.curve).toEqual(['loss.svg', 'loss.png'].map((name) => path.join(whole, name)));
      expect(readFileSync(path.join(whole, 'loss.svg'), 'utf8')).toMatch(
        /^<svg[\s\S]*loss, nats a token[\s\S]*<\/svg>\s*$/,
      );
      expect(readFileSync(path.join(whole, 'loss.png')).subarray(1, 4).toString()).toBe('PNG');

      const stopped = await train(['--out', killed, '--threads', '1'], { killAt: /checkpoint {3}step 10 / });
      expect(stopped.signal).toBe('SIGKILL');
      expect(existsSync(path.join(killed, 'model'))).toBe(false);
      const rest = await train(['--out', killed, '--threads', '1']);
      expect(rest.code).toBe(0);
      expect(rest.stderr).toMatch(/continue {5}at step 1[05]\n/);
      expect(state(killed, 20).equals(state(whole, 20))).toBe(true);
      expect(weights(killed).equals(weights(whole))).toBe(true);

      // the log of the killed run has every step once, with the same losses
      const losses = (run: string) =>
        readLog(path.join(run, 'log.jsonl')).flatMap((e) =>
          e.kind === 'step' ? [[e.step, e.loss, e.gradientNorm]] : [],
        );
      expect(losses(killed)).toEqual(losses(whole));
      expect(losses(whole)).toHaveLength(20);
      expect(readdirSync(path.join(whole, 'checkpoints'))).toEqual(['step-00000010', 'step-00000015', 'step-00000020']);
      expect(readdirSync(path.join(killed, 'tensorboard')).length).toBe(2);

      // another command opens the model and measures what training measured, bf16 weights aside
      const text = path.join(root, 'models/val.txt.xz');
      const eval_ = ['eval', path.join(whole, 'model'), '--text', text, '--tokens', '1000', '--window', '32', '--json'];
      const measured = JSON.parse((await subbyte(eval_)).stdout);
      expect(Math.abs(measured.perplexity / result.validation.perplexity - 1)).toBeLessThan(2e-3);

      // a finished run is not trained again
      const again = await train(['--out', whole, '--json']);
      expect(JSON.parse(again.stdout)).not.toHaveProperty('loss');
      expect(weights(whole).equals(weights(killed))).toBe(true);
    }),
  120_000,
);

it(
  'keeps model and log where nothing can be drawn, with a sentence in place of the curve',
  () =>
    withConfig(async ({ folder, train }) => {
      const out = path.join(folder, 'run');
      const { code, stdout, stderr } = await train(['--out', out, '--steps', '2', '--json'], { env: withoutVega });
      expect(stderr).toMatch(/^ {2}note {9}plot: the package vega is not installed, .*; run npm install .*\n$/);
      expect(code).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ steps: 2, model: path.join(out, 'model'), curve: [] });
      expect(weights(out).length).toBeGreaterThan(1000);
      expect(readLog(path.join(out, 'log.jsonl')).filter((entry) => entry.kind === 'step')).toHaveLength(2);
    }),
  60_000,
);

it(
  'in low precision too, with stochastic rounding, random signs and a change of recipe',
  () =>
    withConfig(async ({ folder, train }) => {
      const sets = ['recipe.use=quartet', 'recipe.phases=[{ from: 0.6, use: quest }]', 'optimizer.masterWeights=bf16'];
      const args = [...sets, 'recipe.layers=[{ match: k_proj, use: mxfp8 }]'].flatMap((set) => ['--set', set]);
      const [whole, killed] = [path.join(folder, 'whole'), path.join(folder, 'killed')];
      expect((await train(['--out', whole, ...args])).code).toBe(0);
      await train(['--out', killed, ...args], { killAt: /checkpoint {3}step 10 / });
      expect((await train(['--out', killed, ...args, '--threads', '1'])).code).toBe(0);
      expect(state(killed, 20).equals(state(whole, 20))).toBe(true);
      const phases = readLog(path.join(whole, 'log.jsonl')).filter((e) => e.kind === 'phase');
      expect(phases).toEqual([{ kind: 'phase', step: 13, phase: 1 }]);
      // other random numbers, other weights
      const other = path.join(folder, 'other');
      await train(['--out', other, ...args, '--set', 'seeds.rounding=1']);
      expect(state(other, 20).equals(state(whole, 20))).toBe(false);
    }),
  120_000,
);

it(
  'Ctrl-C saves the steps done',
  () =>
    withConfig(async ({ folder, train }) => {
      const out = path.join(folder, 'run');
      const run = await train(['--out', out, '--steps', '400'], { interruptAt: /checkpoint {3}step 5 / });
      expect(run.code).toBe(130);
      expect(run.stderr).toMatch(/stopped by SIGINT; run the same command again to continue where it stopped\n$/);
      const last = Math.max(...readdirSync(path.join(out, 'checkpoints')).map((name) => Number(name.slice(5))));
      expect(last).toBe(readLog(path.join(out, 'log.jsonl')).findLast((e) => e.kind === 'step')?.step);
    }),
  60_000,
);

describe('what goes wrong', () => {
  it(
    'a damaged checkpoint is named, and an older one goes on to the same weights',
    () =>
      withConfig(async ({ folder, train }) => {
        const out = path.join(folder, 'run');
        await train(['--out', out]);
        const before = weights(out);
        const handle = await open(path.join(out, 'checkpoints/step-00000020/state.safetensors'), 'r+');
        await handle.write(Buffer.of(1, 2, 3), 0, 3, 9000);
        await handle.close();
        const run = await train(['--out', out]);
        expect(run.code).toBe(2);
        expect(run.stderr.trim().split('\n').at(-1)).toMatch(
          /^subbyte: checkpoint: the checkpoint of step 20 is damaged: state\.safetensors has another SHA-256 than when it was written \(file .*\); the one of step 15 is whole: go on from it with --resume 15$/,
        );
        expect((await train(['--out', out, '--resume', '15'])).code).toBe(0);
        expect(weights(out).equals(before)).toBe(true);
        const none = await train(['--out', out, '--resume', '7']);
        expect(none.stderr).toMatch(/there is no checkpoint of step 7, expected one of 10, 15, 20/);
      }),
    90_000,
  );

  it(
    'a run of another config is not continued by accident',
    () =>
      withConfig(async ({ folder, train }) => {
        const out = path.join(folder, 'run');
        expect((await train(['--out', out, '--steps', '5'])).code).toBe(0);
        const run = await train(['--out', out, '--steps', '6']);
        expect(run.code).toBe(1);
        expect(run.stderr).toMatch(
          /holds a run of another config .*choose another output\.folder, or start over with --fresh/,
        );
        const text = path.join(folder, 'own.txt');
        await writeFile(text, 'other words '.repeat(400));
        const other = await train(['--out', out, '--steps', '5', '--set', `data.train=${text}`]);
        expect(other.stderr).toMatch(/holds a run of another training text/);
        expect((await train(['--out', out, '--steps', '6', '--fresh'])).code).toBe(0);
      }),
    90_000,
  );

  it(
    'a text shorter than a step, an unknown entry, a missing file: one sentence, exit code 1',
    () =>
      withConfig(async ({ folder, file, train }) => {
        const text = path.join(folder, 'short.txt');
        await writeFile(text, 'few words');
        const cases: [string[], RegExp][] = [
          [['--set', `data.train=${text}`], /fewer tokens than one step takes, got \d+ tokens, 0 windows of 32/],
          [['--set', 'schedule.learningrate=1'], /no key "learningrate" in schedule.*did you mean "learningRate"\?/],
          [['--set', 'learningRate'], /--set takes an entry and a value/],
          [['--set', 'data.train=none.txt'], /no such file or folder \(file none\.txt\)/],
          [['--set', 'model.vocabSize=100'], /more tokens than the model's vocabulary, got 2048, expected at most 100/],
          [['--set', 'recipe.use=quartett'], /no choice "quartett" for recipe\.use.*did you mean "quartet"\?/],
          [['--set', 'model.kvHeads=3'], /num_key_value_heads is wrong, got 3/],
        ];
        for (const [args, says] of cases) {
          const run = await train(['--out', path.join(folder, 'run'), ...args]);
          expect(run.stderr).toMatch(says);
          expect(run.stderr.trim().split('\n').at(-1)).toMatch(/^subbyte: /);
          expect(run.stderr).not.toMatch(/\n\s+at /);
          expect([1, 2]).toContain(run.code);
        }
        const printed = await subbyte(['train', file, '--print-config']);
        expect(printed.stderr).toMatch(/data\.train is missing/);
        expect((await train(['--print-config'])).stdout).toMatch(/learningRate: 0\.003[\s\S]*steps: 20/);
      }),
    60_000,
  );
});
