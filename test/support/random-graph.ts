// Random graphs that mix elementwise ops, views, broadcasts, reductions, several results and a cache.

import fc from 'fast-check';
import type { Value } from '../../src/graph/graph.ts';
import { affine } from '../../src/graph/ops/affine.ts';
import { add } from '../../src/graph/ops/arithmetic.ts';
import { cacheWrite } from '../../src/graph/ops/cache-write.ts';
import { concat, reshape, slice } from '../../src/graph/ops/layout.ts';
import { sum } from '../../src/graph/ops/reduce.ts';
import { softmax } from '../../src/graph/ops/softmax.ts';
import { topK } from '../../src/graph/ops/top-k.ts';
import type { GraphBuilder } from '../../src/graph/trace.ts';
import { f32, i32 } from '../../src/graph/value-type.ts';
import { elementCount } from '../../src/tensor/shape.ts';

const kinds = ['affine', 'add', 'softmax', 'sum', 'reshape', 'concat', 'slice', 'cache', 'readCache', 'topK'] as const;
export type Step = readonly [(typeof kinds)[number], number, number];

/** fast-check's source of steps. */
export const randomSteps = fc.array(fc.tuple(fc.constantFrom(...kinds), fc.nat(1000), fc.nat(1000)), { maxLength: 40 });

/**
 * Builds a graph from steps; each picks earlier 2-D values by number. Inputs are `start` i32 [1], `x` [4, 3] and `z`
 * [2, 3]; parameter `w` [4, 3]; state `cache` [1, 5, 1, 3], always read after its last update.
 *
 * @param outputs numbers of the values that are outputs y0, y1, …; `all` adds every value as an output
 */
export function buildRandom(g: GraphBuilder, steps: readonly Step[], outputs: readonly number[], all = false): void {
  const start = g.input('start', i32([1]));
  const values = [g.input('x', f32([4, 3])), g.param('w', f32([4, 3])), affine(g.input('z', f32([2, 3])), {})];
  let cache = g.state('cache', f32([1, 5, 1, 3]));
  for (const [kind, i, j] of steps) {
    const a = values[i % values.length];
    const b = values[j % values.length];
    const [rows, cols] = a.type.shape;
    const sameSize = elementCount(a.type.shape) === elementCount(b.type.shape);
    const make: Record<Step[0], () => Value | undefined> = {
      affine: () => affine(a, { scale: 2 }),
      add: () => (sameSize ? add(a, reshape(b, a.type.shape)) : add(a, sum(b, { axes: [0, 1] }))),
      softmax: () => softmax(a),
      sum: () => add(a, sum(a, { axes: [j % 2], keepDims: true })),
      reshape: () => reshape(a, [cols, rows]),
      concat: () => (rows * cols < 40 && b.type.shape[1] === cols ? concat([a, b], 0) : undefined),
      slice: () => slice(a, 0, 0, Math.max(1, rows - 1)),
      cache: () => {
        if (elementCount(a.type.shape) % 3 !== 0 || elementCount(a.type.shape) > 15) return undefined;
        cache = cacheWrite(cache, reshape(a, [1, -1, 1, 3]), start);
        return undefined;
      },
      readCache: () => softmax(reshape(cache, [5, 3])),
      topK: () => topK(a, 1).values,
    };
    const made = make[kind]();
    if (made) values.push(made);
  }
  outputs.forEach((o, n) => {
    g.output(`y${n}`, values[o % values.length]);
  });
  if (all) values.forEach((v, n) => void g.output(`value ${n}`, v));
}
