import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { nearest } from '../formats/edit-distance.ts';
import { writeGguf } from './gguf-writer.ts';
import { openCheckpoint } from './open.ts';

const folder = mkdtempSync(join(tmpdir(), 'subbyte-open-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const qwen = fileURLToPath(new URL('../../models/qwen3-6m', import.meta.url));

const open = async (reference: string) => {
  const model = await openCheckpoint(reference);
  await model.close();
  return [model.container, model.tensors.size, model.location];
};
const gguf = (name: string) =>
  writeGguf({
    path: join(folder, name),
    metadata: [],
    tensors: [{ name: 'w', dtype: 'F32', shape: [1], byteLength: 4, data: async () => new Uint8Array(4) }],
  });

describe('openCheckpoint', () => {
  it('opens folders, shards, indexes and GGUF files', async () => {
    await gguf('one/model.gguf');
    expect(await open(qwen)).toEqual(['safetensors', 79, qwen]);
    expect((await open(join(qwen, 'model.safetensors.index.json'))).slice(0, 2)).toEqual(['safetensors', 79]);
    expect((await open(join(qwen, 'model-00002-of-00002.safetensors')))[1]).toBeLessThan(79);
    expect((await open(join(folder, 'one/model.gguf'))).slice(0, 2)).toEqual(['gguf', 1]);
    expect((await open(join(folder, 'one'))).slice(0, 2)).toEqual(['gguf', 1]);
  });

  it('knows containers by their first bytes when the name says nothing', async () => {
    copyFileSync(join(folder, 'one/model.gguf'), join(folder, 'blob1'));
    copyFileSync(join(qwen, 'model-00002-of-00002.safetensors'), join(folder, 'blob2'));
    expect((await open(join(folder, 'blob1')))[0]).toBe('gguf');
    expect((await open(join(folder, 'blob2')))[0]).toBe('safetensors');
    writeFileSync(join(folder, 'blob3'), 'some text');
    await expect(open(join(folder, 'blob3'))).rejects.toThrow(/neither safetensors nor GGUF.*blob3/);
    writeFileSync(join(folder, 'blob4'), '');
    await expect(open(join(folder, 'blob4'))).rejects.toThrow(/neither safetensors nor GGUF/);
  });

  it('refuses pickles with the reason and a way out', async () => {
    const pickled = join(folder, 'pickled');
    mkdirSync(pickled);
    writeFileSync(join(pickled, 'pytorch_model.bin'), 'PK\u0003\u0004');
    writeFileSync(join(folder, 'zip'), 'PK\u0003\u0004......');
    for (const path of [pickled, join(pickled, 'pytorch_model.bin'), join(folder, 'zip')]) {
      await expect(open(path)).rejects.toThrow(/pickled.*can run any code.*use a repository with \.safetensors/);
      await expect(open(path)).rejects.toMatchObject({ kind: 'model', exitCode: 2 });
    }
  });

  it('asks to choose between several models', async () => {
    await gguf('two/a.gguf');
    await gguf('two/b.gguf');
    await expect(open(join(folder, 'two'))).rejects.toThrow(/2 GGUF models: a\.gguf, b\.gguf.*two\/a\.gguf/);
  });

  it('says what is missing and what was probably meant', async () => {
    await expect(open(`${qwen.slice(0, -1)}n`)).rejects.toThrow(/no such file or folder.*did you mean .*qwen3-6m\?/);
    await expect(open(`${qwen.slice(0, -1)}n`)).rejects.toMatchObject({ kind: 'user', exitCode: 1 });
    await expect(open(join(folder, 'a/b/c.gguf'))).rejects.toThrow(/there is no folder .*a\/b/);
    mkdirSync(join(folder, 'empty'));
    await expect(open(join(folder, 'empty'))).rejects.toThrow(/no \.safetensors and no \.gguf file/);
    await expect(open('hf:nothing')).rejects.toThrow(/no name of a model on the hub/);
    // A folder of this name exists, so this is a typing error and not a question to the hub.
    await expect(open('models/qwen3')).rejects.toThrow(/no such file or folder/);
    await expect(open('http://127.0.0.1:9/x.bin')).rejects.toThrow(/names no \.gguf, \.safetensors or/);
  });
});

describe('nearest', () => {
  it('finds close names and no far ones', () => {
    expect(nearest('qwen3-6n', ['llama-16m', 'qwen3-6m'])).toBe('qwen3-6m');
    expect(nearest('modle.gguf', ['model.gguf', 'other.gguf'])).toBe('model.gguf');
    expect(nearest('zebra', ['llama', 'qwen'])).toBeUndefined();
    expect(nearest('a', [])).toBeUndefined();
  });
});
