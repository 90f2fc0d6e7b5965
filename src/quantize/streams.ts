// Random numbers of a model's tensors: each tensor has its own stream, by its place in the model.

import type { ModelWeights } from '../models/weights.ts';

/** Stream number by tensor name; the same on every run and in every order. */
export function tensorStreams(weights: ModelWeights): Map<string, number> {
  return new Map(weights.names().map((name, i) => [name, i]));
}
