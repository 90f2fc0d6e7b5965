// What a user with a broken model sees: one sentence with file and tensor, the right exit code, nothing left behind.

import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { copyModel, inTemporaryFolder, shippedModel, subbyte } from './run-cli.ts';

const shard = 'model-00001-of-00002.safetensors';

/** Damages a copy of the model and quantizes it; the run must fail with `code` and say `says`. */
async function damaged(damage: (model: string) => Promise<void>, code: number, says: RegExp): Promise<void> {
  await inTemporaryFolder(async (folder) => {
    const model = await copyModel(folder);
    await damage(model);
    const out = path.join(folder, 'out');
    const run = await subbyte(['quantize', model, '--format', 'q8_0', '--no-eval', '--out', out]);
    expect(run.stderr).toMatch(says);
    expect(run.code).toBe(code);
    expect(run.stderr.trim().split('\n').at(-1)).toMatch(/^subbyte: /);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    if (existsSync(out)) expect(readdirSync(out).filter((f) => !f.includes('.partial'))).toEqual([]);
  });
}

async function editJson(file: string, edit: (json: Record<string, unknown>) => void): Promise<void> {
  const json = JSON.parse(await readFile(file, 'utf8'));
  edit(json);
  await writeFile(file, JSON.stringify(json));
}

/** Replaces a safetensors header by one of the same length. */
async function editHeader(file: string, edit: (header: string) => string): Promise<void> {
  const handle = await open(file, 'r+');
  const length = Buffer.alloc(8);
  await handle.read(length, 0, 8, 0);
  const size = Number(length.readBigUInt64LE());
  const header = Buffer.alloc(size);
  await handle.read(header, 0, size, 8);
  const text = edit(header.toString()).padEnd(size, ' ');
  await handle.write(Buffer.from(text.slice(0, size)), 0, size, 8);
  await handle.close();
}

describe('a damaged model is refused in one sentence', () => {
  it('truncated shard', () =>
    damaged(async (m) => truncate(path.join(m, shard), 6_000_000), 2, /model-00001-of-00002\.safetensors/));

  it('header that claims 10 GB', () =>
    damaged(
      async (m) => {
        const handle = await open(path.join(m, shard), 'r+');
        const length = Buffer.alloc(8);
        length.writeBigUInt64LE(10_000_000_000n);
        await handle.write(length, 0, 8, 0);
        await handle.close();
      },
      2,
      /header.*model-00001-of-00002\.safetensors/,
    ));

  it('offset past the end', () =>
    damaged(
      (m) =>
        editHeader(path.join(m, shard), (h) =>
          h.replace(/"data_offsets":\[(\d+),(\d+)\]/, (_all, a, b) => `"data_offsets":[${a},${9 + b.slice(1)}]`),
        ),
      2,
      /tensor .*model-00001-of-00002\.safetensors/,
    ));

  it('missing shard', () => damaged((m) => rm(path.join(m, shard)), 2, /model-00001-of-00002\.safetensors/));

  it('unknown architecture', () =>
    damaged(
      (m) =>
        editJson(path.join(m, 'config.json'), (c) => {
          c.model_type = 'mamba';
          c.architectures = ['MambaForCausalLM'];
        }),
      2,
      /mamba.*llama.*qwen3/i,
    ));

  it('shape that does not match the config', () =>
    damaged(
      (m) => editJson(path.join(m, 'config.json'), (c) => Object.assign(c, { intermediate_size: 705 })),
      2,
      /\[704, 256\].*\[705, 256\].*mlp\.gate_proj\.weight/,
    ));

  it('config without a field that it needs', () =>
    damaged((m) => editJson(path.join(m, 'config.json'), (c) => delete c.hidden_size), 2, /hidden_size/));

  it('NaN in a weight', () =>
    damaged(
      async (m) => {
        const handle = await open(path.join(m, shard), 'r+');
        const { size } = await stat(path.join(m, shard));
        await handle.write(Buffer.from([0xc0, 0x7f]), 0, 2, size - 1000);
        await handle.close();
      },
      2,
      /NaN or infinity.*model\..*weight.*model-00001-of-00002\.safetensors/,
    ));

  it('no tokenizer for a GGUF file', () => damaged((m) => rm(path.join(m, 'tokenizer.json')), 2, /tokenizer\.json/));
});

describe('a wrong request is refused in one sentence', () => {
  const cases: [name: string, args: string[], code: number, says: RegExp][] = [
    ['no such model', ['eval', 'models/qwen3-6n'], 1, /models\/qwen3-6n/],
    ['no such format', ['quantize', shippedModel, '--format', 'mxfp5'], 1, /no such format.*"mxfp5".*mxfp4/],
    ['K that is no multiple of the group', ['quantize', shippedModel, '--format', 'int4-g128'], 1, /K = 320.*o_proj/],
    ['a container that cannot hold it', ['quantize', shippedModel, '-f', 'q4_k', '--to', 'safetensors'], 1, /q4_k/],
    [
      'a rule that matches nothing',
      ['quantize', shippedModel, '-f', 'mxfp4', '--tensor-type', 'dwn_proj=q8_0'],
      1,
      /dwn_proj/,
    ],
    ['an unknown option', ['eval', shippedModel, '--tokns', '5'], 1, /unknown option '--tokns'/],
    ['an unknown command', ['quantise', shippedModel], 1, /quantise/],
    ['not a number', ['eval', shippedModel, '--tokens', 'many'], 1, /not a whole number.*"many"/],
    ['a text that is not there', ['eval', shippedModel, '--text', 'nowhere.txt'], 1, /nowhere\.txt/],
    ['a bad gate', ['eval', shippedModel, '--fail-if', 'ppl'], 1, /ppl>\+5%/],
  ];
  it.each(cases)('%s', async (_name, args, code, says) => {
    await inTemporaryFolder(async (folder) => {
      const run = await subbyte(args[0] === 'quantize' ? [...args, '--out', path.join(folder, 'out')] : args);
      expect(run.stderr).toMatch(says);
      expect(run.code).toBe(code);
      expect(run.stderr).not.toMatch(/\n\s+at /);
    });
  });

  it('text shorter than a window', async () => {
    await inTemporaryFolder(async (folder) => {
      const text = path.join(folder, 'short.txt');
      await writeFile(text, 'Too short.');
      const run = await subbyte(['eval', shippedModel, '--text', text]);
      expect(run.stderr).toMatch(/fewer tokens than one window.*short\.txt/);
      expect(run.code).toBe(1);
    });
  });

  it('an output path that is a file', async () => {
    await inTemporaryFolder(async (folder) => {
      const out = path.join(folder, 'out');
      await writeFile(out, 'in the way');
      const run = await subbyte(['quantize', shippedModel, '-f', 'q8_0', '--no-eval', '--out', out]);
      expect(run.stderr).toMatch(/output folder cannot be made.*out/);
      expect(run.code).toBe(1);
    });
  });

  it('--json carries the error and nothing else', async () => {
    const run = await subbyte(['eval', './nowhere.gguf', '--json']);
    expect(run.code).toBe(1);
    const document = JSON.parse(run.stdout);
    expect(document.error).toMatchObject({ kind: 'user', exitCode: 1 });
  });
});

describe('GGUF files that lie', () => {
  async function gguf(bytes: Buffer, says: RegExp): Promise<void> {
    await inTemporaryFolder(async (folder) => {
      const file = path.join(folder, 'model.gguf');
      await writeFile(file, bytes);
      const run = await subbyte(['inspect', file]);
      expect(run.stderr).toMatch(says);
      expect(run.code).toBe(2);
    });
  }
  const header = (version: number, tensors: bigint, keys: bigint) => {
    const b = Buffer.alloc(24);
    b.write('GGUF');
    b.writeUInt32LE(version, 4);
    b.writeBigUInt64LE(tensors, 8);
    b.writeBigUInt64LE(keys, 16);
    return b;
  };
  it('version 2', () => gguf(header(2, 1n, 1n), /version.*2.*model\.gguf/));
  it('a hostile count', () => gguf(header(3, 1n << 60n, 1n), /model\.gguf/));
  it('not a GGUF file at all', () => gguf(Buffer.from('hello, world'), /model\.gguf/));
});

describe('folders', () => {
  // the test needs an ordinary user
  const root = process.getuid?.() === 0 ? ' (skipped: runs as root, who may write anywhere)' : '';
  it.skipIf(root)(`an unwritable output folder leaves nothing behind${root}`, async () => {
    await inTemporaryFolder(async (folder) => {
      const out = path.join(folder, 'out');
      await mkdir(out);
      await chmod(out, 0o500);
      const run = await subbyte(['quantize', shippedModel, '-f', 'q8_0', '--no-eval', '--out', out]);
      await chmod(out, 0o700);
      expect(run.code).toBe(1);
      expect(readdirSync(out)).toEqual([]);
    });
  });

  it('pickle files are refused with the reason', async () => {
    await inTemporaryFolder(async (folder) => {
      const model = await copyModel(folder);
      for (const f of readdirSync(model)) if (f.includes('safetensors')) await rm(path.join(model, f));
      await rename(path.join(model, 'tokenizer_config.json'), path.join(model, 'pytorch_model.bin'));
      const run = await subbyte(['inspect', model]);
      expect(run.stderr).toMatch(/pytorch_model\.bin|pickle|safetensors/);
      expect(run.code).toBe(2);
    });
  });
});
