import { describe, expect, it } from 'vitest';
import { memorySource } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { parseConfig } from './config.ts';
import { runtimeLayers } from './runtime-layers.ts';
import { checkWeights } from './weights.ts';

describe('the layers of a running model', () => {
  it('have the experts as stacks under one name for all families', () => {
    const layers = runtimeLayers(parseConfig(tinyConfigs['mixtral, 4 experts, 2 a token']));
    const down = layers.find(({ name }) => name === 'model.layers.1.block_sparse_moe.experts.down');
    expect(down).toEqual({
      name: 'model.layers.1.block_sparse_moe.experts.down',
      width: 96,
      weights: Array.from({ length: 4 }, (_, e) => `model.layers.1.block_sparse_moe.experts.${e}.w2.weight`),
    });
    const shared = runtimeLayers(
      parseConfig(tinyConfigs['qwen2_moe, shared expert, first layer dense, probabilities not renormalised']),
    );
    expect(shared.map(({ name, width }) => `${name} ${width}`)).toEqual([
      ...['q', 'k', 'v', 'o'].map((m) => `model.layers.0.self_attn.${m}_proj 64`),
      ...['gate_proj 64', 'up_proj 64', 'down_proj 96'].map((m) => `model.layers.0.mlp.${m}`),
      ...['q', 'k', 'v', 'o'].map((m) => `model.layers.1.self_attn.${m}_proj 64`),
      ...['gate 64', 'up 64', 'down 40'].map((m) => `model.layers.1.mlp.experts.${m}`),
      ...['gate_proj 64', 'up_proj 64', 'down_proj 56'].map((m) => `model.layers.1.mlp.shared_expert.${m}`),
    ]);
  });

  it('have rotations that fit, or the model is refused when it is opened', async () => {
    const open = (inputs: object[]) => {
      const model = tinyModel(tinyConfigs['llama, yarn rope'], 1);
      return checkWeights(
        memorySource({ ...model, config: { ...model.config, subbyte: { online: { inputs } } } }),
        'memory',
      );
    };
    await expect(open([{ match: 'down_proj$', size: 96 }])).resolves.toBeDefined();
    await expect(open([{ match: 'down_proj$', size: 64 }])).rejects.toThrow(
      /does not fit the input of model\.layers\.0\.mlp\.down_proj, got size 64, expected a divisor of 96.*config\.json/,
    );
    await expect(open([{ match: 'o_proj$', size: 4, stride: 32 }])).rejects.toThrow(/size 4, stride 32/);
  });
});
