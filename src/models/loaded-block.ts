// The weights of one block on a backend, for work that goes through a model block by block.
//
// At most one block is there at a time; single tensors (and experts within their stack) are replaced while it is worked
// on, so that the next stage runs on what the last one left.

import type { Backend, Buffer } from '../backends/backend.ts';
import type { ValueType } from '../graph/graph.ts';
import { type AnyTensor, tensorF32 } from '../tensor/tensor.ts';
import { expertStacks } from './loaded.ts';
import { denseF32, stackExperts } from './stack.ts';
import type { ModelWeights } from './weights.ts';

export interface LoadedBlock {
  /** Tensors of the block by checkpoint name, as they are now. */
  readonly tensors: ReadonlyMap<string, AnyTensor>;
  readonly types: ReadonlyMap<string, ValueType>;
  readonly buffers: ReadonlyMap<string, Buffer>;
  /** Puts other tensors of the same shapes in place of some. */
  replace(tensors: ReadonlyMap<string, AnyTensor>): Promise<void>;
  dispose(): void;
}

/** Names of a block's tensors, in the order of the forward pass. */
export function blockTensors(weights: Pick<ModelWeights, 'names'>, layer: number): string[] {
  return weights.names().filter((name) => name.startsWith(`model.layers.${layer}.`));
}

/** Reads the tensors of layer `layer` and uploads them. Throws what reading throws. */
export async function loadBlock(weights: ModelWeights, layer: number, backend: Backend): Promise<LoadedBlock> {
  const tensors = new Map<string, AnyTensor>();
  for (const name of blockTensors(weights, layer)) tensors.set(name, await weights.load(name));
  const buffers = new Map<string, Buffer>();
  const types = new Map<string, ValueType>();
  const put = async (name: string, tensor: AnyTensor) => {
    buffers.get(name)?.dispose();
    const buffer = await backend.upload(tensor);
    buffers.set(name, buffer);
    types.set(name, buffer.type);
  };
  const drop = (name: string) => {
    buffers.get(name)?.dispose();
    buffers.delete(name);
    types.delete(name);
  };
  const stacks = [...expertStacks(weights.config)].filter(({ stack }) => stack.startsWith(`model.layers.${layer}.`));
  const stacked = new Set(stacks.flatMap(({ members }) => members));
  const upload = async (changed: ReadonlySet<string>) => {
    for (const name of changed) {
      if (stacked.has(name)) continue;
      const tensor = tensors.get(name) as AnyTensor;
      const role = weights.role(name);
      const dense = role === 'norm' || role === 'bias';
      await put(name, dense ? tensorF32(tensor.shape, denseF32(tensor)) : tensor);
    }
    for (const { stack, members } of stacks) {
      if (!members.some((name) => changed.has(name))) continue;
      const { weight, tensorScales } = stackExperts(members.map((name) => tensors.get(name) as AnyTensor));
      await put(stack, weight);
      if (tensorScales) await put(`${stack}.scales`, tensorScales);
      else drop(`${stack}.scales`);
    }
  };
  const dispose = () => {
    for (const buffer of buffers.values()) buffer.dispose();
    buffers.clear();
  };
  try {
    await upload(new Set(tensors.keys()));
  } catch (error) {
    dispose();
    throw error;
  }
  return {
    tensors,
    types,
    buffers,
    async replace(changed) {
      for (const [name, tensor] of changed) {
        if (!tensors.has(name)) throw new Error(`loadBlock: layer ${layer} has no tensor ${name}`);
        tensors.set(name, tensor);
      }
      await upload(new Set(changed.keys()));
    },
    dispose,
  };
}
