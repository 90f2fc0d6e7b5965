import { describe, expect, it } from 'vitest';
import { tinyConfigs } from '../../test/fixtures/models/tiny-models.ts';
import { parseConfig } from './config.ts';
import { layerSubsets, modelSubsets } from './subsets.ts';
import { expectedTensors } from './tensors.ts';

const read = (family: string, more: object = {}) => parseConfig({ ...tinyConfigs[family], ...more });
const mixtral = 'mixtral, 4 experts, 2 a token';
const shared = 'qwen2_moe, shared expert, first layer dense, probabilities not renormalised';
const llama = 'llama, yarn rope'; // as many value heads as heads

describe('subsets of a block', () => {
  it('follow the computation of a dense layer', () => {
    const at = 'model.layers.1';
    expect(layerSubsets(read(llama), 1)).toEqual([
      {
        layers: [`${at}.self_attn.q_proj`, `${at}.self_attn.k_proj`, `${at}.self_attn.v_proj`],
        others: [],
        width: 64,
        producer: { kind: 'norm', name: `${at}.input_layernorm` },
        fixed: undefined,
        inspect: `${at}.self_attn`,
      },
      {
        layers: [`${at}.self_attn.o_proj`],
        others: [],
        width: 64,
        producer: { kind: 'rows', name: `${at}.self_attn.v_proj` },
        fixed: undefined,
        inspect: `${at}.self_attn.o_proj`,
      },
      {
        layers: [`${at}.mlp.gate_proj`, `${at}.mlp.up_proj`],
        others: [],
        width: 64,
        producer: { kind: 'norm', name: `${at}.post_attention_layernorm` },
        fixed: undefined,
        inspect: `${at}.mlp`,
      },
      {
        layers: [`${at}.mlp.down_proj`],
        others: [],
        width: 96,
        producer: { kind: 'rows', name: `${at}.mlp.up_proj` },
        fixed: undefined,
        inspect: `${at}.mlp.down_proj`,
      },
    ]);
  });

  it('hold all experts, the router and the shared gate behind one norm', () => {
    const subsets = layerSubsets(read(shared), 1);
    const at = 'model.layers.1.mlp';
    expect(subsets[2].layers).toHaveLength(6 * 2 + 2);
    expect(subsets[2].layers).toContain(`${at}.experts.5.up_proj`);
    expect(subsets[2].layers).toContain(`${at}.shared_expert.gate_proj`);
    expect(subsets[2].others).toEqual([`${at}.gate`, `${at}.shared_expert_gate`]);
    expect(subsets[2].inspect).toBe(at);
    expect(subsets.slice(3).map((s) => [s.layers[0], s.width, s.producer?.name])).toEqual([
      ...Array.from({ length: 6 }, (_, e) => [`${at}.experts.${e}.down_proj`, 40, `${at}.experts.${e}.up_proj`]),
      [`${at}.shared_expert.down_proj`, 56, `${at}.shared_expert.up_proj`],
    ]);
    const w3 = layerSubsets(read(mixtral), 0).find((s) => s.layers[0].endsWith('experts.2.w2'));
    expect(w3?.producer?.name).toBe('model.layers.0.block_sparse_moe.experts.2.w3');
  });

  it.each(Object.keys(tinyConfigs))('cover every linear layer once, with its width: %s', (family) => {
    const config = read(family);
    const tensors = expectedTensors(config);
    const subsets = modelSubsets(config);
    const covered = subsets.flatMap((s) => s.layers.map((name) => `${name}.weight`));
    const linear = [...tensors].filter(([, t]) => t.role === 'linear').map(([name]) => name);
    expect([...covered].sort()).toEqual([...linear].sort());
    const routers = [...tensors].filter(([, t]) => t.role === 'router').map(([name]) => name);
    expect(subsets.flatMap((s) => s.others.map((name) => `${name}.weight`)).sort()).toEqual(routers.sort());
    for (const { layers, others, width, producer } of subsets) {
      for (const name of [...layers, ...others]) expect(tensors.get(`${name}.weight`)?.shape[1]).toBe(width);
      if (producer) expect(tensors.get(`${producer.name}.weight`)?.shape[0]).toBe(width);
    }
  });

  it('say why an input cannot be scaled', () => {
    expect(layerSubsets(read(mixtral), 0)[1]).toMatchObject({
      producer: undefined,
      fixed: expect.stringContaining('several query heads share a value head'),
    });
    const online = { subbyte: { online: { inputs: [{ match: 'experts\\.down$', size: 96 }] } } };
    const subsets = layerSubsets(read(mixtral, online), 0);
    expect(subsets[2].producer).toBeDefined();
    expect(subsets[3]).toMatchObject({ producer: undefined, fixed: expect.stringContaining('rotated online') });
  });
});
