// Rotated models as compressed-tensors checkpoints: read back by us, and run by an interpreter of transform_config that
// knows nothing of our own description.

import { afterAll, describe, expect, it } from 'vitest';
import { memoryCheckpoint } from '../../test/fixtures/models/memory-checkpoint.ts';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../test/fixtures/models/plain-forward.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { windowLogits } from '../evaluate/verify.ts';
import { bf16Value } from '../formats/bits.ts';
import type { Format } from '../formats/format.ts';
import { quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { noRotation, quarotRotations, type RotationOptions } from '../quantize/rotate/options.ts';
import { rotateModel } from '../quantize/rotate/rotate-model.ts';
import { qtensor } from '../tensor/tensor.ts';
import { planCompressedTensors } from './compressed-tensors-export.ts';
import { loadDecoder } from './loaded.ts';
import { denseF32 } from './stack.ts';
import { type ModelWeights, mapWeights, openWeights } from './weights.ts';

const backend = await createWasmBackend();
afterAll(() => backend.dispose());

const ids = Array.from({ length: 12 }, (_, i) => (i * 29 + 5) % 96);
const qwen2 = 'qwen2, q/k/v biases, window in the upper layer';
const mixtral = 'mixtral, 4 experts, 2 a token';

async function logitsOf(weights: ModelWeights) {
  const decoder = await loadDecoder(weights, backend);
  const logits = await windowLogits({ model: decoder }, Int32Array.from(ids));
  decoder.dispose();
  return [...logits];
}

/** Rotates a tiny model, quantizes one layer (or none) to int8, and plans its checkpoint. */
async function exported(family: string, options: Partial<RotationOptions>, quantized = 'model.layers.0.') {
  const original = tinyModel(tinyConfigs[family], 3);
  const rotated = await rotateModel(await tinyWeights(original), { ...noRotation, ...options });
  const int8 = parseFormat('int8-channel');
  const format = (name: string): Format =>
    rotated.role(name) === 'linear' && name.startsWith(quantized) ? int8 : rotated.format(name);
  const model = mapWeights(rotated, (name, tensor) => {
    const wanted = format(name);
    if (wanted.kind === 'float') return tensor;
    const [rows, cols] = tensor.shape;
    return qtensor(tensor.shape, quantize(denseF32(tensor), rows, cols, wanted));
  });
  return { original, model, plan: planCompressedTensors({ model, format, load: model.load }) };
}

interface Transforms {
  config_groups: Record<
    string,
    { type: string; head_dim: number | null; apply: { targets: string[]; location: string }[] }
  >;
}

const transformsOf = (config: Record<string, unknown>) =>
  (config.quantization_config as { transform_config?: Transforms }).transform_config;

/** What compressed-tensors does online: x · W / √n, block by block, W stored or Sylvester's, targets by name. */
async function interpreter(checkpoint: Checkpoint, { config_groups }: Transforms) {
  const sylvester = (i: number, j: number) => ((i & j).toString(2).match(/1/g) ?? []).length % 2;
  const rotations: { targets: string[]; head_dim: number | null; entry(i: number, j: number): number }[] = [];
  for (const [name, { type, head_dim, apply }] of Object.entries(config_groups)) {
    const [{ targets, location }] = apply;
    if (location !== 'input') continue;
    const stored = `${targets[0]}.${name}_input.weight`;
    const order = checkpoint.tensors.get(stored)?.shape[0] ?? 0;
    const codes = new Uint16Array((await checkpoint.read(stored)).buffer);
    const matrix = (i: number, j: number) => bf16Value(codes[i * order + j]);
    const plain = (i: number, j: number) => 1 - 2 * sylvester(i, j);
    // both where both are there: they must be the same
    if (type === 'hadamard' && order > 0)
      for (let i = 0; i < order; i++) for (let j = 0; j < order; j++) expect(matrix(i, j)).toBe(plain(i, j));
    rotations.push({ targets, head_dim, entry: type === 'hadamard' ? plain : matrix });
  }
  return (x: Float64Array[], layer: string) => {
    const rotation = rotations.find(({ targets }) => targets.includes(layer));
    if (!rotation) return x;
    return x.map((row) => {
      const n = rotation.head_dim ?? row.length;
      return row.map((_, at) => {
        const [first, j] = [at - (at % n), at % n];
        let sum = 0;
        for (let i = 0; i < n; i++) sum += row[first + i] * rotation.entry(i, j);
        return sum / Math.sqrt(n);
      });
    });
  };
}

const worst = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

const expressible: [string, Partial<RotationOptions>, string[]][] = [
  ['blocks of 16', { block: 16 }, ['hadamard 16']],
  ['blocks of 8 with signs', { block: 8, onlineSigns: true, seed: 5 }, ['random-hadamard 8']],
  ['o_proj, a power of two', { out: 'online' }, ['hadamard null']],
  ['down_proj, 96 = 12 · 8', { down: 'online', residual: 'hadamard' }, ['random-hadamard null']],
  ['heads of q and k as well', { out: 'online', queryKey: true }, ['hadamard null', 'hadamard 16']],
];

describe('a rotated model written as compressed-tensors', () => {
  it.each(expressible)('reads back and evaluates the same: %s', async (_, options, groups) => {
    const { model, plan } = await exported(qwen2, options);
    const described = Object.values(transformsOf(plan.config)?.config_groups ?? {});
    expect(described.map(({ type, head_dim }) => `${type} ${head_dim}`)).toEqual(groups);
    const back = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
    expect(back.config.runtime).toEqual(model.config.runtime);
    expect(await logitsOf(back)).toEqual(await logitsOf(model));
  });

  it.each(expressible.slice(0, 4))('is what transform_config says: %s', async (_, options) => {
    const { original, plan } = await exported(qwen2, options);
    const checkpoint = await memoryCheckpoint(plan.tensors, plan.config);
    const back = await openWeights(checkpoint);
    const weights: TinyModel['weights'] = new Map();
    for (const name of back.names())
      weights.set(name, { shape: [...back.shape(name)], data: Float64Array.from(denseF32(await back.load(name))) });
    const rotate = await interpreter(checkpoint, transformsOf(plan.config) as Transforms);
    const flat = (rows: Float64Array[]) => rows.flatMap((row) => [...row]);
    const expected = flat(plainForward(original, ids));
    const got = flat(plainForward({ ...original, weights }, ids, rotate));
    const without = flat(plainForward({ ...original, weights }, ids));
    const largest = Math.max(...expected.map(Math.abs));
    expect(worst(got, expected)).toBeLessThan(0.03 * largest); // one layer in int8
    expect(worst(without, expected)).toBeGreaterThan(0.3 * largest);
  });

  it('of another tool is run by its transform_config', async () => {
    for (const [, options] of [expressible[0], expressible[4]]) {
      const { model, plan } = await exported(qwen2, options);
      const { subbyte, ...config } = plan.config;
      expect(subbyte).toBeDefined();
      const back = await openWeights(await memoryCheckpoint(plan.tensors, config));
      expect(back.config.runtime.online.queryKey).toBe(model.config.runtime.online.queryKey);
      expect(worst(await logitsOf(back), await logitsOf(model))).toBe(0);
    }
  });

  it('refuses what it cannot run of another tool', async () => {
    const open = async (family: string, options: Partial<RotationOptions>, change?: (t: Transforms) => void) => {
      const { plan } = await exported(family, options);
      const { subbyte: _, ...config } = structuredClone(plan.config);
      change?.(transformsOf(config) as Transforms);
      return openWeights(await memoryCheckpoint(plan.tensors, config));
    };
    await expect(open(qwen2, { down: 'online' })).rejects.toThrow(/only plain Hadamard.*random-hadamard/);
    await expect(open(mixtral, { down: 'online' })).rejects.toThrow(/location is not supported.*subbyte-online/);
    const groupOf = (t: Transforms) => Object.values(t.config_groups)[0];
    const changed = (change: (t: Transforms) => void) => expect(open(qwen2, { out: 'online' }, change)).rejects;
    await changed((t) => void (groupOf(t).head_dim = 24)).toThrow(/no Hadamard matrix for the 64 inputs.*got 24/);
    await changed((t) => void (groupOf(t).apply[0].location = 'output')).toThrow(
      /location is not supported, got "output"/,
    );
    await changed((t) => void (groupOf(t).apply[0].targets = ['re:('])).toThrow(/no valid regular expression/);
    await changed((t) => void (groupOf(t).apply[0].targets = ['lm_head'])).toThrow(/layer is not supported.*lm_head/);
    await changed((t) => void (groupOf(t).apply[0].location = 'q_attn')).toThrow(/not rotated alike/);
  });

  it('is marked so that other runtimes refuse it when there are no words for it', async () => {
    for (const [family, options, what] of [
      [qwen2, { ...quarotRotations, onlineSigns: true }, /rotations across heads/],
      [mixtral, { block: 8 }, /inputs of experts/],
    ] as [string, Partial<RotationOptions>, RegExp][]) {
      const { model, plan } = await exported(family, options);
      const groups = Object.values(transformsOf(plan.config)?.config_groups ?? {});
      expect(groups.map(({ apply }) => apply[0].location)).toEqual(['subbyte-online']);
      expect(plan.notes.find((note) => note.startsWith('only subbyte runs this model'))).toMatch(what);
      const back = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
      expect(await logitsOf(back)).toEqual(await logitsOf(model));
    }
  });

  it('without quantized layers keeps its description and says who can run it', async () => {
    const { model, plan } = await exported(qwen2, { down: 'online' }, 'none');
    expect(plan.config).not.toHaveProperty('quantization_config');
    expect(plan.notes).toEqual([expect.stringMatching(/only subbyte runs this model/)]);
    const back = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
    expect(await logitsOf(back)).toEqual(await logitsOf(model));
  });

  it('needs no words for rotations that are merged', async () => {
    const { plan } = await exported(qwen2, { residual: 'hadamard', value: true, randomSigns: true });
    expect(transformsOf(plan.config)).toBeUndefined();
    expect(plan.config).not.toHaveProperty('subbyte');
    expect(plan.notes).toEqual([]);
  });
});
