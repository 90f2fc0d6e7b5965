// The decoder-only transformer of the Llama family tree as a graph.
//
//   h₀ = embedding[ids];  h ← h + attention(norm(h));  h ← h + mlp(norm(h));  logits = norm(h) · headᵀ
//
// Llama, Mistral, Qwen2, Qwen3, Mixtral, Qwen2-MoE and Qwen3-MoE differ only in what DecoderConfig says (biases, q/k
// norm, windows, experts), so there is one builder. Shapes are static: a graph is for one batch and token count. The
// graphs for evaluation see whole windows from position 0; the decode graph extends a key/value cache.
// Sources: the families' modules in transformers 5.17 define the arithmetic.

import type { Format } from '../formats/format.ts';
import type { Graph, Value, ValueType } from '../graph/graph.ts';
import { add } from '../graph/ops/arithmetic.ts';
import { crossEntropy } from '../graph/ops/cross-entropy.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { reshape } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { rmsNorm } from '../graph/ops/norm.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import { type AttentionShape, type Cache, selfAttention } from '../nn/attention.ts';
import { type ExpertParams, sparseMlp } from '../nn/experts.ts';
import type { LinearParams } from '../nn/linear.ts';
import { gatedMlp, type MlpParams } from '../nn/mlp.ts';
import { tensorF32, tensorI32 } from '../tensor/tensor.ts';
import type { DecoderConfig } from './config.ts';
import { inverseFrequencies, ropeMagnitude } from './rope.ts';
import { expertNames, type MlpNames } from './tensors.ts';

/** Format that the input of a linear layer is quantized to, by the layer's name (`model.layers.0.mlp.down_proj`). */
export type ActivationFormat = (layer: string) => Format | undefined;

export interface DecoderOptions {
  /** B */
  batch: number;
  /** T */
  tokens: number;
  /**
   * nll: inputs `ids` [B, T], `targets` [B·T] (below 0: ignored); output `nll` [B·T], nothing of size V is kept.
   * logits: input `ids`; output `logits` [B·T, V].
   * decode: inputs `ids`, `positions` [B, T], `start` [1] (row of the first new token in the cache) and `last` [B]
   *   (row of B·T whose successor is wanted); states `layers.L.keys|values` [B, S, G, D]; output `logits` [B, V].
   */
  mode: 'nll' | 'logits' | 'decode';
  /** S, rows of the cache; decode only. */
  cacheTokens?: number;
  activation?: ActivationFormat;
}

/** Types of the parameters by name; a prefix keeps two models in one graph apart. */
export interface ParamTypes {
  readonly types: ReadonlyMap<string, ValueType>;
  readonly prefix?: string;
}

/** Builds the graph of a loaded model; `types` are those of its parameters (LoadedDecoder.types). */
export function buildDecoder(
  config: DecoderConfig,
  types: ReadonlyMap<string, ValueType>,
  options: DecoderOptions,
): Graph {
  const { batch, tokens, mode } = options;
  return trace((g) => {
    const ids = g.input('ids', i32([batch, tokens]));
    const params: ParamTypes = { types };
    const { hidden, head } = decoderBody(g, config, params, ids, options);
    if (mode === 'nll') {
      const targets = g.input('targets', i32([batch * tokens]));
      g.output('nll', crossEntropy(hidden, head, targets));
      return;
    }
    // Row selection is an embedding look-up in the table of hidden states.
    const rows = mode === 'decode' ? embedding(hidden, g.input('last', i32([batch]))) : hidden;
    g.output('logits', matmul(rows, head, { transposeB: true }));
  });
}

/** Everything up to the projection onto the vocabulary: normalised hidden states [B·T, C] and the head [V, C]. */
export function decoderBody(
  g: GraphBuilder,
  config: DecoderConfig,
  params: ParamTypes,
  ids: Value,
  options: DecoderOptions,
): { hidden: Value; head: Value } {
  const { batch, tokens } = options;
  const { epsilon, hiddenSize } = config;
  const prefix = params.prefix ?? '';
  const param = (name: string) => {
    const type = params.types.get(name);
    if (!type) throw new Error(`decoder: parameter ${name} was not loaded`);
    return g.param(prefix + name, type);
  };
  const has = (name: string) => params.types.has(name);
  const linearOf = (name: string): LinearParams => ({
    weight: param(`${name}.weight`),
    bias: has(`${name}.bias`) ? param(`${name}.bias`) : undefined,
    activation: options.activation?.(name),
  });
  const mlpOf = (name: string): MlpParams => ({
    gate: linearOf(`${name}.gate_proj`),
    up: linearOf(`${name}.up_proj`),
    down: linearOf(`${name}.down_proj`),
  });
  const stackOf = (name: string, part: keyof MlpNames): ExpertParams => ({
    weight: param(`${name}.experts.${part}`),
    tensorScales: has(`${name}.experts.${part}.scales`) ? param(`${name}.experts.${part}.scales`) : undefined,
    activation: options.activation?.(`${name}.experts.${part}`),
  });
  const decode = options.mode === 'decode';
  const at = {
    positions: decode ? g.input('positions', i32([batch, tokens])) : g.constant(windowPositions(batch, tokens)),
    frequencies: g.constant(ropeFrequencies(config)),
  };
  const start = decode ? g.input('start', i32([1])) : undefined;

  const table = param('model.embed_tokens.weight');
  let h = reshape(embedding(table, ids), [batch * tokens, hiddenSize]);
  for (let layer = 0; layer < config.layers; layer++) {
    const name = `model.layers.${layer}`;
    const norm = (x: Value, which: string) => rmsNorm(x, param(`${name}.${which}.weight`), { epsilon });
    h = g.scope(`${prefix}layers.${layer}.attention`, () => {
      const shape: AttentionShape = {
        batch,
        tokens,
        heads: config.heads,
        kvHeads: config.kvHeads,
        headDim: config.headDim,
        epsilon,
        window: config.windows[layer],
        ropeMagnitude: ropeMagnitude(config.rope),
      };
      const p = {
        q: linearOf(`${name}.self_attn.q_proj`),
        k: linearOf(`${name}.self_attn.k_proj`),
        v: linearOf(`${name}.self_attn.v_proj`),
        output: linearOf(`${name}.self_attn.o_proj`),
        qNorm: config.qkNorm ? param(`${name}.self_attn.q_norm.weight`) : undefined,
        kNorm: config.qkNorm ? param(`${name}.self_attn.k_norm.weight`) : undefined,
      };
      const cache = start && layerCache(g, config, layer, options, start);
      return add(h, selfAttention(norm(h, 'input_layernorm'), p, shape, at, cache));
    });
    h = g.scope(`${prefix}layers.${layer}.mlp`, () => {
      const x = norm(h, 'post_attention_layernorm');
      const { experts } = config;
      if (!experts?.sparse[layer]) return add(h, gatedMlp(x, mlpOf(`${name}.mlp`)));
      const { prefix: at } = expertNames(config, layer);
      const y = sparseMlp(x, {
        router: { weight: param(`${at}.gate.weight`) },
        gate: stackOf(at, 'gate'),
        up: stackOf(at, 'up'),
        down: stackOf(at, 'down'),
        shared: experts.sharedSize
          ? { mlp: mlpOf(`${at}.shared_expert`), gate: { weight: param(`${at}.shared_expert_gate.weight`) } }
          : undefined,
        perToken: experts.perToken,
        normalize: experts.normalize,
      });
      return add(h, y);
    });
  }
  const hidden = rmsNorm(h, param('model.norm.weight'), { epsilon });
  return { hidden, head: config.tiedEmbeddings ? table : param('lm_head.weight') };
}

/** The cache of one layer: states shared by every decode graph of the same batch and length. */
function layerCache(
  g: GraphBuilder,
  config: DecoderConfig,
  layer: number,
  options: DecoderOptions,
  start: Value,
): Cache {
  const type = cacheType(config, options.batch, options.cacheTokens ?? config.maxPositions);
  return { keys: g.state(`layers.${layer}.keys`, type), values: g.state(`layers.${layer}.values`, type), start };
}

/** f32 [B, S, G, D], keys or values of one layer. */
export function cacheType(config: DecoderConfig, batch: number, cacheTokens: number): ValueType {
  return f32([batch, cacheTokens, config.kvHeads, config.headDim]);
}

function windowPositions(batch: number, tokens: number) {
  return tensorI32(
    [batch, tokens],
    Int32Array.from({ length: batch * tokens }, (_, i) => i % tokens),
  );
}

function ropeFrequencies(config: DecoderConfig) {
  const frequencies = inverseFrequencies(config.rope);
  return tensorF32([frequencies.length], frequencies);
}
