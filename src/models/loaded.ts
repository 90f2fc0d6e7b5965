// A decoder whose weights are on a backend, ready to be compiled into graphs.
//
// Weights are read, put into the form that the graph takes (experts stacked, norms and biases as dense f32) and
// uploaded one at a time, so that at most one stack of experts is on the host. Several executables (prefill and step,
// two models side by side) share the buffers.

import type { Backend, Buffer } from '../backends/backend.ts';
import type { ValueType } from '../graph/graph.ts';
import { type AnyTensor, tensorF32 } from '../tensor/tensor.ts';
import type { DecoderConfig } from './config.ts';
import { denseF32, stackExperts } from './stack.ts';
import { expertNames } from './tensors.ts';
import type { ModelWeights } from './weights.ts';

export interface LoadedDecoder {
  readonly config: DecoderConfig;
  readonly backend: Backend;
  /** Graph parameters by name: Hugging Face names, and `…experts.gate|up|down` for stacks. */
  readonly buffers: ReadonlyMap<string, Buffer>;
  /** Types of the same parameters, which the graph is built from. */
  readonly types: ReadonlyMap<string, ValueType>;
  /** Bytes of all weights on the backend. */
  readonly byteLength: number;
  dispose(): void;
}

export interface LoadOptions {
  /** Called after each tensor with how many of how many are done. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/** Reads every weight and uploads it. Throws what reading throws; buffers made so far are freed then. */
export async function loadDecoder(
  weights: ModelWeights,
  backend: Backend,
  options: LoadOptions = {},
): Promise<LoadedDecoder> {
  const { config } = weights;
  const buffers = new Map<string, Buffer>();
  const dispose = () => {
    for (const buffer of buffers.values()) buffer.dispose();
    buffers.clear();
  };
  const upload = async (name: string, tensor: AnyTensor) => {
    buffers.set(name, await backend.upload(tensor));
  };
  const names = weights.names();
  const single = names.filter((name) => !/\.experts\.\d+\./.test(name));
  let done = 0;
  const step = () => {
    options.signal?.throwIfAborted();
    options.onProgress?.(++done, names.length);
  };
  try {
    for (const name of single) {
      const tensor = await weights.load(name);
      const role = weights.role(name);
      const dense = role === 'norm' || role === 'bias';
      await upload(name, dense ? tensorF32(weights.shape(name), denseF32(tensor)) : tensor);
      step();
    }
    for (const { stack, members } of expertStacks(config)) {
      const experts: AnyTensor[] = [];
      for (const name of members) {
        experts.push(await weights.load(name));
        step();
      }
      const { weight, tensorScales } = stackExperts(experts);
      await upload(stack, weight);
      if (tensorScales) await upload(`${stack}.scales`, tensorScales);
    }
  } catch (error) {
    dispose();
    throw error;
  }
  const types = new Map([...buffers].map(([name, buffer]) => [name, buffer.type]));
  const byteLength = [...buffers.values()].reduce((n, b) => n + b.byteLength, 0);
  return { config, backend, buffers, types, byteLength, dispose };
}

/** The stacks of a model and the tensors they are made of. */
export function* expertStacks(config: DecoderConfig): Generator<{ stack: string; members: string[] }> {
  const { experts } = config;
  for (let layer = 0; experts && layer < config.layers; layer++) {
    if (!experts.sparse[layer]) continue;
    const { prefix, mlp } = expertNames(config, layer);
    for (const part of ['gate', 'up', 'down'] as const)
      yield {
        stack: `${prefix}.experts.${part}`,
        members: Array.from({ length: experts.count }, (_, e) => `${prefix}.experts.${e}.${mlp[part]}.weight`),
      };
  }
}
