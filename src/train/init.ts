// A new model: its config.json from sizes, and its first weights from a seed.
//
//   matrices  N(0, σ²);  o_proj and down_proj N(0, (σ / √(2 · layers))²) where asked for;  norms 1;  biases 0
//
// Residual projections start smaller because 2 · layers of them add up (Radford et al. 2019, section 2.3). Numbers come
// from the counter-based generator keyed by (seed, tensor's number in the model), through Box-Muller in float64: the
// same on every backend, whatever else is drawn.

import { uniformSource } from '../formats/random.ts';
import { parseConfig } from '../models/config.ts';
import { type ExpectedTensor, expectedTensors } from '../models/tensors.ts';
import { checkWeights, type ModelWeights } from '../models/weights.ts';
import { elementCount } from '../tensor/shape.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';
import type { ModelOptions } from './config/sections.ts';

export interface ModelDefaults {
  /** Of the tokenizer. */
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly bos?: number;
  readonly eos?: number;
}

const classes = {
  llama: 'LlamaForCausalLM',
  mistral: 'MistralForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
  qwen3: 'Qwen3ForCausalLM',
} as const;

/** config.json of a new model, as transformers reads it. Sizes that are missing follow from the others. */
export function newModelConfig(model: ModelOptions, defaults: ModelDefaults): Record<string, unknown> {
  const { family, hiddenSize = 0, heads = 0, layers = 0 } = model;
  return {
    architectures: [classes[family]],
    model_type: family,
    vocab_size: model.vocabSize ?? defaults.vocabSize,
    hidden_size: hiddenSize,
    intermediate_size: model.mlpSize ?? gatedSize(hiddenSize),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: model.kvHeads ?? heads,
    head_dim: model.headDim ?? hiddenSize / heads,
    max_position_embeddings: model.maxPositions ?? defaults.maxPositions,
    rms_norm_eps: model.epsilon,
    // both spellings: transformers 5 and transformers 4
    rope_parameters: { rope_type: 'default', rope_theta: model.ropeBase },
    rope_theta: model.ropeBase,
    tie_word_embeddings: model.tiedEmbeddings,
    hidden_act: 'silu',
    ...(family === 'llama' && { mlp_bias: false }),
    ...((family === 'llama' || family === 'qwen3') && { attention_bias: false }),
    ...(family === 'mistral' && { sliding_window: null }),
    ...((family === 'qwen2' || family === 'qwen3') && { use_sliding_window: false, sliding_window: null }),
    initializer_range: model.initStd,
    bos_token_id: defaults.bos ?? null,
    eos_token_id: defaults.eos ?? null,
    dtype: 'bfloat16',
  };
}

/** ⌊8C/3⌋, rounded up to a multiple of 256. */
const gatedSize = (hiddenSize: number) => Math.ceil(Math.floor((8 * hiddenSize) / 3) / 256) * 256;

export interface InitOptions {
  readonly std: number;
  readonly residualScale: boolean;
  readonly seed: number;
}

/** The first weights of the model that config.json describes, made one tensor at a time when they are loaded. */
export function newWeights(hfConfig: Record<string, unknown>, options: InitOptions): Promise<ModelWeights> {
  const location = 'new model';
  const { layers, ...config } = parseConfig(hfConfig, location);
  const tensors = expectedTensors({ layers, ...config });
  const numbers = new Map([...tensors.keys()].map((name, i) => [name, i]));
  const residual = options.residualScale ? 1 / Math.sqrt(2 * layers) : 1;
  const source = {
    config: async () => hfConfig,
    names: tensors.keys(),
    shape: (name: string) => tensors.get(name)?.shape,
    format: () => ({ kind: 'float', name: 'f32' }) as const,
    file: () => location,
    async load(name: string): Promise<Tensor> {
      const tensor = tensors.get(name) as ExpectedTensor;
      const scale = /\.(o_proj|down_proj|w2)\.weight$/.test(name) ? residual : 1;
      return firstValues(tensor, options.std * scale, options.seed, numbers.get(name) ?? 0);
    },
  };
  return checkWeights(source, location);
}

function firstValues({ shape, role }: ExpectedTensor, std: number, seed: number, stream: number): Tensor {
  const data = new Float32Array(elementCount(shape));
  if (role === 'norm' || role === 'bias') return tensorF32(shape, data.fill(role === 'norm' ? 1 : 0));
  const uniform = uniformSource(seed, stream);
  for (let i = 0; i < data.length; i += 2) {
    // 1 − u is in (0, 1], so the logarithm is finite
    const radius = std * Math.sqrt(-2 * Math.log(1 - uniform.at(i)));
    const angle = 2 * Math.PI * uniform.at(i + 1);
    data[i] = radius * Math.cos(angle);
    if (i + 1 < data.length) data[i + 1] = radius * Math.sin(angle);
  }
  return tensorF32(shape, data);
}
