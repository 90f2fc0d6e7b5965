import type { Backend } from '../../src/backends/backend.ts';
import type { Checkpoint } from '../../src/io/checkpoint.ts';
import { type LoadedDecoder, loadDecoder } from '../../src/models/loaded.ts';
import { denseF32 } from '../../src/models/stack.ts';
import { openWeights } from '../../src/models/weights.ts';
import { tensorF32 } from '../../src/tensor/tensor.ts';

/** A model with its weights as f32, whatever the file stores. */
export async function loadDense(checkpoint: Checkpoint, backend: Backend): Promise<LoadedDecoder> {
  const weights = await openWeights(checkpoint);
  const load = async (name: string) => tensorF32(weights.shape(name), denseF32(await weights.load(name)));
  return await loadDecoder({ ...weights, load }, backend);
}
