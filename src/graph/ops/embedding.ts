// Looking up rows of a table. A packed table is decoded one row at a time.

import { applyOp } from '../apply.ts';
import { denseOrPackedShape, indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** Ids outside 0 … V−1 are an error when the graph runs. */
export const embeddingOp: OpDefinition<Record<string, never>> = {
  name: 'embedding',
  infer([table, ids]) {
    const [, channels] = denseOrPackedShape('embedding', 'table', table, 2);
    return [f32([...indexShape('embedding', 'ids', ids), channels])];
  },
};

/** table [V, C] (dense or packed), ids i32 [...] → f32 [..., C]. */
export const embedding = (table: Value, ids: Value): Value => applyOp(embeddingOp, [table, ids], {})[0];
