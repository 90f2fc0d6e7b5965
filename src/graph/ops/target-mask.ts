// Which targets count: 1 where a target is 0 or more, 0 where it is negative and thus ignored by the losses.

import { applyOp } from '../apply.ts';
import { indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export const targetMaskOp: OpDefinition<Record<string, never>> = {
  name: 'targetMask',
  infer: ([targets]) => [f32(indexShape('targetMask', 'targets', targets))],
};

/** targets i32 [...] → f32 [...]; its sum is the number of targets that a mean loss divides by. */
export const targetMask = (targets: Value): Value => applyOp(targetMaskOp, [targets], {})[0];
