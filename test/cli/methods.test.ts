// Calibrated methods from the command line: recipes, metadata, resuming, spilling, and what a user sees when the
// calibration goes wrong.

import { existsSync, readdirSync } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/io/open.ts';
import { copyModel, inTemporaryFolder, killWhen, root, shippedModel, subbyte } from './run-cli.ts';

const calib = path.join(root, 'models/calibration.txt.xz');
const small = ['--calib', calib, '--samples', '4', '--window', '128'];
const noEval = ['--no-eval', '--no-verify'];
const gptq = ['quantize', shippedModel, '--method', 'gptq', '-f', 'int4-g64-asym', ...small];

/** The recipe in a file's metadata. */
async function storedRecipe(file: string) {
  const checkpoint = await openCheckpoint(file);
  const recipe = JSON.parse(checkpoint.metadata.get('subbyte.recipe') as string);
  await checkpoint.close();
  return recipe;
}

describe('quantize with a method', () => {
  it('writes GGUF and safetensors that are checked, measured and say how they were made', async () => {
    await inTemporaryFolder(async (out) => {
      const args = [
        '--method',
        'gptq',
        '-f',
        'mxfp4',
        '--seed',
        '7',
        '-o',
        out,
        '--tokens',
        '2048',
        '--json',
        '--profile',
      ];
      const run = await subbyte(['quantize', shippedModel, ...args, ...small]);
      expect(run.code, run.stderr).toBe(0);
      const { outputs, recipe, calibration } = JSON.parse(run.stdout);
      expect(recipe.steps).toEqual([expect.objectContaining({ gptq: expect.objectContaining({ damping: 0.01 }) })]);
      expect(calibration).toMatchObject({ samples: 4, window: 128, digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
      expect(calibration.ids).toBeUndefined();
      expect(outputs.map((o: { container: string }) => o.container)).toEqual(['gguf', 'safetensors']);
      for (const output of outputs) {
        expect(output.verified.tensors).toBe(79);
        expect(output.perplexity / output.originalPerplexity).toBeLessThan(1.06);
        expect(output.method.layers).toHaveLength(49);
        for (const layer of output.method.layers) {
          expect(layer.tokens).toBe(512);
          expect(layer.relativeError).toBeLessThan(layer.plainError);
        }
        expect(Object.keys(output.method.profileSeconds)).toEqual(
          expect.arrayContaining(['load', 'forward', 'statistics', 'solve', 'write']),
        );
        expect(await storedRecipe(output.path)).toMatchObject({
          tool: expect.stringMatching(/^subbyte \d/),
          format: 'mxfp4',
          seed: 7,
          steps: recipe.steps,
          calibration: { text: calib, samples: 4, window: 128, digest: calibration.digest },
        });
      }
      // nothing of the work is left
      expect(readdirSync(out).sort()).toEqual(['qwen3-6m-mxfp4-gptq', 'qwen3-6m-mxfp4-gptq.gguf']);
    });
  });

  it('continues after the last finished block when killed, to the same bytes', async () => {
    await inTemporaryFolder(async (folder) => {
      const args = (out: string) => [...gptq, '-o', out, ...noEval];
      const [whole, killed] = [path.join(folder, 'whole'), path.join(folder, 'killed')];
      expect((await subbyte(args(whole))).code).toBe(0);
      await killWhen(args(killed), path.join(killed, 'qwen3-6m-int4-g64-asym-gptq.work/block-0002.safetensors'));
      expect(existsSync(path.join(killed, 'qwen3-6m-int4-g64-asym-gptq'))).toBe(false);
      const again = await subbyte(args(killed));
      expect(again.code, again.stderr).toBe(0);
      expect(again.stderr).toMatch(/[345] of 7 blocks were finished by an earlier run/);
      const file = 'qwen3-6m-int4-g64-asym-gptq/model.safetensors';
      const [a, b] = await Promise.all([whole, killed].map((out) => readFile(path.join(out, file))));
      expect(a.equals(b)).toBe(true);
      // a third run finds the work done
      const third = JSON.parse((await subbyte([...args(killed), '--json'])).stdout);
      expect(third.outputs[0].reused).toBe(true);
    });
  });

  it('spills activations beyond --memory to disk, to the same bytes, and prints the plan before it starts', async () => {
    await inTemporaryFolder(async (out) => {
      const plain = await subbyte([...gptq, '-o', path.join(out, 'memory'), ...noEval]);
      const spilled = await subbyte([...gptq, '-o', path.join(out, 'disk'), ...noEval, '--memory', '0.5MB']);
      expect(plain.stderr).toMatch(/calibrate {4}4 windows of 128 tokens .*: about 0:\d\d, memory [\d.]+ MB \(weights/);
      expect(plain.stderr).not.toMatch(/on disk/);
      expect(spilled.stderr).toMatch(/[\d.]+ MB of activations on disk, --memory holds more/);
      const file = 'qwen3-6m-int4-g64-asym-gptq/model.safetensors';
      const [a, b] = await Promise.all(['memory', 'disk'].map((name) => readFile(path.join(out, name, file))));
      expect(a.equals(b)).toBe(true);
    });
  });

  it('prints the effective recipe, which does the same', async () => {
    await inTemporaryFolder(async (folder) => {
      const asked = ['--method', 'awq+gptq', '-f', 'int3-g64-asym', '--tensor-type', 'down_proj=int8-channel'];
      const printed = await subbyte(['quantize', shippedModel, ...asked, ...small, '--seed', '3', '--print-recipe']);
      expect(printed.stdout).toMatch(/^format: int3-g64-asym$/m);
      expect(printed.stdout).toMatch(/ {2}- awq:\n {6}grid: 20/);
      const file = path.join(folder, 'recipe.yaml');
      await writeFile(file, printed.stdout);
      const again = await subbyte(['quantize', shippedModel, '--recipe', file, '--print-recipe']);
      expect(again.stdout).toBe(printed.stdout);
    });
  });

  it('measures importance, writes it for llama.cpp and reads it back to the same file', async () => {
    await inTemporaryFolder(async (folder) => {
      const file = path.join(folder, 'imatrix.gguf');
      const common = ['quantize', shippedModel, '-f', 'q3_k', '--to', 'gguf', ...noEval];
      const measured = await subbyte([...common, '-o', path.join(folder, 'a'), '--save-imatrix', file, ...small]);
      expect(measured.code, measured.stderr).toBe(0);
      const read = await subbyte([...common, '-o', path.join(folder, 'b'), '--imatrix', file]);
      expect(read.code, read.stderr).toBe(0);
      const plain = await subbyte([...common, '-o', path.join(folder, 'c')]);
      expect(plain.code).toBe(0);
      const tensors = async (name: string) => {
        const [found] = readdirSync(path.join(folder, name)).filter((f) => f.endsWith('.gguf'));
        const checkpoint = await openCheckpoint(path.join(folder, name, found));
        const bytes = await checkpoint.read('blk.2.attn_q.weight');
        await checkpoint.close();
        return Buffer.from(bytes).toString('base64');
      };
      expect(await tensors('b')).toBe(await tensors('a'));
      expect(await tensors('c')).not.toBe(await tensors('a'));
    });
  });

  it('measures formats that no container holds, without files', async () => {
    await inTemporaryFolder(async (out) => {
      const args = ['quantize', shippedModel, '-f', 'int3-g64-asymf', '--tokens', '2048', '-o', out];
      const refused = await subbyte(args);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(/--to none measures it without writing files/);
      const run = await subbyte([...args, '--method', 'hqq', '--to', 'none', '--json']);
      expect(run.code, run.stderr).toBe(0);
      const [output] = JSON.parse(run.stdout).outputs;
      expect(output).toMatchObject({ container: 'none', path: '', bitsPerWeight: 3.5 });
      expect(output.perplexity).toBeGreaterThan(output.originalPerplexity);
      expect(readdirSync(out)).toEqual([]);
    });
  });

  it('keeps what a rotated model needs at run time in its config, and refuses GGUF for it', async () => {
    await inTemporaryFolder(async (out) => {
      const args = ['quantize', shippedModel, '--method', 'rotate', '-f', 'int8-channel', '-o', out];
      const gguf = await subbyte([...args, '--to', 'gguf', '--gguf-type', 'q8_0']);
      expect(gguf.code).toBe(1);
      expect(gguf.stderr).toMatch(/rotat.*GGUF/is);
      const run = await subbyte([...args, '--to', 'safetensors', '--tokens', '2048', '--json']);
      expect(run.code, run.stderr).toBe(0);
      const [output] = JSON.parse(run.stdout).outputs;
      expect(Math.abs(output.perplexity / output.originalPerplexity - 1)).toBeLessThan(2e-3);
      const config = JSON.parse(await readFile(path.join(output.path, 'config.json'), 'utf8'));
      expect(config.subbyte.online.inputs.length).toBeGreaterThan(0);
      const evaluated = await subbyte(['eval', output.path, '--tokens', '2048', '--json']);
      expect(JSON.parse(evaluated.stdout).perplexity).toBeCloseTo(output.perplexity, 3);
    });
  });
});

describe('a calibration that cannot work is refused in one sentence', () => {
  /** The run must fail with `code` and say `says`; nothing appears under a final name. */
  async function refused(args: (folder: string) => Promise<string[]>, code: number, says: RegExp) {
    await inTemporaryFolder(async (folder) => {
      const out = path.join(folder, 'out');
      const run = await subbyte(['quantize', ...(await args(folder)), '-o', out, ...noEval]);
      expect(run.stderr).toMatch(says);
      expect(run.code).toBe(code);
      expect(run.stderr.trim().split('\n').at(-1)).toMatch(/^subbyte: /);
      expect(run.stderr).not.toMatch(/\n\s+at /);
      if (existsSync(out)) expect(readdirSync(out).filter((name) => !name.endsWith('.work'))).toEqual([]);
    });
  }
  const recipe = async (folder: string, text: string) => {
    const file = path.join(folder, 'recipe.yaml');
    await writeFile(file, text);
    return [shippedModel, '--recipe', file];
  };
  const text = async (folder: string, bytes: string | Uint8Array) => {
    const file = path.join(folder, 'calib.txt');
    await writeFile(file, bytes);
    return [shippedModel, '--method', 'gptq', '-f', 'int4-g64', '--calib', file];
  };

  it('text shorter than one window', () =>
    refused(
      (f) => text(f, 'Too short.'),
      1,
      /fewer tokens than one window, got \d+, expected at least 512.*calib\.txt/,
    ));

  it('text with foreign bytes', () =>
    refused((f) => text(f, Uint8Array.of(0x67, 0x72, 0xfc, 0xdf, 0x65)), 1, /not UTF-8, got byte 0xfc at position 2/));

  it('text that is not there', () =>
    refused(
      async () => [shippedModel, '--method', 'gptq', '-f', 'int4-g64', '--calib', 'no/such.txt'],
      1,
      /no\/such\.txt/,
    ));

  it('recipe with an unknown key', () =>
    refused((f) => recipe(f, 'format: mxfp4\nsteps:\n  - gptq: { dampning: 0.1 }\n'), 1, /dampning.*"?damping"?/));

  it('recipe with an unknown step', () =>
    refused((f) => recipe(f, 'format: mxfp4\nsteps: [gptk]\n'), 1, /gptk.*did you mean "gptq"/));

  it('recipe that names a layer which is not there', () =>
    refused(
      (f) => recipe(f, 'format: mxfp4\nlayers: [{ match: "layers.9.mlp", format: int8-channel }]\n'),
      1,
      /"layers\.9\.mlp" matches no tensor of this model/,
    ));

  it('recipe that rounds the inputs of a layer which is not there', () =>
    refused(
      (f) => recipe(f, 'format: int8-channel\nactivations: [{ match: "w2", format: int8-token }]\n'),
      1,
      /"w2" matches no linear layer of this model/,
    ));

  it('no format', () => refused(async () => [shippedModel, '--method', 'gptq'], 1, /no format was given.*--format/));

  it('a format whose codes cannot be chosen', () =>
    refused(async () => [shippedModel, '--method', 'gptq', '-f', 'if4', '--to', 'none', ...small], 1, /if4/));

  it('activations that overflow: the first layer is named', () =>
    refused(
      async (folder) => {
        const model = await copyModel(folder);
        const checkpoint = await openCheckpoint(model);
        const info = checkpoint.tensors.get('model.layers.1.input_layernorm.weight')!;
        await checkpoint.close();
        const handle = await open(info.file, 'r+');
        // the largest bfloat16, finite itself
        await handle.write(
          Buffer.alloc(info.byteLength, Uint8Array.of(0x7f, 0x7f)),
          0,
          info.byteLength,
          info.byteOffset,
        );
        await handle.close();
        return [model, '--method', 'gptq', '-f', 'int4-g64-asym', ...small];
      },
      2,
      /NaN or infinite at the input of this layer.*model\.layers\.1\.self_attn\.q_proj\.weight/,
    ));

  it('a Hessian that is not positive definite raises the damping and says so', async () => {
    await inTemporaryFolder(async (folder) => {
      const args = await recipe(folder, 'format: int4-g64\nsteps:\n  - gptq: { damping: 0 }\n');
      const run = await subbyte([
        ...['quantize', ...args, '--calib', calib, '--samples', '1', '--window', '32'],
        ...['-o', path.join(folder, 'out'), ...noEval],
      ]);
      expect(run.code, run.stderr).toBe(0);
      expect(run.stderr).toMatch(/not positive definite with a damping of 0: 0\.01 was used/);
    });
  });
});
