// Looking up rows of a table. A packed table is decoded one row at a time.

import { applyOp } from '../apply.ts';
import { denseOrPackedShape, denseShape, expectShape, indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';

/** Ids outside 0 … V−1 are an error when the graph runs. */
export const embeddingOp: OpDefinition<Record<string, never>> = {
  name: 'embedding',
  infer([table, ids]) {
    const [, channels] = denseOrPackedShape('embedding', 'table', table, 2);
    return [f32([...indexShape('embedding', 'ids', ids), channels])];
  },
  gradient: perInput(({ inputs: [table, ids] }, g) => [
    () => applyOp(embeddingBackwardOp, [ids, g], { rows: table.type.shape[0] })[0],
    undefined,
  ]),
};

export interface EmbeddingBackwardAttributes {
  /** V, the rows of the table. */
  rows: number;
}

/** ids i32 [...], dy [..., C] → [V, C]: row v is the sum of the dy whose id is v, zero where there is none. */
export const embeddingBackwardOp: OpDefinition<EmbeddingBackwardAttributes> = {
  name: 'embeddingBackward',
  infer([ids, dy], { rows }) {
    const shape = denseShape('embeddingBackward', 'dy', dy, [1]);
    const found = indexShape('embeddingBackward', 'ids', ids);
    expectShape('embeddingBackward', 'ids', found, shape.slice(0, -1), 'give one id for each row of dy');
    return [f32([rows, shape[shape.length - 1]])];
  },
};

/** table [V, C] (dense or packed), ids i32 [...] → f32 [..., C]. */
export const embedding = (table: Value, ids: Value): Value => applyOp(embeddingOp, [table, ids], {})[0];
