// Tensor names of Hugging Face transformers and of GGUF, both ways.
//
// Problem: the same weight is `model.layers.3.self_attn.q_proj.weight` in transformers and `blk.3.attn_q.weight` in
// llama.cpp, and the experts of a layer, one tensor each in transformers, are one stacked tensor [E, N, K] in GGUF.
// Method: one table of module names; both directions follow from it. Source: llama.cpp, gguf-py/gguf/tensor_mapping.py
// and constants.py (facts, not code), for the architectures llama (Llama, Mistral, Mixtral), qwen2, qwen3, qwen2moe
// and qwen3moe.
// It does not do: fused tensors (attn_qkv, ffn_gate_up_exps) and the one-tensor-an-expert files of 2023.

import type { Family } from './families.ts';

/** general.architecture of a family. Mistral and Mixtral are Llama with a window or experts to llama.cpp. */
export const ggufArchitecture: Readonly<Record<Family, string>> = {
  llama: 'llama',
  mistral: 'llama',
  mixtral: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  qwen2_moe: 'qwen2moe',
  qwen3_moe: 'qwen3moe',
};

const outside: readonly (readonly [hf: string, gguf: string])[] = [
  ['model.embed_tokens', 'token_embd'],
  ['model.norm', 'output_norm'],
  ['lm_head', 'output'],
];

const inLayer: readonly (readonly [hf: string, gguf: string])[] = [
  ['input_layernorm', 'attn_norm'],
  ['self_attn.q_proj', 'attn_q'],
  ['self_attn.k_proj', 'attn_k'],
  ['self_attn.v_proj', 'attn_v'],
  ['self_attn.o_proj', 'attn_output'],
  ['self_attn.q_norm', 'attn_q_norm'],
  ['self_attn.k_norm', 'attn_k_norm'],
  ['post_attention_layernorm', 'ffn_norm'],
  ['mlp.gate_proj', 'ffn_gate'],
  ['mlp.up_proj', 'ffn_up'],
  ['mlp.down_proj', 'ffn_down'],
  ['mlp.shared_expert.gate_proj', 'ffn_gate_shexp'],
  ['mlp.shared_expert.up_proj', 'ffn_up_shexp'],
  ['mlp.shared_expert.down_proj', 'ffn_down_shexp'],
  ['mlp.shared_expert_gate', 'ffn_gate_inp_shexp'],
];

const mixtral = { block: 'block_sparse_moe', gate: 'w1', up: 'w3', down: 'w2' } as const;
const qwen = { block: 'mlp', gate: 'gate_proj', up: 'up_proj', down: 'down_proj' } as const;

const hfToGguf = new Map(inLayer);
const ggufToHf = new Map(inLayer.map(([hf, gguf]) => [gguf, hf]));

/** Where a transformers tensor goes: its GGUF name, and its place in the stack if it belongs to one expert. */
export interface GgufPlace {
  name: string;
  expert: number | undefined;
}

/**
 * The GGUF name of a transformers tensor, undefined when GGUF has none.
 *
 * Example: `ggufName('model.layers.0.block_sparse_moe.experts.3.w2.weight')` is
 * `{ name: 'blk.0.ffn_down_exps.weight', expert: 3 }`.
 */
export function ggufName(hf: string): GgufPlace | undefined {
  const split = /^(.*)\.(weight|bias)$/.exec(hf);
  if (!split) return undefined;
  const [, module, kind] = split as unknown as [string, string, string];
  const found = outside.find(([name]) => name === module);
  if (found) return { name: `${found[1]}.${kind}`, expert: undefined };
  const layer = /^model\.layers\.(\d+)\.(.+)$/.exec(module);
  if (!layer) return undefined;
  const [, index, inner] = layer as unknown as [string, string, string];
  const place = (name: string, expert?: number) => ({ name: `blk.${index}.${name}.${kind}`, expert });
  const plain = hfToGguf.get(inner);
  if (plain) return place(plain);
  for (const style of [mixtral, qwen]) {
    if (inner === `${style.block}.gate`) return place('ffn_gate_inp');
    const expert = new RegExp(`^${style.block}\\.experts\\.(\\d+)\\.(\\w+)$`).exec(inner);
    const role = (['gate', 'up', 'down'] as const).find((r) => style[r] === expert?.[2]);
    if (expert && role) return place(`ffn_${role}_exps`, Number(expert[1]));
  }
  return undefined;
}

/**
 * The transformers name of a GGUF tensor, undefined when the table has none. For a stack of experts the name holds `#`
 * where the expert's number goes.
 *
 * Example: `hfName('blk.0.ffn_down_exps.weight', 'mixtral')` is
 * `model.layers.0.block_sparse_moe.experts.#.w2.weight`.
 */
export function hfName(gguf: string, family: Family): string | undefined {
  const split = /^(.*)\.(weight|bias)$/.exec(gguf);
  if (!split) return undefined;
  const [, module, kind] = split as unknown as [string, string, string];
  const found = outside.find(([, name]) => name === module);
  if (found) return `${found[0]}.${kind}`;
  const layer = /^blk\.(\d+)\.(\w+)$/.exec(module);
  if (!layer) return undefined;
  const [, index, inner] = layer as unknown as [string, string, string];
  const style = family === 'mixtral' ? mixtral : qwen;
  const stacked = /^ffn_(gate|up|down)_exps$/.exec(inner);
  const hf = stacked
    ? `${style.block}.experts.#.${style[stacked[1] as 'gate' | 'up' | 'down']}`
    : inner === 'ffn_gate_inp'
      ? `${style.block}.gate`
      : ggufToHf.get(inner);
  return hf && `model.layers.${index}.${hf}.${kind}`;
}
