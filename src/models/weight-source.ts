// What a container layout must provide so that a model can be built from it.
//
// Problem: the same weights have different names, shapes and byte layouts in safetensors, compressed-tensors and GGUF.
// Method: each layout module turns its container into a WeightSource, which speaks the vocabulary of Hugging Face
// transformers: the config.json object, and one entry for each `nn.Linear`, norm and embedding under the name that an
// unquantized checkpoint of that family has (`model.layers.0.self_attn.q_proj.weight`; experts one by one,
// `…mlp.experts.3.gate_proj.weight`, for Mixtral `…block_sparse_moe.experts.3.w1.weight`). Checking names and shapes
// against the config is not the source's work: weights.ts does it for all of them.
//
// The layouts: safetensors-source.ts, compressed-tensors.ts (`compressedTensorsSource`), gguf-layout.ts
// (`ggufSource`).

import type { Format } from '../formats/format.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import type { Shape } from '../tensor/shape.ts';
import type { AnyTensor } from '../tensor/tensor.ts';

/** A checkpoint in the vocabulary of Hugging Face transformers. */
export interface WeightSource {
  /** The config.json object, made up from the container's metadata where there is no such file. */
  config(): Promise<unknown>;
  /** Logical tensor names: no scales, zero points or other parts of a quantized layer. */
  readonly names: Iterable<string>;
  /** Logical shape in elements, [N, K] of a linear layer however it is packed; undefined for an unknown name. */
  shape(name: string): Shape | undefined;
  /** The storage format that `load` will give, known from headers; f32 for dense tensors. Plans need it before reading. */
  format(name: string): Format;
  /**
   * One tensor. Float storage stays in its bits (packed f32/f16/bf16), quantized containers give their own codes, and
   * row orders that only the container needs (GGUF's q/k permutation) are undone. Throws a model error naming file
   * and tensor.
   */
  load(name: string): Promise<AnyTensor>;
  /** The file that holds a tensor, for messages. */
  file(name: string): string;
}

/** What compressed-tensors.ts and gguf-layout.ts export. */
export type OpenSource = (checkpoint: Checkpoint) => Promise<WeightSource>;
