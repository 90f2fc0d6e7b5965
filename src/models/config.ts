// One validated description of a decoder-only transformer.
//
// Problem: config.json differs between families, between transformers 4 and 5, and omits defaults.
// Method: pick the family by `model_type` (or class name), read every field that changes the arithmetic with its
// family's default, and check the fields against each other. What is not understood and would change results is an
// error; what only matters in training (dropout, initializer, cache flags) is ignored.
// It does not do: multimodal configs, softcapping, activation functions other than SiLU.

import { modelError } from '../errors.ts';
import { architectures, type Family, families } from './families.ts';
import { Fields, problem } from './fields.ts';
import { parseRope, type RopeConfig } from './rope.ts';
import { parseRuntime, type RuntimeScheme } from './runtime-scheme.ts';

export interface ExpertsConfig {
  /** E, experts of a sparse layer. */
  count: number;
  /** k, experts that a token uses. */
  perToken: number;
  /** Width of one expert's hidden layer. */
  size: number;
  /** Width of the shared expert that every token uses; 0 for none. */
  sharedSize: number;
  /** The k router probabilities are divided by their sum. */
  normalize: boolean;
  /** For each layer: experts (true) or a plain MLP (false). */
  sparse: readonly boolean[];
}

export interface DecoderConfig {
  family: Family;
  /** V */
  vocabSize: number;
  /** C */
  hiddenSize: number;
  /** Width of the plain MLP. */
  mlpSize: number;
  layers: number;
  /** H */
  heads: number;
  /** G */
  kvHeads: number;
  /** D */
  headDim: number;
  epsilon: number;
  maxPositions: number;
  tiedEmbeddings: boolean;
  qkvBias: boolean;
  outputBias: boolean;
  mlpBias: boolean;
  qkNorm: boolean;
  rope: RopeConfig;
  /** For each layer: keys that a query sees, itself included; 0 for all. */
  windows: readonly number[];
  experts: ExpertsConfig | undefined;
  /** `dtype` / `torch_dtype` as written, for messages. */
  dtype: string | undefined;
  /** End-of-text ids; generation stops at any of them. */
  stopIds: readonly number[];
  bosId: number | undefined;
  /** Formats of activations and whatever else running the model needs beyond its weights. */
  runtime: RuntimeScheme;
}

/**
 * Reads a Hugging Face config object (transformers 4 or 5). `file` is for messages.
 * Throws a model error that names the field and what was expected.
 *
 *     const config = parseConfig(JSON.parse(text), 'models/qwen3-6m/config.json');
 */
export function parseConfig(json: unknown, file = 'config.json'): DecoderConfig {
  const f = new Fields(json, { file, path: '' });
  const family = findFamily(f);
  const traits = families[family];
  const hiddenSize = f.count('hidden_size');
  const layers = f.count('num_hidden_layers', 1024);
  const heads = f.count('num_attention_heads', 65_536);
  const kvHeads =
    f.optionalCount('num_key_value_heads', 65_536) ??
    (traits.defaultKvHeads === 'heads' ? heads : Math.min(heads, traits.defaultKvHeads));
  if (heads % kvHeads !== 0)
    throw problem(f.place, 'num_key_value_heads', kvHeads, `a divisor of num_attention_heads ${heads}`);
  const maxPositions = f.optionalCount('max_position_embeddings', 2 ** 30) ?? 32_768;
  const headDim = readHeadDim(f, family, hiddenSize, heads);
  const act = f.optionalText('hidden_act') ?? 'silu';
  if (act !== 'silu' && act !== 'swish') throw problem(f.place, 'hidden_act', act, 'silu');
  const switchOf = (value: boolean | 'attention_bias' | 'qkv_bias') =>
    typeof value === 'boolean' ? value : (f.optionalFlag(value) ?? value === 'qkv_bias');
  return {
    family,
    vocabSize: f.count('vocab_size'),
    hiddenSize,
    mlpSize: f.count('intermediate_size'),
    layers,
    heads,
    kvHeads,
    headDim,
    epsilon: f.optionalPositive('rms_norm_eps') ?? traits.defaultEpsilon,
    maxPositions,
    tiedEmbeddings: f.optionalFlag('tie_word_embeddings') ?? false,
    qkvBias: switchOf(traits.qkvBias),
    outputBias: switchOf(traits.outputBias),
    mlpBias: family === 'llama' && (f.optionalFlag('mlp_bias') ?? false),
    qkNorm: traits.qkNorm,
    rope: parseRope(f, headDim, traits.defaultRopeBase, maxPositions),
    windows: readWindows(f, family, layers),
    experts: traits.experts === 'none' ? undefined : readExperts(f, family, layers),
    dtype: f.optionalText('dtype') ?? f.optionalText('torch_dtype'),
    stopIds: readIds(f, 'eos_token_id'),
    bosId: readIds(f, 'bos_token_id')[0],
    runtime: parseRuntime(f),
  };
}

function findFamily(f: Fields): Family {
  const type = f.optionalText('model_type');
  const names = (f.optionalList('architectures') ?? []).filter((a) => typeof a === 'string');
  const byClass = names.map((name) => (Object.hasOwn(architectures, name) ? architectures[name] : undefined))[0];
  const byType = type !== undefined && Object.hasOwn(families, type) ? (type as Family) : undefined;
  const family = byType ?? (type === undefined ? byClass : undefined);
  if (!family || (names.length > 0 && !byClass))
    throw modelError({
      code: 'config-architecture',
      op: 'config',
      problem: 'unknown architecture',
      got: [type, ...names].filter(Boolean).join(' ') || 'neither model_type nor architectures',
      expected: `one of ${Object.keys(families).join(', ')} with a causal language model head`,
      file: f.place.file,
      fix: 'round-to-nearest without evaluation works on any safetensors checkpoint (--no-verify)',
    });
  if (byClass && byClass !== family)
    throw problem(f.place, 'model_type', type, `the family of ${names[0]}, which is ${byClass}`);
  return family;
}

function readHeadDim(f: Fields, family: Family, hiddenSize: number, heads: number): number {
  const { defaultHeadDim } = families[family];
  const written = f.optionalCount('head_dim', 65_536);
  const headDim = written ?? (defaultHeadDim === 'hidden/heads' ? hiddenSize / heads : defaultHeadDim);
  if (!Number.isInteger(headDim))
    throw problem(f.place, 'hidden_size', hiddenSize, `a multiple of num_attention_heads ${heads}, or a head_dim`);
  if (headDim % 2 !== 0) throw problem(f.place, 'head_dim', headDim, 'an even number');
  return headDim;
}

function readWindows(f: Fields, family: Family, layers: number): number[] {
  const { window, defaultWindow } = families[family];
  const none = new Array<number>(layers).fill(0);
  if (window === 'none') return none;
  const size = f.written('sliding_window') ? f.optionalCount('sliding_window', 2 ** 30) : defaultWindow;
  if (size === undefined) return none;
  if (window === 'all') return none.fill(size);
  if (!(f.optionalFlag('use_sliding_window') ?? false)) return none;
  const types = f.optionalList('layer_types');
  if (types) {
    if (types.length !== layers)
      throw problem(f.place, 'layer_types', types.length, `${layers} entries, one a layer (num_hidden_layers)`);
    return types.map((t) => {
      if (t !== 'full_attention' && t !== 'sliding_attention')
        throw problem(f.place, 'layer_types', t, 'full_attention or sliding_attention');
      return t === 'sliding_attention' ? size : 0;
    });
  }
  const first = f.has('max_window_layers') ? f.value('max_window_layers') : 28;
  if (typeof first !== 'number' || !Number.isInteger(first) || first < 0)
    throw problem(f.place, 'max_window_layers', first, 'a whole number');
  return none.map((_, layer) => (layer >= first ? size : 0));
}

function readExperts(f: Fields, family: Family, layers: number): ExpertsConfig {
  const traits = families[family];
  const count =
    f.optionalCount('num_experts', 4096) ?? f.optionalCount('num_local_experts', 4096) ?? traits.defaultExperts;
  const perToken = f.optionalCount('num_experts_per_tok', 4096) ?? traits.defaultExpertsPerToken;
  if (perToken > count)
    throw problem(f.place, 'num_experts_per_tok', perToken, `at most the number of experts, ${count}`);
  if (traits.experts === 'mixtral') {
    const sparse = new Array<boolean>(layers).fill(true);
    return { count, perToken, size: f.count('intermediate_size'), sharedSize: 0, normalize: true, sparse };
  }
  const step = f.optionalCount('decoder_sparse_step', 65_536) ?? 1;
  const dense = new Set(f.optionalList('mlp_only_layers') ?? []);
  if (count * layers > 100_000)
    // each is three tensors to look for: a bound on what a hostile config can ask
    throw problem(f.place, 'num_experts', count, `at most ${Math.floor(100_000 / layers)} for ${layers} layers`);
  for (const layer of dense)
    if (typeof layer !== 'number' || !Number.isInteger(layer) || layer < 0 || layer >= layers)
      throw problem(f.place, 'mlp_only_layers', layer, `layer numbers from 0 to ${layers - 1}`);
  return {
    count,
    perToken,
    size: f.count('moe_intermediate_size'),
    sharedSize: traits.sharedExpert ? f.count('shared_expert_intermediate_size') : 0,
    normalize: f.optionalFlag('norm_topk_prob') ?? false,
    sparse: Array.from({ length: layers }, (_, i) => !dense.has(i) && (i + 1) % step === 0),
  };
}

/** One id, a list of ids, or none. */
function readIds(f: Fields, name: string): number[] {
  const value = f.value(name);
  const ids = value === undefined ? [] : Array.isArray(value) ? value : [value];
  for (const id of ids)
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0) throw problem(f.place, name, id, 'token ids');
  return ids as number[];
}
