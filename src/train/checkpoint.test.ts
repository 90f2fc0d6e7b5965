import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';
import { listCheckpoints, loadCheckpoint, type StateSource, saveCheckpoint } from './checkpoint.ts';

const root = mkdtempSync(join(tmpdir(), 'subbyte-checkpoint-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(root, 'run-'));
});

const values = new Map([
  ['w', tensorF32([2, 3], Float32Array.of(1, -0, 3.5, 1e-40, -2, 7))],
  ['w/m', tensorF32([2, 3], Float32Array.of(0, 1, 2, 3, 4, 5))],
]);
const sourceOf = (scale: number): StateSource => ({
  names: [...values.keys()],
  shape: (name) => values.get(name)!.shape,
  read: async (name) => {
    const { shape, data } = values.get(name)!;
    return tensorF32(
      shape,
      Float32Array.from(data, (x) => x * scale),
    );
  },
});
const record = (step: number) => ({ step, config: 'c', tokens: 't', losses: [3, 2.5], seconds: 1.5 });
const save = (step: number, keep = 3) => saveCheckpoint(folder, record(step), sourceOf(step), keep);

async function states(step: number): Promise<Map<string, Tensor>> {
  const found = new Map<string, Tensor>();
  await (await loadCheckpoint(folder, step)).readStates(async (name, tensor) => void found.set(name, tensor));
  return found;
}

describe('checkpoints', () => {
  it('come back bit for bit', async () => {
    const { path } = await save(10);
    expect(path).toBe(join(folder, 'step-00000010'));
    const loaded = await loadCheckpoint(folder, 10);
    expect(loaded.record).toEqual(record(10));
    const found = await states(10);
    for (const name of values.keys()) {
      const expected = (await sourceOf(10).read(name)).data;
      expect(found.get(name)?.shape).toEqual([2, 3]);
      expect(Buffer.from(found.get(name)!.data.buffer as ArrayBuffer).equals(Buffer.from(expected.buffer))).toBe(true);
    }
  });

  it('remember ratios and phases', async () => {
    const phases = { ratios: [2.5, 1.9], begun: [{ phase: 1, step: 7 }] };
    await saveCheckpoint(folder, { ...record(9), phases }, sourceOf(1), 3);
    expect((await loadCheckpoint(folder, 9)).record).toEqual({ ...record(9), phases });
  });

  it('are the last n, and older ones stay until the new one is there', async () => {
    expect(await listCheckpoints(join(folder, 'none'))).toEqual([]);
    for (const step of [1, 2, 3, 4]) await save(step, 2);
    expect(await listCheckpoints(folder)).toEqual([3, 4]);
    const broken: StateSource = { ...sourceOf(1), read: () => Promise.reject(new Error('lost device')) };
    await expect(saveCheckpoint(folder, record(5), broken, 2)).rejects.toThrow(/lost device/);
    expect(readdirSync(folder)).toEqual(['step-00000003', 'step-00000004']);
    await save(4, 2); // again
    expect(await listCheckpoints(folder)).toEqual([3, 4]);
  });

  it('that were never finished do not count, and are written over', async () => {
    await save(1);
    renameSync(join(folder, 'step-00000001'), join(folder, 'step-00000002.partial'));
    expect(await listCheckpoints(folder)).toEqual([]);
    await save(2);
    expect(await states(2)).toHaveProperty('size', 2);
    expect(readdirSync(folder)).toEqual(['step-00000002']);
  });
});

describe('a damaged checkpoint is named, and an older one offered', () => {
  const state = (step: number) => join(folder, `step-0000000${step}`, 'state.safetensors');
  /** One bit of the last number. */
  const flip = (file: string) => {
    const bytes = readFileSync(file);
    bytes[bytes.length - 3] ^= 1;
    writeFileSync(file, bytes);
  };

  it.each<[string, () => void, RegExp]>([
    ['one bit', () => flip(state(3)), /has another SHA-256 than when it was written \(file .*state\.safetensors\)/],
    ['cut off', () => truncateSync(state(3), 50), /state\.safetensors has another size, got 50, expected \d+/],
    ['no weights', () => rmSync(state(3)), /there is no state\.safetensors/],
    ['no record', () => rmSync(join(folder, 'step-00000003/checkpoint.json')), /there is no checkpoint\.json/],
    [
      'record',
      () => writeFileSync(join(folder, 'step-00000003/checkpoint.json'), '{"kind":"subbyte checkpoint"}'),
      /checkpoint\.json is not what a run wrote/,
    ],
    [
      'phases that are none',
      () => {
        const file = join(folder, 'step-00000003/checkpoint.json');
        const stored = JSON.parse(readFileSync(file, 'utf8'));
        writeFileSync(file, JSON.stringify({ ...stored, phases: { ratios: ['high'], begun: [] } }));
      },
      /checkpoint\.json is not what a run wrote/,
    ],
    [
      'another step',
      () => {
        rmSync(join(folder, 'step-00000003'), { recursive: true });
        renameSync(join(folder, 'step-00000001'), join(folder, 'step-00000003'));
      },
      /it is that of another step, got 1/,
    ],
  ])('%s', async (_, damage, says) => {
    for (const step of [1, 2, 3]) await save(step);
    damage();
    await expect(loadCheckpoint(folder, 3)).rejects.toThrow(says);
    await expect(loadCheckpoint(folder, 3)).rejects.toThrow(
      /^checkpoint: the checkpoint of step 3 is damaged: .*; the one of step 2 is whole: go on from it with --resume 2$/,
    );
    flip(state(2));
    await expect(loadCheckpoint(folder, 3)).rejects.toThrow(
      (await listCheckpoints(folder)).includes(1) ? /with --resume 1$/ : /no older checkpoint is whole$/,
    );
    expect(await states(2).catch((error) => error.kind)).toBe('model');
  });
});
