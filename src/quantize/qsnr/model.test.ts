// Inputs and weights of tiny models: routed experts, rows that no block fits, what is left on disk.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import { createReferenceBackend } from '../../backends/reference/reference-backend.ts';
import { compareInputs, compareWeight, linearNames } from './model.ts';
import { compareTensor } from './tensor.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-compare-'));
const backend = createReferenceBackend();
afterAll(async () => {
  backend.dispose();
  await rm(folder, { recursive: true, force: true });
});

const ids = Int32Array.from({ length: 32 }, (_, i) => (i * 29 + 5) % 96);

async function tiny(name: string) {
  const key = Object.keys(tinyConfigs).find((k) => k.startsWith(name)) as string;
  return tinyWeights(tinyModel(tinyConfigs[key], 3));
}

describe('the inputs of a model', () => {
  it.each(['llama, biases', 'mixtral', 'qwen2_moe'])('%s: every site once, and nothing left on disk', async (name) => {
    const weights = await tiny(name);
    const request = { weights, ids, window: 16, rows: 20, backend, memory: 2 ** 20, seed: 0 };
    const found = await compareInputs({ ...request, folder: path.join(folder, 'work') });
    expect(found.slice(0, 2).map((t) => t.name)).toEqual(['model.layers.0 qkv', 'model.layers.0 o']);
    expect(new Set(found.map((t) => t.name)).size).toBe(found.length);
    expect(found.length).toBeGreaterThanOrEqual(8);
    for (const { kind, rows, pairs } of found) {
      expect(kind).toBe('activation');
      expect(rows).toBeLessThanOrEqual(20);
      for (const { measured } of pairs) expect(Number.isFinite(measured.int + measured.float)).toBe(true);
    }
    expect(await readdir(folder)).toEqual([]);
  });

  it('are the rows that the layers read: the same figures with more windows of the same start', async () => {
    const weights = await tiny('llama, biases');
    const request = { weights, window: 16, rows: 16, backend, memory: 2 ** 20, seed: 0 };
    const of = (part: Int32Array, name: string) =>
      compareInputs({ ...request, ids: part, folder: path.join(folder, name) });
    const [one, two] = [await of(ids.subarray(0, 16), 'one'), await of(ids, 'two')];
    expect(two).toEqual(one);
  });
});

describe('the weights of a model', () => {
  it('are read whole or by evenly spaced rows', async () => {
    const weights = await tiny('llama, biases');
    const [name] = linearNames(weights);
    const whole = await compareWeight(weights, name, 1000, 0);
    const part = await compareWeight(weights, name, 8, 0);
    expect(whole).toMatchObject({ kind: 'weight', cols: 64 });
    expect(part?.rows).toBe(8);
    expect(whole?.rows).toBeGreaterThan(8);
  });

  it('that no block divides, or that are zero, are not compared; those that 16 divides have one pair', () => {
    const x = Float32Array.from({ length: 240 }, (_, i) => Math.sin(i));
    expect(compareTensor('a', 'weight', x.subarray(0, 120), 24, 0)).toBeUndefined();
    expect(compareTensor('a', 'weight', new Float32Array(64), 32, 0)).toBeUndefined();
    expect(compareTensor('a', 'weight', x, 48, 0)?.pairs.map((p) => p.pair.id)).toEqual(['nv4']);
  });
});
