// Weights and activations at 8 bits from the command line: dynamic ranges, static ones, and what a file says of them.

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/io/open.ts';
import { inTemporaryFolder, killWhen, root, shippedModel, subbyte } from './run-cli.ts';

const calib = path.join(root, 'models/calibration.txt.xz');
const small = ['--calib', calib, '--samples', '3', '--window', '128'];
const w8 = ['quantize', shippedModel, '-f', 'int8-channel', '--to', 'safetensors', ...small];
const folderName = 'qwen3-6m-int8-channel';

interface Output {
  path: string;
  perplexity: number;
  originalPerplexity: number;
  notes: string[];
  method: { notes: string[]; inputs: { layer: string; scale: number; max: number; amax: number }[] };
}

async function quantized(args: string[]): Promise<{ output: Output; recipe: Record<string, unknown> }> {
  const run = await subbyte([...args, '--json']);
  expect(run.code, run.stderr).toBe(0);
  const { outputs, recipe } = JSON.parse(run.stdout);
  return { output: outputs[0], recipe };
}

async function perplexity(model: string): Promise<number> {
  const run = await subbyte(['eval', model, '--tokens', '1024', '--window', '128', '--json']);
  expect(run.code, run.stderr).toBe(0);
  return JSON.parse(run.stdout).perplexity;
}

const configOf = async (folder: string) => JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8'));

describe('quantize with static activations', () => {
  it('comes near dynamic ranges, and says in the file how it runs', async () => {
    await inTemporaryFolder(async (out) => {
      const args = (name: string, activations: string) => [
        ...[...w8, '-o', path.join(out, name), '--tokens', '1024'],
        ...['--activations', activations],
      ];
      const dynamic = (await quantized([...args('dynamic', 'int8-token'), '--no-verify'])).output;
      const { output, recipe } = await quantized(args('static', 'int8-tensor:static:percentile'));
      expect(recipe.activations).toEqual({
        format: 'int8-tensor',
        ranges: 'static',
        clip: 'percentile',
        percentile: 99.99,
      });
      expect(output.perplexity / dynamic.perplexity).toBeGreaterThan(0.995);
      expect(output.perplexity / dynamic.perplexity).toBeLessThan(1.02);
      expect(output.method.notes).toEqual([]);
      expect(output.notes).toEqual([expect.stringMatching(/-128.*int8-tensor-half is exactly theirs/)]);
      const { inputs } = output.method;
      expect(inputs).toHaveLength(49);
      for (const { max, amax } of inputs) expect(max).toBeLessThanOrEqual(amax);
      expect(inputs.filter(({ max, amax }) => max < amax).length).toBeGreaterThan(20);

      const config = await configOf(output.path);
      // one rule for each of four inputs in seven layers
      expect(config.subbyte.activations).toHaveLength(28);
      expect(config.subbyte.activations[0]).toEqual({
        match: '^model\\.layers\\.0\\.self_attn\\.(?:q_proj|k_proj|v_proj)$',
        format: 'int8-tensor',
        scale: expect.any(Number),
      });
      expect(config.quantization_config.config_groups.group_0.input_activations).toMatchObject({
        strategy: 'tensor',
        dynamic: false,
      });
      const checkpoint = await openCheckpoint(output.path);
      const bytes = await checkpoint.read('model.layers.0.self_attn.k_proj.input_scale');
      await checkpoint.close();
      expect(new Float32Array(bytes.slice().buffer)[0]).toBe(config.subbyte.activations[0].scale);
    });
  });

  it('makes a file that runs as it was measured, also without our own description', async () => {
    await inTemporaryFolder(async (out) => {
      const { output } = await quantized([
        ...[...w8, '-o', out, '--activations', 'int8-tensor:static:percentile', '--tokens', '1024', '--no-verify'],
      ]);
      const config = await configOf(output.path);
      expect(await perplexity(output.path)).toBeCloseTo(output.perplexity, 4);
      const underConfig = async (changed: object) => {
        await writeFile(path.join(output.path, 'config.json'), JSON.stringify(changed));
        return perplexity(output.path);
      };
      // in compressed-tensors' words clipped values reach -128, which is `half` in ours
      const { subbyte: own, ...foreign } = config;
      const half = own.activations.map((rule: object) => ({ ...rule, format: 'int8-tensor-half' }));
      const asOthersRead = await underConfig(foreign);
      expect(asOthersRead).toBe(await underConfig({ ...foreign, subbyte: { activations: half } }));
      expect(asOthersRead).not.toBe(output.perplexity);
    });
  });

  it.each([
    ['rotate+gptq', 'int8-tensor:static'],
    ['imatrix', 'int8-tensor-asym:static'],
  ])('composes with %s', async (method, activations) => {
    await inTemporaryFolder(async (out) => {
      const { output } = await quantized([
        ...[...w8, '-m', method, '--activations', activations, '-o', out, '--tokens', '1024', '--no-verify'],
      ]);
      expect(output.perplexity / output.originalPerplexity).toBeGreaterThan(0.98);
      expect(output.perplexity / output.originalPerplexity).toBeLessThan(1.05);
      const { activations: rules } = (await configOf(output.path)).subbyte;
      expect(rules).toHaveLength(28);
    });
  });

  it('leaves layers to other rules, and observes the inputs of layers whose weights stay', async () => {
    await inTemporaryFolder(async (out) => {
      const recipe = path.join(out, 'recipe.yaml');
      await writeFile(
        recipe,
        [
          'format: int8-channel',
          "exclude: ['*.layers.0.*']",
          'activations:',
          '  - { match: ., format: int8-tensor, ranges: static }',
          '  - { match: down_proj, format: int8-token }',
          'steps:',
          '  - awq: { grid: 2, tokens: 256 }',
        ].join('\n'),
      );
      const { output } = await quantized([
        ...['quantize', shippedModel, '--recipe', recipe, '--to', 'safetensors', ...small],
        ...['-o', out, '--tokens', '1024', '--no-verify'],
      ]);
      const { activations } = (await configOf(output.path)).subbyte;
      expect(activations[0]).toEqual({ match: 'down_proj', format: 'int8-token' });
      expect(activations).toHaveLength(1 + 3 * 7);
      expect(activations.filter((rule: { match: string }) => rule.match.includes('layers\\.0\\.'))).toHaveLength(3);
      expect(await perplexity(output.path)).toBeCloseTo(output.perplexity, 4);
    });
  });

  it('continues a killed run to the same bytes', async () => {
    await inTemporaryFolder(async (folder) => {
      const args = (out: string) => [
        ...[...w8, '-m', 'smooth', '--activations', 'int8-tensor:static:percentile'],
        ...['-o', out, '--no-eval', '--no-verify'],
      ];
      const name = `${folderName}-smooth`;
      const [whole, killed] = [path.join(folder, 'whole'), path.join(folder, 'killed')];
      expect((await subbyte(args(whole))).code).toBe(0);
      await killWhen(args(killed), path.join(killed, `${name}.work/block-0002.safetensors`));
      expect(existsSync(path.join(killed, name))).toBe(false);
      const again = await subbyte(args(killed));
      expect(again.code, again.stderr).toBe(0);
      expect(again.stderr).toMatch(/[3-6] of 7 blocks were finished by an earlier run/);
      for (const file of ['model.safetensors', 'config.json']) {
        const [a, b] = await Promise.all([whole, killed].map((out) => readFile(path.join(out, name, file))));
        expect(a.equals(b), file).toBe(true);
      }
    });
  });

  it('prints the recipe that the short spelling means, which does the same', async () => {
    await inTemporaryFolder(async (folder) => {
      const asked = ['--activations', 'int8-tensor:static:percentile', '-f', 'int8-channel', '--print-recipe'];
      const printed = await subbyte(['quantize', shippedModel, ...asked]);
      expect(printed.stdout).toContain(
        'activations:\n  format: int8-tensor\n  ranges: static\n  clip: percentile\n  percentile: 99.99\n',
      );
      const file = path.join(folder, 'recipe.yaml');
      await writeFile(file, printed.stdout);
      const again = await subbyte(['quantize', shippedModel, '--recipe', file, '--print-recipe']);
      expect(again.stdout).toBe(printed.stdout);
    });
  });

  it('refuses in one sentence what cannot be static', async () => {
    for (const [activations, says] of [
      ['int8-token:static', /one for the whole input, and this format has other scales.*write int8-tensor/],
      ['int8-tensor:statc', /no choice "statc".*did you mean "static"/],
    ] as const) {
      const run = await subbyte([...w8, '--activations', activations]);
      expect(run.code).toBe(1);
      expect(run.stderr.trim().split('\n').at(-1)).toMatch(says);
    }
  });
});
