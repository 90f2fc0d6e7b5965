// GGUF files as sources, outputs that must not be written over, warnings and stops: what a demanding user tries next.

import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/io/open.ts';
import { copyModel, inTemporaryFolder, root, shippedModel, subbyte } from './run-cli.ts';

describe('a GGUF file as the source', () => {
  it('keeps its tokenizer in GGUF and gives a folder one', async () => {
    await inTemporaryFolder(async (out) => {
      const source = path.join(out, 'source.gguf');
      expect((await subbyte(['convert', shippedModel, source])).code).toBe(0);
      const run = await subbyte(['quantize', source, '-f', 'mxfp4', '-o', out, '--no-eval', '--json']);
      expect(run.code).toBe(0);
      const [gguf, folder] = JSON.parse(run.stdout).outputs.map((o: { path: string }) => o.path);
      const [a, b] = [await openCheckpoint(source), await openCheckpoint(gguf)];
      const keys = [...a.metadata.keys()].filter((k) => k.startsWith('tokenizer.'));
      expect(keys.length).toBeGreaterThan(4);
      for (const key of keys) expect(b.metadata.get(key)).toEqual(a.metadata.get(key));
      await a.close();
      await b.close();
      const files = ['tokenizer.json', 'tokenizer_config.json'];
      const [tokenizer, config] = await Promise.all(
        files.map(async (f) => JSON.parse(await readFile(path.join(folder, f), 'utf8'))),
      );
      const original = JSON.parse(await readFile(path.join(shippedModel, 'tokenizer.json'), 'utf8'));
      expect(tokenizer.model.vocab).toMatchObject(original.model.vocab);
      expect(config.eos_token).toBe(
        JSON.parse(await readFile(path.join(shippedModel, 'tokenizer_config.json'), 'utf8')).eos_token,
      );
      // a second rounding is said before the work
      const again = await subbyte(['quantize', gguf, '-f', 'q8_0', '-o', out, '--no-eval', '--no-verify', '-q']);
      expect(again.stderr).toMatch(/49 tensors are stored as mxfp4 and are rounded a second time to q8_0/);
      expect(again.code).toBe(0);
      // and a file is not written over itself
      const self = await subbyte(['convert', gguf, gguf]);
      expect(self.stderr).toMatch(/written over the model that it is made from/);
      expect(self.code).toBe(1);
    });
  });
});

describe('outputs', () => {
  let source: Buffer;
  beforeAll(async () => {
    source = await readFile(path.join(shippedModel, 'model-00001-of-00002.safetensors'));
  });

  it('are never mixed with the weights of another model', async () => {
    await inTemporaryFolder(async (folder) => {
      const model = await copyModel(folder);
      const other = await subbyte(['convert', shippedModel, model]);
      expect(other.stderr).toMatch(/holds the weights of another model, model-00001-of-00002\.safetensors/);
      expect(other.code).toBe(1);
      expect((await readFile(path.join(model, 'model-00001-of-00002.safetensors'))).equals(source)).toBe(true);
    });
  });

  it('are made anew when the source was trained further', async () => {
    await inTemporaryFolder(async (folder) => {
      const model = await copyModel(folder);
      const args = ['quantize', model, '-f', 'q8_0', '-o', path.join(folder, 'out'), '--no-eval', '--json'];
      const reused = async () => JSON.parse((await subbyte(args)).stdout).outputs[0].reused;
      expect(await reused()).toBe(false);
      expect(await reused()).toBe(true);
      const shard = path.join(model, 'model-00001-of-00002.safetensors');
      const bytes = await readFile(shard);
      bytes[bytes.length - 1] ^= 0x80; // the sign of the last value
      await writeFile(shard, bytes);
      expect(await reused()).toBe(false);
    });
  });
});

describe('scripts', () => {
  it('get one JSON document for a command line that cannot be parsed', async () => {
    for (const args of [
      ['eval', shippedModel, '--tokns', '5'],
      ['quantize', shippedModel],
      ['eval', 'x', '--window', 'y'],
    ]) {
      const run = await subbyte([...args, '--json']);
      expect(run.code).toBe(1);
      expect(run.stdout.trim().split('\n')).toHaveLength(1);
      expect(JSON.parse(run.stdout).error).toMatchObject({ kind: 'user', exitCode: 1 });
    }
  });

  it.each([
    [['eval', shippedModel, '--fail-if', 'kl>0.1'], /kl>0\.1 .* add --reference/],
    [['verify', shippedModel, '--fail-if', 'top1<90%'], /top1<90% .* add --against/],
    [['verify', shippedModel, '--on', 'wasm,gpu'], /no such device.*"gpu".*expected auto, wasm/],
    [['eval', shippedModel, '--window', '1'], /--window is too small/],
    [['eval', shippedModel, '--tokens', '100'], /--tokens is less than one window/],
    [['eval', shippedModel, '--threads', '0'], /thread/],
    [['quantize', shippedModel, '-f', 'mxfp4', '--gguf-type', 'q4_z'], /no such format.*q4_z/],
    [['quantize', shippedModel, '-f', 'mxfp4', '--name', '../x'], /--name cannot be part of a file name/],
  ])('are told before any work: %j', async (args, says) => {
    const run = await subbyte(args);
    expect(run.stderr).toMatch(says);
    expect(run.stdout).toBe('');
    expect(run.code).toBe(1);
  });

  it('may stop reading early', async () => {
    const child = spawn(process.execPath, [path.join(root, 'bin/subbyte.mjs'), 'formats', '--no-qsnr']);
    child.stdout.destroy();
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(0);
    expect(stderr).toBe('');
  });

  it('Ctrl-C ends an evaluation between windows', async () => {
    const run = await subbyte(['eval', shippedModel, '--tokens', '200000'], { interruptAt: /eval {2,}█?/ });
    expect(run.code).toBe(130);
    expect(run.stderr).toMatch(/eval: stopped by SIGINT\n$/);
  });
});
