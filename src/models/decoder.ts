// The decoder-only transformer of the Llama family tree as a graph.
//
//   h₀ = embedding[ids];  h ← h + attention(norm(h));  h ← h + mlp(norm(h));  logits = norm(h) · headᵀ
//
// Llama, Mistral, Qwen2, Qwen3, Mixtral, Qwen2-MoE and Qwen3-MoE differ only in what DecoderConfig says (biases, q/k
// norm, windows, experts), so there is one builder. Shapes are static: a graph is for one batch and token count. The
// graphs for evaluation see whole windows from position 0; the decode graph extends a key/value cache.
// Sources: the families' modules in transformers 5.17 define the arithmetic.

import type { Graph, Value, ValueType } from '../graph/graph.ts';
import { crossEntropy } from '../graph/ops/cross-entropy.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { reshape } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { rmsNorm } from '../graph/ops/norm.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { Cache } from '../nn/attention.ts';
import { kvStateTypes } from '../nn/kv-cache.ts';
import {
  type ActivationOf,
  type BlockOptions,
  chosenKv,
  openBlock,
  type ParamSource,
  type ParamTypes,
  paramSource,
  runBlock,
  windowPositions,
  writtenPositions,
} from './block.ts';
import type { DecoderConfig } from './config.ts';
import type { KvChoice } from './kv-scheme.ts';

export interface DecoderOptions {
  /** B */
  batch: number;
  /** T */
  tokens: number;
  /**
   * nll: inputs `ids` [B, T], `targets` [B·T] (below 0: ignored); output `nll` [B·T], nothing of size V is kept.
   * logits: input `ids`; output `logits` [B·T, V].
   * decode: inputs `ids`, `positions` [B, T], `start` [1] (row of the first new token in the cache) and `last` [B]
   *   (row of B·T whose successor is wanted); states as cacheStates() has them; output `logits` [B, V].
   */
  mode: 'nll' | 'logits' | 'decode';
  /** S, rows of the cache; decode only. */
  cacheTokens?: number;
  /** Most tokens that a graph over the same states appends in one run; decode with a scheme only. T when absent. */
  mostTokens?: number;
  /** How keys and values are quantized; as the model's own file says when absent. */
  kv?: KvChoice;
  /** Formats of the layers' inputs; those of the model's own file when absent. */
  activation?: ActivationOf;
  /** The product of a linear layer by its name, in place of the plain one: low-precision training. */
  product?: BlockOptions['product'];
  /** For training: a block's values are computed again for the backward pass (GraphBuilder.checkpoint). */
  recompute?: boolean;
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

/**
 * Everything up to the projection onto the vocabulary: normalised hidden states [B·T, C] and the head [V, C].
 * `params`: types of what is declared as parameters, or a source that declares otherwise (as states, for training).
 */
export function decoderBody(
  g: GraphBuilder,
  config: DecoderConfig,
  params: ParamTypes | ParamSource,
  ids: Value,
  options: DecoderOptions,
): { hidden: Value; head: Value } {
  const { batch, tokens } = options;
  const source = 'param' in params ? params : paramSource(g, params);
  const prefix = 'types' in params ? (params.prefix ?? '') : '';
  const decode = options.mode === 'decode';
  const at = (decode ? writtenPositions : windowPositions)(g, config, batch, tokens);
  const start = decode ? g.input('start', i32([1])) : undefined;

  const table = source.param('model.embed_tokens.weight');
  let h = reshape(embedding(table, ids), [batch * tokens, config.hiddenSize]);
  for (let layer = 0; layer < config.layers; layer++) {
    const cache = start && layerCache(g, config, layer, options, start);
    const [x, block] = [h, openBlock(source, config, layer, options)];
    const run = () => runBlock(g, x, block, `${prefix}layers.${layer}`, at, cache);
    h = options.recompute ? g.checkpoint(undefined, run) : run();
  }
  const hidden = rmsNorm(h, source.param('model.norm.weight'), { epsilon: config.epsilon });
  return { hidden, head: config.tiedEmbeddings ? table : source.param('lm_head.weight') };
}

/** The cache of one layer: states shared by every decode graph of the same batch and length. */
function layerCache(
  g: GraphBuilder,
  config: DecoderConfig,
  layer: number,
  options: DecoderOptions,
  start: Value,
): Cache {
  const { batch, tokens, cacheTokens = config.maxPositions, mostTokens = tokens } = options;
  const types = cacheTypes(config, { batch, cacheTokens, mostTokens, kv: options.kv });
  const state = (part: string) => g.state(`layers.${layer}.${part}`, types[part]);
  const plain = { keys: state('keys'), values: state('values'), start };
  if (!types.recentKeys) return plain;
  return { ...plain, recentKeys: state('recentKeys'), recentValues: state('recentValues') };
}

export type CacheOptions = Required<Pick<DecoderOptions, 'batch' | 'cacheTokens' | 'mostTokens'>> &
  Pick<DecoderOptions, 'kv'>;

/** keys and values f32 [B, S, G, D], or those of the model's scheme with their rings; of one layer. */
function cacheTypes(config: DecoderConfig, options: CacheOptions): Record<string, ValueType> {
  const { batch, cacheTokens, mostTokens } = options;
  const { kvHeads, headDim } = config;
  const scheme = chosenKv(config, options.kv);
  if (scheme) return kvStateTypes(scheme, { batch, kvHeads, headDim }, cacheTokens, mostTokens);
  const type = f32([batch, cacheTokens, kvHeads, headDim]);
  return { keys: type, values: type };
}

/** Names and types of all states of the decode graphs. */
export function cacheStates(config: DecoderConfig, options: CacheOptions): Map<string, ValueType> {
  const types = Object.entries(cacheTypes(config, options));
  return new Map(
    Array.from({ length: config.layers }, (_, layer) =>
      types.map(([part, type]): [string, ValueType] => [`layers.${layer}.${part}`, type]),
    ).flat(),
  );
}
