// One transformer block of a decoder: its parameters by their checkpoint names, and its computation in named parts.
//
//   h ← h + attention(norm(h));  h ← h + mlp(norm(h))
//
// The decoder runs whole blocks; calibration runs the parts between two groups of linear layers (stages.ts). Both
// declare the same parameters, so a part computes what the whole computes.

import type { Value, ValueType } from '../graph/graph.ts';
import { add } from '../graph/ops/arithmetic.ts';
import { rmsNorm } from '../graph/ops/norm.ts';
import type { GraphBuilder } from '../graph/trace.ts';
import { i32 } from '../graph/value-type.ts';
import {
  type AttentionParams,
  type AttentionShape,
  type Cache,
  type Positions,
  selfAttention,
} from '../nn/attention.ts';
import { type ExpertParams, type SparseParams, sparseMlp } from '../nn/experts.ts';
import type { KvScheme } from '../nn/kv-cache.ts';
import type { Activation, LinearParams } from '../nn/linear.ts';
import { gatedMlp, type MlpParams } from '../nn/mlp.ts';
import { hadamardBlock } from '../tensor/hadamard.ts';
import { tensorF32, tensorI32 } from '../tensor/tensor.ts';
import type { DecoderConfig } from './config.ts';
import { checkKvScheme, type KvChoice } from './kv-scheme.ts';
import { inverseFrequencies, ropeMagnitude } from './rope.ts';
import { inputRotation, layerActivation } from './runtime-scheme.ts';
import { expertNames, type MlpNames } from './tensors.ts';

/** What the input of a linear layer is quantized to, by the layer's name (`model.layers.0.mlp.down_proj`). */
export type ActivationOf = (layer: string) => Activation | undefined;

/** Types of the parameters by name; a prefix keeps two models in one graph apart. */
export interface ParamTypes {
  readonly types: ReadonlyMap<string, ValueType>;
  readonly prefix?: string;
}

/** Declares parameters of a graph by their checkpoint names. */
export interface ParamSource {
  param(name: string): Value;
  has(name: string): boolean;
}

export function paramSource(g: GraphBuilder, { types, prefix = '' }: ParamTypes): ParamSource {
  return {
    param(name) {
      const type = types.get(name);
      if (!type) throw new Error(`decoder: parameter ${name} was not loaded`);
      return g.param(prefix + name, type);
    },
    has: (name) => types.has(name),
  };
}

/** The parts of one layer. A dense layer has `mlp`, a layer of experts `sparse`. Parameters are declared when asked for. */
export interface Block {
  readonly shape: AttentionShape;
  /** x [B·T, C] normalised by input_layernorm or post_attention_layernorm. */
  norm(x: Value, which: 'input_layernorm' | 'post_attention_layernorm'): Value;
  attention(): AttentionParams;
  mlp(): MlpParams;
  sparse(): SparseParams;
  readonly isSparse: boolean;
}

export interface BlockOptions {
  batch: number;
  tokens: number;
  /** Formats of the layers' inputs; those of the model's own file when absent. */
  activation?: ActivationOf;
  /** How keys and values are quantized; as the model's own file says when absent. */
  kv?: KvChoice;
  /** The product of a linear layer by its name, in place of the plain one; of experts, that of their stack. */
  product?: (layer: string) => LinearParams['product'];
}

/** The parts of layer `layer`, over parameters that `source` declares. */
export function openBlock(source: ParamSource, config: DecoderConfig, layer: number, options: BlockOptions): Block {
  const { param, has } = source;
  const { epsilon, experts } = config;
  const name = `model.layers.${layer}`;
  const { activation = (at) => layerActivation(config.runtime, at) } = options;
  const linearOf = (at: string): LinearParams => ({
    weight: param(`${at}.weight`),
    bias: has(`${at}.bias`) ? param(`${at}.bias`) : undefined,
    rotation: inputRotation(config.runtime, at),
    activation: activation(at),
    product: options.product?.(at),
  });
  const mlpOf = (at: string): MlpParams => ({
    gate: linearOf(`${at}.gate_proj`),
    up: linearOf(`${at}.up_proj`),
    down: linearOf(`${at}.down_proj`),
  });
  const stackOf = (at: string, part: keyof MlpNames): ExpertParams => ({
    weight: param(`${at}.experts.${part}`),
    tensorScales: has(`${at}.experts.${part}.scales`) ? param(`${at}.experts.${part}.scales`) : undefined,
    rotation: inputRotation(config.runtime, `${at}.experts.${part}`),
    activation: activation(`${at}.experts.${part}`),
    product: options.product?.(`${at}.experts.${part}`),
  });
  return {
    shape: {
      batch: options.batch,
      tokens: options.tokens,
      heads: config.heads,
      kvHeads: config.kvHeads,
      headDim: config.headDim,
      epsilon,
      window: config.windows[layer],
      ropeMagnitude: ropeMagnitude(config.rope),
      queryKey: config.runtime.online.queryKey ? { size: hadamardBlock(config.headDim) } : undefined,
      kv: chosenKv(config, options.kv),
    },
    norm: (x, which) => rmsNorm(x, param(`${name}.${which}.weight`), { epsilon }),
    attention: () => ({
      q: linearOf(`${name}.self_attn.q_proj`),
      k: linearOf(`${name}.self_attn.k_proj`),
      v: linearOf(`${name}.self_attn.v_proj`),
      output: linearOf(`${name}.self_attn.o_proj`),
      qNorm: config.qkNorm ? param(`${name}.self_attn.q_norm.weight`) : undefined,
      kNorm: config.qkNorm ? param(`${name}.self_attn.k_norm.weight`) : undefined,
    }),
    mlp: () => mlpOf(`${name}.mlp`),
    sparse() {
      if (!experts) throw new Error(`decoder: layer ${layer} has no experts`);
      const { prefix: at } = expertNames(config, layer);
      return {
        router: { weight: param(`${at}.gate.weight`) },
        gate: stackOf(at, 'gate'),
        up: stackOf(at, 'up'),
        down: stackOf(at, 'down'),
        shared: experts.sharedSize
          ? { mlp: mlpOf(`${at}.shared_expert`), gate: { weight: param(`${at}.shared_expert_gate.weight`) } }
          : undefined,
        perToken: experts.perToken,
        normalize: experts.normalize,
      };
    },
    isSparse: experts?.sparse[layer] ?? false,
  };
}

/** The scheme that holds for a model: the one asked for, or that of its own file. */
export function chosenKv(config: DecoderConfig, choice: KvChoice): KvScheme | undefined {
  const scheme = choice === undefined ? config.runtime.kv : choice === 'none' ? undefined : choice;
  if (scheme) checkKvScheme(scheme, config);
  return scheme;
}

/** h [B·T, C] through the whole block; `scope` is the layer's path in messages. */
export function runBlock(g: GraphBuilder, h: Value, block: Block, scope: string, at: Positions, cache?: Cache): Value {
  const attended = g.scope(`${scope}.attention`, () => {
    const params = block.attention();
    return add(h, selfAttention(block.norm(h, 'input_layernorm'), params, block.shape, at, cache));
  });
  return g.scope(`${scope}.mlp`, () => {
    const x = block.norm(attended, 'post_attention_layernorm');
    return add(attended, block.isSparse ? sparseMlp(x, block.sparse()) : gatedMlp(x, block.mlp()));
  });
}

/** Positions 0 … T−1 of B windows and the rotation's frequencies, as constants of the graph. */
export function windowPositions(g: GraphBuilder, config: DecoderConfig, batch: number, tokens: number): Positions {
  const positions = Int32Array.from({ length: batch * tokens }, (_, i) => i % tokens);
  return { positions: g.constant(tensorI32([batch, tokens], positions)), frequencies: ropeFrequencies(g, config) };
}

/** Positions that a run writes, input `positions` [B, T]. */
export function writtenPositions(g: GraphBuilder, config: DecoderConfig, batch: number, tokens: number): Positions {
  return { positions: g.input('positions', i32([batch, tokens])), frequencies: ropeFrequencies(g, config) };
}

function ropeFrequencies(g: GraphBuilder, config: DecoderConfig): Value {
  const frequencies = inverseFrequencies(config.rope);
  return g.constant(tensorF32([frequencies.length], frequencies));
}
