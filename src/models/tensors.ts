// Which tensors a decoder of a given config has: names, shapes and what each is for.
//
// Names are those of unquantized Hugging Face checkpoints of the family. Quantizers choose tensors by role: `linear`
// is what weight-only quantization means by "the decoder's linear layers"; embeddings, head, router and the one-row
// gate of the shared expert keep their precision unless asked for.

import type { Shape } from '../tensor/shape.ts';
import type { DecoderConfig } from './config.ts';
import { families } from './families.ts';

export type TensorRole = 'embedding' | 'head' | 'linear' | 'router' | 'norm' | 'bias';

export interface ExpectedTensor {
  readonly shape: Shape;
  readonly role: TensorRole;
}

/** Names of the three matrices of a gated MLP within its prefix. */
export interface MlpNames {
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

const plainMlp: MlpNames = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

/** Where the router and the experts of a layer are: `model.layers.0.block_sparse_moe` and w1, w3, w2 for Mixtral. */
export function expertNames(config: DecoderConfig, layer: number): { prefix: string; mlp: MlpNames } {
  return families[config.family].experts === 'mixtral'
    ? { prefix: `model.layers.${layer}.block_sparse_moe`, mlp: { gate: 'w1', up: 'w3', down: 'w2' } }
    : { prefix: `model.layers.${layer}.mlp`, mlp: plainMlp };
}

/** Every tensor of the model by name, in the order of the forward pass. A tied head is not listed. */
export function expectedTensors(config: DecoderConfig): Map<string, ExpectedTensor> {
  const list = new Map<string, ExpectedTensor>();
  const add = (name: string, role: TensorRole, ...shape: number[]) => list.set(name, { shape, role });
  const linear = (prefix: string, out: number, inner: number, bias: boolean) => {
    add(`${prefix}.weight`, 'linear', out, inner);
    if (bias) add(`${prefix}.bias`, 'bias', out);
  };
  const { hiddenSize: C, headDim: D } = config;
  const mlp = (prefix: string, names: MlpNames, size: number, bias: boolean) => {
    linear(`${prefix}.${names.gate}`, size, C, bias);
    linear(`${prefix}.${names.up}`, size, C, bias);
    linear(`${prefix}.${names.down}`, C, size, bias);
  };
  add('model.embed_tokens.weight', 'embedding', config.vocabSize, C);
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}`;
    add(`${at}.input_layernorm.weight`, 'norm', C);
    linear(`${at}.self_attn.q_proj`, config.heads * D, C, config.qkvBias);
    linear(`${at}.self_attn.k_proj`, config.kvHeads * D, C, config.qkvBias);
    linear(`${at}.self_attn.v_proj`, config.kvHeads * D, C, config.qkvBias);
    if (config.qkNorm) {
      add(`${at}.self_attn.q_norm.weight`, 'norm', D);
      add(`${at}.self_attn.k_norm.weight`, 'norm', D);
    }
    linear(`${at}.self_attn.o_proj`, C, config.heads * D, config.outputBias);
    add(`${at}.post_attention_layernorm.weight`, 'norm', C);
    const { experts } = config;
    if (!experts?.sparse[layer]) {
      mlp(`${at}.mlp`, plainMlp, config.mlpSize, config.mlpBias);
      continue;
    }
    const names = expertNames(config, layer);
    add(`${names.prefix}.gate.weight`, 'router', experts.count, C);
    for (let e = 0; e < experts.count; e++) mlp(`${names.prefix}.experts.${e}`, names.mlp, experts.size, false);
    if (experts.sharedSize > 0) {
      mlp(`${names.prefix}.shared_expert`, plainMlp, experts.sharedSize, false);
      add(`${names.prefix}.shared_expert_gate.weight`, 'router', 1, C);
    }
  }
  add('model.norm.weight', 'norm', C);
  if (!config.tiedEmbeddings) add('lm_head.weight', 'head', config.vocabSize, C);
  return list;
}

/** Names of the decoder's linear layers: what weight-only quantization covers. */
export function linearWeights(config: DecoderConfig): string[] {
  return [...expectedTensors(config)].filter(([, t]) => t.role === 'linear').map(([name]) => name);
}
