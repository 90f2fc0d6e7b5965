// Writing new keys or values into a cache that outlives the run.
//
// The cache is a state of the graph. The output is the same memory after the write: later nodes must read the output,
// not the old value, which the memory plan enforces. Rows outside the cache are an error when the graph runs. A packed
// cache takes rows that were quantized to its format: codes and scales are copied, nothing is rounded again.

import { hasIndependentRows } from '../../formats/empty.ts';
import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseOrPackedShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { printType, sameType } from '../value-type.ts';

export const cacheWriteOp: OpDefinition<Record<string, never>> = {
  name: 'cacheWrite',
  inPlace: { 0: 0 },
  updates: true,
  noGradient: 'differentiate a graph that sees whole windows, without a cache',
  infer([cache, x, start]) {
    const shape = denseOrPackedShape('cacheWrite', 'cache', cache, 4);
    const [B, S, G, D] = shape;
    const rows = denseOrPackedShape('cacheWrite', 'x', x, 4);
    if (!sameType({ ...cache, shape: [] }, { ...x, shape: [] }))
      throw shapeError(
        'cacheWrite',
        'x is stored in another format than the cache',
        printType(x),
        printType(cache),
        'quantize x to the format of the cache',
      );
    if (cache.dtype === 'packed' && !hasIndependentRows(cache.format))
      throw shapeError(
        'cacheWrite',
        'rows of this format share scales',
        printType(cache),
        'scales of groups, channels or tokens',
        'choose a format with scales for each row',
      );
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
    return [cache];
  },
};

/**
 * cache [B, S, G, D] (a state), x [B, T, G, D], start i32 [1] → cache with rows start … start+T−1 replaced by x. Both are
 * f32, or packed in one format.
 */
export function cacheWrite(cache: Value, x: Value, start: Value): Value {
  return applyOp(cacheWriteOp, [cache, x, start], {})[0];
}
