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
export const gatedMlp = (x: Value, p: MlpParams): Value => linear(gatedHidden(x, p), p.down);

/** Everything before the last product: x [N, C] → [N, I]. */
export const gatedHidden = (x: Value, { gate, up }: MlpParams): Value => swiglu(linear(x, gate), linear(x, up));
