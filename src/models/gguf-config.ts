// config.json of transformers, made up from the keys of a GGUF file: the inverse of gguf-metadata.ts.
//
// Every value is taken from a key where there is one; otherwise it follows from the tensors (tied embeddings: no
// output.weight; biases: the tensor is there) or from llama.cpp's graph of the architecture (whether router weights are
// normalized). Llama and Mistral are one architecture to llama.cpp; files of this project say which, others are Mistral
// when they have a sliding window. f32 values are printed with the fewest digits that give the same f32 (1e-6, not
// 9.99999997e-7). The result is checked by parseConfig like any config.json.

import { modelError } from '../errors.ts';
import type { Checkpoint, MetadataValue } from '../io/checkpoint.ts';
import { parseConfig } from './config.ts';
import { architectures, type Family } from './families.ts';
import { llama3Json, ropeFactors } from './gguf-metadata.ts';

const op = 'read GGUF';

/** The family of a file, from general.architecture. Throws a model error for architectures that are not supported. */
export function ggufFamily(checkpoint: Checkpoint): Family {
  const name = checkpoint.metadata.get('general.architecture');
  const named = checkpoint.metadata.get('subbyte.model_type');
  switch (name) {
    case 'llama': {
      if (numberOf(checkpoint, 'llama.expert_count')) return 'mixtral';
      if (named === 'mistral' || named === 'llama') return named;
      return numberOf(checkpoint, 'llama.attention.sliding_window') ? 'mistral' : 'llama';
    }
    case 'qwen2':
    case 'qwen3':
      return name;
    case 'qwen2moe':
      return 'qwen2_moe';
    case 'qwen3moe':
      return 'qwen3_moe';
  }
  throw modelError({
    code: 'gguf-architecture',
    op,
    problem: 'unknown architecture',
    got: typeof name === 'string' ? name.slice(0, 60) : 'no general.architecture',
    expected: 'llama, qwen2, qwen3, qwen2moe or qwen3moe',
    file: checkpoint.location,
  });
}

/** The config.json object. `ropeDivisors` are the values of rope_freqs.weight, when the file has that tensor. */
export function ggufConfig(checkpoint: Checkpoint, ropeDivisors?: Float32Array): Record<string, unknown> {
  const family = ggufFamily(checkpoint);
  const architecture = checkpoint.metadata.get('general.architecture') as string;
  const { tensors } = checkpoint;
  const at = (key: string) => checkpoint.metadata.get(`${architecture}.${key}`);
  const optional = (key: string) => plain(at(key));
  const required = (key: string) => {
    const value = optional(key);
    if (value !== undefined) return value;
    throw modelError({
      code: 'gguf-key',
      op,
      problem: `the metadata has no ${architecture}.${key}`,
      file: checkpoint.location,
      fix: 'convert the model again',
    });
  };
  const heads = required('attention.head_count');
  const experts = expertFields(family, optional);
  const windowed = family === 'mistral' || family === 'mixtral';
  const config: Record<string, unknown> = {
    architectures: [Object.keys(architectures).find((name) => architectures[name] === family)],
    model_type: family,
    vocab_size: tensors.get('token_embd.weight')?.shape[0] ?? optional('vocab_size'),
    hidden_size: required('embedding_length'),
    intermediate_size: required('feed_forward_length'),
    num_hidden_layers: required('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: optional('attention.head_count_kv') ?? heads,
    head_dim: optional('attention.key_length'),
    hidden_act: 'silu',
    rms_norm_eps: required('attention.layer_norm_rms_epsilon'),
    max_position_embeddings: required('context_length'),
    tie_word_embeddings: !tensors.has('output.weight'),
    ...experts,
    sliding_window: windowed ? (optional('attention.sliding_window') ?? null) : null,
    bos_token_id: plain(checkpoint.metadata.get('tokenizer.ggml.bos_token_id')) ?? null,
    eos_token_id: plain(checkpoint.metadata.get('tokenizer.ggml.eos_token_id')) ?? null,
    dtype: { F16: 'float16', BF16: 'bfloat16' }[tensors.get('token_embd.weight')?.dtype ?? ''] ?? 'float32',
  };
  const biased = tensors.has('blk.0.attn_q.bias');
  if (family === 'llama' || family === 'qwen3' || family === 'qwen3_moe') config.attention_bias = biased;
  if (family === 'qwen2_moe') config.qkv_bias = biased;
  if (family === 'llama') config.mlp_bias = tensors.has('blk.0.ffn_up.bias');
  if (config.head_dim === undefined) delete config.head_dim;
  config.rope_theta = optional('rope.freq_base') ?? 10_000;
  const rotated = Number(optional('rope.dimension_count') ?? 0);
  const headDim = Number(config.head_dim ?? Number(config.hidden_size) / Number(heads));
  if (rotated > 0 && rotated !== headDim) config.partial_rotary_factor = rotated / headDim;
  config.rope_scaling = ropeScaling(checkpoint, optional, config, ropeDivisors);
  return config;
}

function expertFields(family: Family, optional: (key: string) => unknown): Record<string, unknown> {
  const count = optional('expert_count');
  const perToken = optional('expert_used_count');
  if (family === 'mixtral') return { num_local_experts: count, num_experts_per_tok: perToken };
  if (family !== 'qwen2_moe' && family !== 'qwen3_moe') return {};
  return {
    num_experts: count,
    num_experts_per_tok: perToken,
    moe_intermediate_size: optional('expert_feed_forward_length'),
    ...(family === 'qwen2_moe'
      ? { shared_expert_intermediate_size: optional('expert_shared_feed_forward_length') }
      : {}),
    norm_topk_prob: family === 'qwen3_moe',
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  };
}

function ropeScaling(
  checkpoint: Checkpoint,
  optional: (key: string) => unknown,
  config: Record<string, unknown>,
  divisors: Float32Array | undefined,
): Record<string, unknown> | null {
  if (divisors) return llama3Scaling(checkpoint, config, divisors);
  const type = optional('rope.scaling.type');
  const factor = Number(optional('rope.scaling.factor') ?? 1);
  if (type === undefined || type === 'none') return null;
  if (type !== 'yarn') return { rope_type: type, factor };
  const attention = optional('rope.scaling.attn_factor');
  const scaling: Record<string, unknown> = {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: optional('rope.scaling.original_context_length'),
    beta_fast: optional('rope.scaling.yarn_beta_fast') ?? 32,
    beta_slow: optional('rope.scaling.yarn_beta_slow') ?? 1,
  };
  if (attention !== undefined) scaling.attention_factor = Number(attention) * (0.1 * Math.log(factor) + 1);
  return scaling;
}

/** The parameters that give these divisors: what the file says, else those that Llama 3.1 and 3.2 use. */
function llama3Scaling(
  checkpoint: Checkpoint,
  config: Record<string, unknown>,
  divisors: Float32Array,
): Record<string, unknown> {
  const stated = checkpoint.metadata.get('subbyte.rope_scaling');
  const usual = { kind: 'llama3' as const, lowFrequency: 1, highFrequency: 4, originalPositions: 8192 };
  const factor = Math.max(...divisors);
  const candidates = [
    ...(typeof stated === 'string' ? [parseObject(stated)] : []),
    llama3Json({ ...usual, factor: Number.isFinite(factor) && factor > 0 ? Number(factor.toPrecision(6)) : 1 }),
  ];
  for (const candidate of candidates) {
    const parsed = parseConfig({ ...config, rope_scaling: candidate }, checkpoint.location);
    if (parsed.rope.scaling.kind !== 'llama3') continue;
    const expected = ropeFactors(parsed);
    const near = (x: number, i: number) => Math.abs(x / divisors[i] - 1) < 1e-4;
    if (expected.length === divisors.length && expected.every(near)) return candidate;
  }
  throw modelError({
    code: 'gguf-rope-freqs',
    op,
    problem: 'the frequency divisors do not follow the Llama 3 rule with its usual parameters',
    tensor: 'rope_freqs.weight',
    file: checkpoint.location,
  });
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // the file may say anything; the divisors decide
  }
  return {};
}

const numberOf = (checkpoint: Checkpoint, key: string) => Number(checkpoint.metadata.get(key) ?? 0);

/** Numbers as JSON has them: bigint to number, f32 with the fewest digits that give the same f32. */
function plain(value: MetadataValue | undefined): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'number' || Number.isInteger(value) || Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
