// Where a layer's random numbers come from.

import type { Value } from '../../graph/graph.ts';

/** What is random in a layer. */
export interface LayerKey {
  readonly seed: number;
  /** First of the layer's streams. */
  readonly stream: number;
  /** i32 [1]: number of the batch; asked for when something is drawn. */
  step(): Value;
  /** ±1 for a rotation of this length, f32 [block]. */
  signs(kind: 'fixed' | 'random', block: number): Value;
}
