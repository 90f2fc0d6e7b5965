// The `general.*` and architecture keys of a GGUF file, from a config.
//
// Problem: llama.cpp builds the network from these keys; a missing one is an abort or, worse, another model (no
// head_count_kv: no grouped queries; no freq_base: other rotations).
// Method: every value that llama.cpp reads is written out, defaults included, with the type that it expects (counts u32,
// epsilons and frequencies f32). Llama 3's rotary rescaling is not a key but the tensor rope_freqs.weight: a divisor for
// each frequency.
// Source: the GGUF specification; llama.cpp, src/llama-model.cpp and conversion/base.py.
// It does not do: networks that llama.cpp's graph of the architecture computes differently; those are refused, and what
// only matters on long texts is returned as a note.

import { modelError } from '../errors.ts';
import type { GgufEntry } from '../io/gguf-types.ts';
import type { DecoderConfig } from './config.ts';
import { ggufArchitecture } from './gguf-names.ts';
import { inverseFrequencies } from './rope.ts';

export interface ArchitectureKeys {
  entries: GgufEntry[];
  /** Where llama.cpp will compute something else than the config says, in a sentence each. */
  notes: string[];
  /** rope_freqs.weight, D/2 values, when the config rescales as Llama 3 does. */
  ropeFactors: Float32Array | undefined;
}

/** Keys of `general.architecture` and below the architecture's name. Throws a model error for what cannot be run. */
export function architectureKeys(config: DecoderConfig): ArchitectureKeys {
  const architecture = ggufArchitecture[config.family];
  checkRunnable(config, architecture);
  const entries: GgufEntry[] = [];
  const u32 = (key: string, value: number) => entries.push({ key: `${architecture}.${key}`, type: 'u32', value });
  const f32 = (key: string, value: number) => entries.push({ key: `${architecture}.${key}`, type: 'f32', value });
  u32('block_count', config.layers);
  u32('context_length', config.maxPositions);
  u32('embedding_length', config.hiddenSize);
  u32('feed_forward_length', config.mlpSize);
  u32('attention.head_count', config.heads);
  u32('attention.head_count_kv', config.kvHeads);
  u32('attention.key_length', config.headDim);
  u32('attention.value_length', config.headDim);
  f32('attention.layer_norm_rms_epsilon', config.epsilon);
  u32('rope.dimension_count', config.rope.dimensions);
  f32('rope.freq_base', config.rope.base);
  u32('vocab_size', config.vocabSize);
  const { experts } = config;
  if (experts) {
    u32('expert_count', experts.count);
    u32('expert_used_count', experts.perToken);
    if (config.family !== 'mixtral') u32('expert_feed_forward_length', experts.size);
    if (experts.sharedSize > 0) u32('expert_shared_feed_forward_length', experts.sharedSize);
  }
  const notes = windowEntries(config, u32);
  ropeEntries(config, architecture, entries, notes);
  const llama3 = config.rope.scaling.kind === 'llama3';
  return { entries, notes, ropeFactors: llama3 ? ropeFactors(config) : undefined };
}

function checkRunnable(config: DecoderConfig, architecture: string): void {
  const { experts } = config;
  const refuse = (problem: string): never => {
    throw modelError({
      code: 'gguf-architecture',
      op: 'write GGUF',
      problem: `llama.cpp's ${architecture} graph ${problem}`,
      fix: 'write safetensors instead',
    });
  };
  if (experts?.sparse.some((s) => !s)) refuse('has experts in every layer, this model has layers without');
  const normalizes = architecture !== 'qwen2moe';
  if (experts && experts.normalize !== normalizes)
    refuse(`${normalizes ? 'always' : 'never'} normalizes the router weights, this model (norm_topk_prob) differs`);
  if (architecture === 'qwen2moe' && config.tiedEmbeddings) refuse('needs an output matrix of its own');
  if (architecture === 'qwen2moe' && config.headDim * config.heads !== config.hiddenSize)
    refuse('needs heads × head_dim to be hidden_size');
}

function windowEntries(config: DecoderConfig, u32: (key: string, value: number) => void): string[] {
  const sizes = new Set(config.windows);
  const size = Math.max(...config.windows);
  if (size === 0) return [];
  if (sizes.size === 1) u32('attention.sliding_window', size);
  if (size >= config.maxPositions) return [];
  return [`llama.cpp attends to all tokens: beyond ${size} tokens its results differ from sliding-window attention`];
}

function ropeEntries(config: DecoderConfig, architecture: string, entries: GgufEntry[], notes: string[]): void {
  const s = config.rope.scaling;
  const at = `${architecture}.rope.scaling`;
  const f32 = (key: string, value: number) => entries.push({ key: `${at}.${key}`, type: 'f32', value });
  if (s.kind === 'default') return;
  // The divisors alone do not tell the parameters: kept for reading the file back.
  if (s.kind === 'llama3')
    return void entries.push({ key: 'subbyte.rope_scaling', type: 'string', value: JSON.stringify(llama3Json(s)) });
  entries.push({ key: `${at}.type`, type: 'string', value: s.kind });
  f32('factor', s.factor);
  if (s.kind === 'linear') return;
  entries.push({ key: `${at}.original_context_length`, type: 'u32', value: s.originalPositions });
  f32('yarn_beta_fast', s.betaFast);
  f32('yarn_beta_slow', s.betaSlow);
  const usual = 0.1 * Math.log(s.factor) + 1; // what llama.cpp multiplies by itself
  if (Math.abs(s.magnitude / usual - 1) > 1e-6) f32('attn_factor', s.magnitude / usual);
  if (!s.truncate) notes.push('llama.cpp rounds the borders of the YaRN ramp, the config (truncate: false) does not');
}

/** `rope_scaling` of transformers for Llama 3. */
export function llama3Json(s: DecoderConfig['rope']['scaling'] & { kind: 'llama3' }): Record<string, unknown> {
  return {
    rope_type: 'llama3',
    factor: s.factor,
    low_freq_factor: s.lowFrequency,
    high_freq_factor: s.highFrequency,
    original_max_position_embeddings: s.originalPositions,
  };
}

/** base^(−2i/R) divided by the rescaled frequency, R/2 values from 1 to factor. */
export function ropeFactors(config: DecoderConfig): Float32Array {
  const { base, dimensions } = config.rope;
  const scaled = inverseFrequencies(config.rope);
  return scaled.map((theta, i) => base ** ((-2 * i) / dimensions) / theta);
}
