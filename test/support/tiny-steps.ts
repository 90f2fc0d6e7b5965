// Training steps of a decoder of one block under a recipe, for comparing backends: gradient descent, no weight decays.

import type { Backend } from '../../src/backends/backend.ts';
import { mapWeights } from '../../src/models/weights.ts';
import { tensorF32 } from '../../src/tensor/tensor.ts';
import { openPhases } from '../../src/train/recipes/phases.ts';
import type { RecipeName } from '../../src/train/recipes/registry.ts';
import { loadTrainable, readWeights } from '../../src/train/step.ts';
import { Trainer, type TrainerOptions } from '../../src/train/trainer.ts';
import { tinyWeights } from '../fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../fixtures/models/tiny-models.ts';

const V = 48;
const seed = 11;
const trait = 'llama, one kv head, linear rope (transformers 4)';

export type Weights = ReadonlyMap<string, Float32Array>;

export interface TinySteps {
  readonly use: RecipeName;
  /** Width of the model, and tokens of a step in sequences of 32. */
  readonly size: number;
  readonly first?: number;
  readonly last: number;
  /** Before the first of these steps; absent: new ones. */
  readonly weights?: Weights;
  readonly more?: Partial<TrainerOptions>;
}

/** Takes steps first … last on one batch; their losses, and the weights after them. */
export async function takeTinySteps(
  backend: Backend,
  { use, size, first = 1, last, weights, more }: TinySteps,
): Promise<{ losses: number[]; weights: Weights }> {
  const sizes = {
    vocab_size: V,
    hidden_size: size,
    intermediate_size: size,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 2,
  };
  const fresh = await tinyWeights(tinyModel({ ...tinyConfigs[trait], ...sizes }, 3));
  const model = await loadTrainable(
    mapWeights(fresh, (name, tensor) => (weights ? tensorF32(tensor.shape, weights.get(name)!.slice()) : tensor)),
    backend,
  );
  const batch = { sequences: size / 32, tokens: 32, accumulate: 1, recompute: false };
  const phases = openPhases(model.config, { recipe: { use, layers: [], phases: [] }, batch, steps: last, seed });
  const trainer = await Trainer.open(model, {
    ...batch,
    optimizer: { kind: 'sgd' },
    clipNorm: 1,
    decays: () => false,
    products: phases.products(0),
    ...more,
  });
  try {
    const ids = Int32Array.from({ length: size }, (_, i) => (i * 17 + 3) % V);
    const targets = ids.map((id) => (id * 3 + 1) % V);
    const losses: number[] = [];
    for (let step = first; step <= last; step++)
      losses.push(...(await trainer.step(step, [{ ids, targets }], 0.01)).losses);
    const after = new Map<string, Float32Array>();
    for await (const [name, { data }] of readWeights(model)) after.set(name, Float32Array.from(data));
    return { losses, weights: after };
  } finally {
    trainer.dispose();
  }
}
