// The weights of a decoder, whatever container they come from.
//
// Problem: everything downstream (quantizers, evaluation, writers) wants one tensor at a time under one name, and
// wants a broken checkpoint to be found out with file and tensor named, not by a bad perplexity.
// Method: open the container's WeightSource, parse its config, derive the tensors that the config calls for, and
// compare names and shapes at once (headers only) and values (NaN, infinities) when a tensor is loaded.
// It does not do: holding tensors; every load reads the file again.

import { modelError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { elementCount, printShape, type Shape, sameShape } from '../tensor/shape.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import { compressedTensorsSource, isCompressed } from './compressed-tensors.ts';
import { type DecoderConfig, parseConfig } from './config.ts';
import { firstNonFinite } from './finite.ts';
import { ggufSource } from './gguf-layout.ts';
import { checkRotations } from './runtime-layers.ts';
import { readConfigJson, safetensorsSource } from './safetensors-source.ts';
import { expectedTensors, type TensorRole } from './tensors.ts';
import type { WeightSource } from './weight-source.ts';

export interface ModelWeights {
  readonly config: DecoderConfig;
  /** The config.json object as it was read. */
  readonly hfConfig: Record<string, unknown>;
  /** Folder or file, for messages. */
  readonly location: string;
  /** Hugging Face names in the order of the forward pass. */
  names(): string[];
  shape(name: string): Shape;
  role(name: string): TensorRole;
  /** Storage format of a tensor, from headers. */
  format(name: string): Format;
  /** Reads one tensor; throws a model error naming file and tensor when it cannot be read or holds NaN or infinity. */
  load(name: string): Promise<AnyTensor>;
  /** The same without looking at the values: for reports on a broken model. */
  loadUnchecked(name: string): Promise<AnyTensor>;
}

/**
 * Opens a model and checks that its tensors are the ones its config calls for.
 *
 *     const weights = await openWeights(await openCheckpoint('models/qwen3-6m'));
 *     const q = await weights.load('model.layers.0.self_attn.q_proj.weight'); // packed bf16, [320, 256]
 */
export async function openWeights(checkpoint: Checkpoint): Promise<ModelWeights> {
  return checkWeights(await openSource(checkpoint), checkpoint.location);
}

/** The same checks over an already opened source. */
export async function checkWeights(source: WeightSource, location: string): Promise<ModelWeights> {
  const hfConfig = (await source.config()) as Record<string, unknown>;
  const config = parseConfig(hfConfig, `${location}/config.json`);
  checkRotations(config, `${location}/config.json`);
  const expected = expectedTensors(config);
  const present = new Set(source.names);
  // Some checkpoints store the tied head as well; it is the embedding by definition.
  if (config.tiedEmbeddings) present.delete('lm_head.weight');
  for (const [name, { shape }] of expected) {
    if (!present.delete(name))
      throw modelError({
        code: 'tensor-missing',
        op: 'model',
        problem: `the config calls for a tensor of shape ${printShape(shape)} that the checkpoint does not have`,
        tensor: name,
        file: location,
        fix: /-of-\d+\.(safetensors|gguf)$/.test(location)
          ? 'this file is one shard: name the folder of the model'
          : 'fetch the checkpoint again, or correct config.json',
      });
    const got = source.shape(name) ?? [];
    if (!sameShape(got, shape))
      throw modelError({
        code: 'tensor-shape',
        op: 'model',
        problem: 'shape does not match the config',
        got: printShape(got),
        expected: printShape(shape),
        tensor: name,
        file: source.file(name),
      });
  }
  for (const name of present)
    throw modelError({
      code: 'tensor-extra',
      op: 'model',
      problem: `the checkpoint has ${present.size} tensor${present.size > 1 ? 's' : ''} that the config does not explain`,
      tensor: name,
      file: source.file(name),
      fix: 'check model_type, num_hidden_layers and the bias fields of config.json',
    });
  const known = (name: string) => {
    const tensor = expected.get(name);
    if (!tensor) throw new Error(`model has no tensor ${name}`);
    return tensor;
  };
  return {
    config,
    hfConfig,
    location,
    names: () => [...expected.keys()],
    shape: (name) => known(name).shape,
    role: (name) => known(name).role,
    format: (name) => {
      known(name);
      return source.format(name);
    },
    async loadUnchecked(name) {
      known(name);
      return source.load(name);
    },
    async load(name) {
      known(name);
      const tensor = await source.load(name);
      const at = firstNonFinite(tensor);
      if (at >= 0)
        throw modelError({
          code: 'tensor-not-finite',
          op: 'model',
          problem: `NaN or infinity at element ${at}`,
          tensor: name,
          file: source.file(name),
          fix: 'the checkpoint is damaged or its training diverged; fetch it again',
        });
      return tensor;
    },
  };
}

/** Weights of a model: the elements of all its tensors. */
export function countWeights(weights: Pick<ModelWeights, 'names' | 'shape'>): number {
  return weights.names().reduce((n, name) => n + elementCount(weights.shape(name)), 0);
}

/** The same model with tensors replaced on the way, one at a time: what a quantizer hands to the evaluation. */
export function mapWeights(
  weights: ModelWeights,
  replace: (name: string, tensor: AnyTensor) => AnyTensor | Promise<AnyTensor>,
): ModelWeights {
  return { ...weights, load: async (name) => replace(name, await weights.load(name)) };
}

/** Picks the layout by container and by `quantization_config`. */
async function openSource(checkpoint: Checkpoint): Promise<WeightSource> {
  if (checkpoint.container === 'gguf') return ggufSource(checkpoint);
  if (isCompressed(await readConfigJson(checkpoint))) return compressedTensorsSource(checkpoint);
  return safetensorsSource(checkpoint);
}
