// The guard of a step: a loss or a norm that is not finite must leave weights and moments as they were.
//
// Where x holds a NaN or an infinity, every update that comes later in the run changes nothing, as after a data error,
// but the run ends without one: its outputs say what happened. Runs that were started behind it before it had ended
// (Executable.start) update nothing either.

import { applyOp } from '../apply.ts';
import { denseShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** x → x (same memory). */
export const holdUpdatesOp: OpDefinition<Record<string, never>> = {
  name: 'holdUpdates',
  inPlace: { 0: 0 },
  noGradient: 'differentiate before the guard is appended',
  infer: ([x]) => [f32(denseShape('holdUpdates', 'x', x))],
};

/** x, with updates behind it held where x is not finite. Use the result or make it an output, so that the node stays. */
export const holdUpdates = (x: Value): Value => applyOp(holdUpdatesOp, [x], {})[0];
