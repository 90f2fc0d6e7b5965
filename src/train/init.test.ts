// New models: sizes against the table of the Quartet study, first weights against their distribution.

import { describe, expect, it } from 'vitest';
import { parseConfig } from '../models/config.ts';
import { expectedTensors } from '../models/tensors.ts';
import { elementCount } from '../tensor/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { createConfig } from './config/config.ts';
import { presets } from './config/presets.ts';
import { newModelConfig, newWeights } from './init.ts';

const defaults = { vocabSize: 512, maxPositions: 512 };
const data = { train: 'x' };

it.each([
  ['llama-30m', 30_482_560],
  ['llama-50m', 49_556_736],
  ['llama-100m', 102_777_856],
  ['llama-200m', 203_188_480],
  ['llama-430m', 443_068_288],
  ['llama-800m', 822_151_168],
  ['llama-1600m', 1_586_076_160],
])('%s has %d parameters besides embeddings', (name, expected) => {
  const preset = presets[name] as { model: object };
  const { model } = createConfig({ ...preset, model: { ...preset.model, tokenizer: 't' }, data });
  const tensors = expectedTensors(parseConfig(newModelConfig(model, defaults)));
  const counted = [...tensors.values()].filter((t) => t.role !== 'embedding' && t.role !== 'head');
  expect(counted.reduce((n, t) => n + elementCount(t.shape), 0)).toBe(expected);
});

describe('first weights', () => {
  const { model } = createConfig({
    model: { layers: 2, hiddenSize: 64, heads: 4, kvHeads: 2, tokenizer: 't', family: 'qwen3', initStd: 0.05 },
    data,
  });
  const hf = newModelConfig(model, defaults);
  const open = (seed: number, residualScale = true) => newWeights(hf, { std: 0.05, residualScale, seed });
  const load = async (name: string, seed = 1, residualScale = true) =>
    ((await (await open(seed, residualScale)).load(name)) as Tensor).data as Float32Array;

  it('have the deviation of their kind, and fourth moments of a Gaussian', async () => {
    for (const [name, std] of [
      ['model.embed_tokens.weight', 0.05],
      ['lm_head.weight', 0.05],
      ['model.layers.0.self_attn.q_proj.weight', 0.05],
      ['model.layers.1.mlp.gate_proj.weight', 0.05],
      ['model.layers.1.mlp.down_proj.weight', 0.025],
      ['model.layers.0.self_attn.o_proj.weight', 0.025],
    ] as const) {
      const values = await load(name);
      const moment = (p: number) => values.reduce((sum, x) => sum + x ** p, 0) / values.length / std ** p;
      const n = values.length;
      expect(Math.abs(moment(1)), name).toBeLessThan(4 / Math.sqrt(n));
      expect(Math.abs(moment(2) - 1), name).toBeLessThan(4 * Math.sqrt(2 / n));
      expect(Math.abs(moment(4) - 3), name).toBeLessThan(4 * Math.sqrt(96 / n));
    }
    expect((await load('model.layers.0.self_attn.o_proj.weight', 1, false))[7]).toBeCloseTo(
      2 * (await load('model.layers.0.self_attn.o_proj.weight'))[7],
      7,
    );
    expect(new Set(await load('model.layers.0.self_attn.q_norm.weight'))).toEqual(new Set([1]));
  });

  it('are the same for a seed and apart for others, tensor by tensor', async () => {
    const name = 'model.layers.0.mlp.up_proj.weight';
    expect(await load(name, 5)).toEqual(await load(name, 5));
    expect(await load(name, 5)).not.toEqual(await load(name, 6));
    expect(await load(name, 5)).not.toEqual(await load('model.layers.1.mlp.up_proj.weight', 5));
  });

  it('have a config that reads back', async () => {
    const { config } = await open(0);
    expect(config).toMatchObject({
      family: 'qwen3',
      hiddenSize: 64,
      mlpSize: 256,
      headDim: 16,
      vocabSize: 512,
      qkNorm: true,
    });
    expect(config.rope.base).toBe(10_000);
  });
});
