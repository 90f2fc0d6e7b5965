// Writing new keys or values into a cache that outlives the run.
//
// The cache is a state of the graph. The output is the same memory after the write: later nodes must read the output,
// not the old value, which the memory plan enforces. Rows outside the cache are an error when the graph runs.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export const cacheWriteOp: OpDefinition<Record<string, never>> = {
  name: 'cacheWrite',
  inPlace: { 0: 0 },
  updates: true,
  noGradient: 'differentiate a graph that sees whole windows, without a cache',
  infer([cache, x, start]) {
    const shape = denseShape('cacheWrite', 'cache', cache, 4);
    const [B, S, G, D] = shape;
    const rows = denseShape('cacheWrite', 'x', x, 4);
    expectShape(
      'cacheWrite',
      'x',
      rows,
      [B, rows[1], G, D],
      'x must share batch, heads and head dimension with the cache',
    );
    if (rows[1] > S)
      throw shapeError(
        'cacheWrite',
        'x has more tokens than the cache',
        printShape(rows),
        `at most ${S} tokens`,
        'allocate a longer cache',
      );
    expectShape('cacheWrite', 'start', indexShape('cacheWrite', 'start', start), [1], 'pass one position');
    return [f32(shape)];
  },
};

/** cache [B, S, G, D] (a state), x [B, T, G, D], start i32 [1] → cache with rows start … start+T−1 replaced by x. */
export function cacheWrite(cache: Value, x: Value, start: Value): Value {
  return applyOp(cacheWriteOp, [cache, x, start], {})[0];
}
