// The quantize command end to end on the shipped model: files, table, JSON, gates, and a killed run that resumes.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/io/open.ts';
import { inTemporaryFolder, root, shippedModel, subbyte } from './run-cli.ts';

const quick = ['--tokens', '256', '--window', '128'];

describe('subbyte quantize', () => {
  it('writes GGUF and safetensors, measures them and prints one JSON document', async () => {
    await inTemporaryFolder(async (out) => {
      const args = ['quantize', shippedModel, '-f', 'mxfp4', '--to', 'gguf,safetensors', '-o', out, ...quick, '--json'];
      const run = await subbyte(args);
      expect(run.stderr).toBe('');
      expect(run.code).toBe(0);
      const { outputs } = JSON.parse(run.stdout);
      expect(outputs).toHaveLength(2);
      for (const output of outputs) {
        // MXFP4 is 4 bits and an 8-bit scale for 32 values: 4.25 bits, counted from the file
        expect(output.bitsPerWeight).toBe(4.25);
        expect(output.verified.tensors).toBe(79);
        expect(output.verified.cosine).toBeGreaterThan(0.99999);
        expect(output.kl).toBeGreaterThan(0);
        expect(output.perplexity).toBeGreaterThan(output.originalPerplexity * 0.9);
      }
      const [gguf, folder] = outputs;
      expect((await stat(gguf.path)).size).toBe(gguf.bytes);
      // the same codes in two containers are the same model
      expect(gguf.perplexity).toBeCloseTo(folder.perplexity, 4);
      const config = JSON.parse(await readFile(path.join(folder.path, 'config.json'), 'utf8'));
      expect(config.quantization_config.format).toBe('mxfp4-pack-quantized');
      expect(readdirSync(folder.path)).toContain('tokenizer.json');
      const checkpoint = await openCheckpoint(gguf.path);
      expect(JSON.parse(checkpoint.metadata.get('subbyte.recipe') as string)).toMatchObject({ format: 'mxfp4' });
      await checkpoint.close();
      expect(readdirSync(out).filter((f) => f.includes('partial'))).toEqual([]);
    });
  });

  it('takes exceptions by pattern and keeps what is excluded', async () => {
    await inTemporaryFolder(async (out) => {
      const run = await subbyte([
        ...['quantize', shippedModel, '-f', 'mxfp4', '--to', 'safetensors', '-o', out, '--no-eval'],
        ...['--tensor-type', 'down_proj=int8-channel', '--exclude', 'model.layers.0.*'],
      ]);
      expect(run.code).toBe(0);
      const checkpoint = await openCheckpoint(path.join(out, 'qwen3-6m-mxfp4'));
      const names = [...checkpoint.tensors.keys()];
      // a later rule wins: the first layer's down projection was excluded, then named
      expect(names).toContain('model.layers.0.mlp.down_proj.weight_shape');
      expect(names).toContain('model.layers.0.mlp.up_proj.weight');
      expect(names).toContain('model.layers.1.mlp.up_proj.weight_packed');
      expect(checkpoint.tensors.get('model.layers.1.mlp.up_proj.weight_scale')?.dtype).toBe('U8');
      expect(checkpoint.tensors.get('model.layers.1.mlp.down_proj.weight_packed')?.dtype).toBe('I32');
      await checkpoint.close();
    });
  });

  it('ends with exit code 4 when a gate closes, results included', async () => {
    await inTemporaryFolder(async (out) => {
      const args = ['quantize', shippedModel, '-f', 'q2_k', '-o', out, ...quick, '--fail-if', 'ppl>+1%', '--json'];
      const run = await subbyte(args);
      expect(run.code).toBe(4);
      const document = JSON.parse(run.stdout);
      expect(document.error).toMatchObject({ kind: 'gate', exitCode: 4 });
      expect(document.outputs[0].perplexity).toBeGreaterThan(document.outputs[0].originalPerplexity);
    });
  });

  it('a killed run leaves nothing under the final name and resumes to the same bytes', async () => {
    await inTemporaryFolder(async (folder) => {
      // a format without a kernel: slow enough to be killed half-way
      const args = (out: string) => [
        ...['quantize', shippedModel, '-f', 'nvfp4-46-sr', '--to', 'gguf', '-o', out, '--no-eval', '--no-verify'],
        ...['--exclude', 'model.layers.{3,4,5,6}.*'],
      ];
      const whole = path.join(folder, 'whole');
      expect((await subbyte(args(whole))).code).toBe(0);
      const out = path.join(folder, 'killed');
      await killHalfWay(args(out), path.join(out, 'qwen3-6m-nvfp4-46-sr.gguf.partial'), 500_000);
      expect(existsSync(path.join(out, 'qwen3-6m-nvfp4-46-sr.gguf'))).toBe(false);
      expect(existsSync(path.join(out, 'qwen3-6m-nvfp4-46-sr.gguf.partial'))).toBe(true);
      const again = await subbyte(args(out));
      expect(again.code).toBe(0);
      const file = 'qwen3-6m-nvfp4-46-sr.gguf';
      expect((await readFile(path.join(out, file))).equals(await readFile(path.join(whole, file)))).toBe(true);
      expect(readdirSync(out)).toEqual([file]);
      // a third run finds the work done
      const third = await subbyte([...args(out), '--json']);
      expect(JSON.parse(third.stdout).outputs[0].reused).toBe(true);
    });
  });

  it('Ctrl-C ends with 130 and a run that can be continued', async () => {
    await inTemporaryFolder(async (out) => {
      const run = await killHalfWay(
        ['quantize', shippedModel, '-f', 'nvfp4-46-sr', '--to', 'gguf', '-o', out, '--no-eval', '--no-verify'],
        path.join(out, 'qwen3-6m-nvfp4-46-sr.gguf.partial'),
        500_000,
        'SIGINT',
      );
      expect(run.code).toBe(130);
      expect(run.stderr).toMatch(/run the same command again to continue/);
      expect(existsSync(path.join(out, 'qwen3-6m-nvfp4-46-sr.gguf'))).toBe(false);
    });
  });
});

/** Starts a command and sends the signal once the file has grown to `bytes`. */
async function killHalfWay(args: string[], file: string, bytes: number, signal: NodeJS.Signals = 'SIGKILL') {
  const child = spawn(process.execPath, [path.join(root, 'bin/subbyte.mjs'), ...args]);
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const closed = new Promise<number | null>((resolve) => child.on('close', resolve));
  let running = true;
  void closed.then(() => {
    running = false;
  });
  while (running && !(((await stat(file).catch(() => undefined))?.size ?? 0) >= bytes)) await sleep(5);
  expect(running).toBe(true);
  child.kill(signal);
  return { code: await closed, stderr };
}
