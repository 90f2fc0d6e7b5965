// The gated MLP of Llama-style decoders: down(silu(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202, SwiGLU).

import type { Value } from '../graph/graph.ts';
import { swiglu } from '../graph/ops/swiglu.ts';
import { type LinearParams, linear } from './linear.ts';

export interface MlpParams {
  /** [I, C] */
  readonly gate: LinearParams;
  /** [I, C] */
  readonly up: LinearParams;
  /** [C, I] */
  readonly down: LinearParams;
}

/** x [N, C] → [N, C]. */
export function gatedMlp(x: Value, { gate, up, down }: MlpParams): Value {
  return linear(swiglu(linear(x, gate), linear(x, up)), down);
}
