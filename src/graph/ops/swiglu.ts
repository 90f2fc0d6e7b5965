// The gated activation of Llama's feed-forward layer (Shazeer 2020, "GLU variants improve transformer"):
// silu(gate) · up.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** y[i] = gate[i] · sigmoid(gate[i]) · up[i]; both inputs have one shape. */
export const swigluOp: OpDefinition<Record<string, never>> = {
  name: 'swiglu',
  elementwise: true,
  infer([gate, up]) {
    const shape = denseShape('swiglu', 'gate', gate);
    expectShape('swiglu', 'up', denseShape('swiglu', 'up', up), shape, 'give both projections the same width');
    return [f32(shape)];
  },
  flops: ([gate]) => 3 * elementCount(gate.shape),
  gradient: ({ inputs: [gate, up] }, [g]) => (g ? applyOp(swigluBackwardOp, [gate, up, g], {}) : []),
};

/** gate, up, dy → dgate, dup: both gradients from one pass over the three. */
export const swigluBackwardOp: OpDefinition<Record<string, never>> = {
  name: 'swigluBackward',
  elementwise: true,
  infer([gate, up, dy]) {
    const shape = denseShape('swigluBackward', 'gate', gate);
    expectShape('swigluBackward', 'up', denseShape('swigluBackward', 'up', up), shape, 'gate and up have one shape');
    expectShape('swigluBackward', 'dy', denseShape('swigluBackward', 'dy', dy), shape, 'dy has the shape of gate');
    return [f32(shape), f32(shape)];
  },
  flops: ([gate]) => 8 * elementCount(gate.shape),
};

/** silu(gate) · up. */
export const swiglu = (gate: Value, up: Value): Value => applyOp(swigluOp, [gate, up], {})[0];
