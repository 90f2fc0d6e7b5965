// The supported decoder families and what their configs leave unsaid.
//
// Each family differs from Llama in a few switches; a config.json written by transformers may omit whatever equals the
// default of its configuration class, so those defaults are part of the format (transformers 4.57 and 5.17,
// configuration_<family>.py).

export type Family = 'llama' | 'mistral' | 'qwen2' | 'qwen3' | 'mixtral' | 'qwen2_moe' | 'qwen3_moe';

export interface FamilyTraits {
  /** Biases of the q/k/v projections and of the output projection; 'config' follows `attention_bias`. */
  readonly qkvBias: boolean | 'attention_bias' | 'qkv_bias';
  readonly outputBias: boolean | 'attention_bias';
  /** RMSNorm over each head of q and k before rotation. */
  readonly qkNorm: boolean;
  /** Where experts live: none, Mixtral's names, or Qwen's names. */
  readonly experts: 'none' | 'mixtral' | 'qwen';
  readonly sharedExpert: boolean;
  /** 'all': every layer slides when `sliding_window` is set; 'upper': layers from `max_window_layers` on, Qwen. */
  readonly window: 'none' | 'all' | 'upper';
  readonly defaultWindow: number | undefined;
  readonly defaultKvHeads: number | 'heads';
  readonly defaultHeadDim: number | 'hidden/heads';
  readonly defaultRopeBase: number;
  readonly defaultEpsilon: number;
  readonly defaultExperts: number;
  readonly defaultExpertsPerToken: number;
}

const llama: FamilyTraits = {
  qkvBias: 'attention_bias',
  outputBias: 'attention_bias',
  qkNorm: false,
  experts: 'none',
  sharedExpert: false,
  window: 'none',
  defaultWindow: undefined,
  defaultKvHeads: 'heads',
  defaultHeadDim: 'hidden/heads',
  defaultRopeBase: 10_000,
  defaultEpsilon: 1e-6,
  defaultExperts: 0,
  defaultExpertsPerToken: 0,
};

export const families: Readonly<Record<Family, FamilyTraits>> = {
  llama,
  mistral: {
    ...llama,
    qkvBias: false,
    outputBias: false,
    window: 'all',
    defaultWindow: 4096,
    defaultKvHeads: 8,
  },
  qwen2: { ...llama, qkvBias: true, outputBias: false, window: 'upper', defaultWindow: 4096, defaultKvHeads: 32 },
  qwen3: { ...llama, qkNorm: true, window: 'upper', defaultWindow: 4096, defaultKvHeads: 32, defaultHeadDim: 128 },
  mixtral: {
    ...llama,
    qkvBias: false,
    outputBias: false,
    experts: 'mixtral',
    window: 'all',
    defaultKvHeads: 8,
    defaultRopeBase: 1_000_000,
    defaultEpsilon: 1e-5,
    defaultExperts: 8,
    defaultExpertsPerToken: 2,
  },
  qwen2_moe: {
    ...llama,
    qkvBias: 'qkv_bias',
    outputBias: false,
    experts: 'qwen',
    sharedExpert: true,
    window: 'upper',
    defaultWindow: 4096,
    defaultKvHeads: 16,
    defaultExperts: 60,
    defaultExpertsPerToken: 4,
  },
  qwen3_moe: {
    ...llama,
    qkNorm: true,
    experts: 'qwen',
    window: 'upper',
    defaultWindow: 4096,
    defaultKvHeads: 4,
    defaultExperts: 128,
    defaultExpertsPerToken: 8,
  },
};

/** Model classes whose `model_type` is missing or nested are found by class name. */
export const architectures: Readonly<Record<string, Family>> = {
  LlamaForCausalLM: 'llama',
  MistralForCausalLM: 'mistral',
  Qwen2ForCausalLM: 'qwen2',
  Qwen3ForCausalLM: 'qwen3',
  MixtralForCausalLM: 'mixtral',
  Qwen2MoeForCausalLM: 'qwen2_moe',
  Qwen3MoeForCausalLM: 'qwen3_moe',
};
