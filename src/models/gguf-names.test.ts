import { describe, expect, it } from 'vitest';
import { ggufName, hfName } from './gguf-names.ts';
import { ggufRowOrder, inverseOrder, takeRows } from './gguf-rows.ts';

describe('GGUF names', () => {
  // Pairs as llama.cpp's converter prints them.
  const pairs = [
    ['qwen3', 'model.embed_tokens.weight', 'token_embd.weight'],
    ['qwen3', 'model.norm.weight', 'output_norm.weight'],
    ['llama', 'lm_head.weight', 'output.weight'],
    ['llama', 'model.layers.0.self_attn.q_proj.weight', 'blk.0.attn_q.weight'],
    ['qwen2', 'model.layers.11.self_attn.k_proj.bias', 'blk.11.attn_k.bias'],
    ['llama', 'model.layers.3.self_attn.o_proj.weight', 'blk.3.attn_output.weight'],
    ['qwen3', 'model.layers.3.self_attn.q_norm.weight', 'blk.3.attn_q_norm.weight'],
    ['llama', 'model.layers.3.post_attention_layernorm.weight', 'blk.3.ffn_norm.weight'],
    ['llama', 'model.layers.3.mlp.down_proj.weight', 'blk.3.ffn_down.weight'],
    ['mixtral', 'model.layers.1.block_sparse_moe.gate.weight', 'blk.1.ffn_gate_inp.weight'],
    ['qwen3_moe', 'model.layers.1.mlp.gate.weight', 'blk.1.ffn_gate_inp.weight'],
    ['qwen2_moe', 'model.layers.1.mlp.shared_expert.up_proj.weight', 'blk.1.ffn_up_shexp.weight'],
    ['qwen2_moe', 'model.layers.1.mlp.shared_expert_gate.weight', 'blk.1.ffn_gate_inp_shexp.weight'],
  ] as const;
  it.each(pairs)('%s: %s is %s', (family, hf, gguf) => {
    expect(ggufName(hf)).toEqual({ name: gguf, expert: undefined });
    expect(hfName(gguf, family)).toBe(hf);
  });

  const experts = [
    ['mixtral', 'model.layers.2.block_sparse_moe.experts.#.w1.weight', 'blk.2.ffn_gate_exps.weight'],
    ['mixtral', 'model.layers.2.block_sparse_moe.experts.#.w2.weight', 'blk.2.ffn_down_exps.weight'],
    ['mixtral', 'model.layers.2.block_sparse_moe.experts.#.w3.weight', 'blk.2.ffn_up_exps.weight'],
    ['qwen3_moe', 'model.layers.2.mlp.experts.#.gate_proj.weight', 'blk.2.ffn_gate_exps.weight'],
  ] as const;
  it.each(experts)('%s: experts %s are %s', (family, hf, gguf) => {
    expect(ggufName(hf.replace('#', '7'))).toEqual({ name: gguf, expert: 7 });
    expect(hfName(gguf, family)).toBe(hf);
  });

  it('gives undefined for tensors that GGUF does not hold', () => {
    expect(ggufName('model.layers.0.self_attn.rotary_emb.inv_freq')).toBeUndefined();
    expect(ggufName('model.layers.0.mlp.experts.0.w9.weight')).toBeUndefined();
    expect(hfName('rope_freqs.weight', 'llama')).toBeUndefined();
    expect(hfName('blk.0.attn_q.scale', 'llama')).toBeUndefined();
  });
});

describe('llama row order', () => {
  it('interleaves the halves of each head', () => {
    expect([...ggufRowOrder(12, 2)]).toEqual([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
  });
  it('is undone by its inverse, rows of any width moved whole', () => {
    const bytes = Uint8Array.from({ length: 16 * 5 }, (_, i) => i);
    const order = ggufRowOrder(16, 2);
    expect(takeRows(takeRows(bytes, order), inverseOrder(order))).toEqual(bytes);
    expect([...takeRows(bytes, order).subarray(5, 10)]).toEqual([20, 21, 22, 23, 24]);
  });
});
