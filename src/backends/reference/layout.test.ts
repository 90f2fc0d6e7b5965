import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate, real } from '../../../test/support/evaluate.ts';
import { concat, reshape, slice, transpose } from '../../graph/ops/layout.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';

/** All index tuples of a shape in row-major order. */
function indices(shape: Shape): number[][] {
  return shape.reduce<number[][]>(
    (tuples, d) => tuples.flatMap((t) => Array.from({ length: d }, (_, i) => [...t, i])),
    [[]],
  );
}

/** A tensor whose elements name their own index: 1-based digits in base 100. */
const named = (shape: Shape) =>
  real(
    shape,
    indices(shape).map((t) => t.reduce((n, i) => n * 100 + i + 1, 0)),
  );
const name = (tuple: number[]) => tuple.reduce((n, i) => n * 100 + i + 1, 0);

const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });

describe('layout kernels', () => {
  it('transpose puts x[t] where the permutation says', async () => {
    const shapeAndOrder = shapes.chain((shape) =>
      fc.tuple(fc.constant(shape), fc.shuffledSubarray([...shape.keys()], { minLength: shape.length })),
    );
    await fc.assert(
      fc.asyncProperty(shapeAndOrder, async ([shape, order]) => {
        const y = await evaluate((x) => transpose(x, order), named(shape));
        const expected = indices(order.map((d) => shape[d])).map((t) => {
          const source = new Array<number>(shape.length);
          order.forEach((d, i) => {
            source[d] = t[i];
          });
          return name(source);
        });
        expect(y).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  it('slice takes a range of one axis', async () => {
    const ranges = shapes.chain((shape) =>
      fc
        .nat(shape.length - 1)
        .chain((axis) =>
          fc
            .nat(shape[axis] - 1)
            .chain((start) =>
              fc.tuple(fc.constant({ shape, axis, start }), fc.integer({ min: 1, max: shape[axis] - start })),
            ),
        ),
    );
    await fc.assert(
      fc.asyncProperty(ranges, async ([{ shape, axis, start }, length]) => {
        const y = await evaluate((x) => slice(x, axis, start, length), named(shape));
        const inside = indices(shape).filter((t) => t[axis] >= start && t[axis] < start + length);
        expect(y).toEqual(inside.map(name));
      }),
      { numRuns: 60 },
    );
  });

  it('concat undoes slicing along any axis', async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.nat(3), fc.nat(10), async (shape, axisSeed, cutSeed) => {
        const axis = axisSeed % shape.length;
        const size = shape[axis] + 1; // at least two entries to cut between
        const whole = shape.map((d, i) => (i === axis ? size : d));
        const cut = 1 + (cutSeed % (size - 1));
        const x = named(whole);
        const y = await evaluate((v) => concat([slice(v, axis, 0, cut), slice(v, axis, cut, size - cut)], axis), x);
        expect(y).toEqual([...x.data]);
      }),
      { numRuns: 60 },
    );
  });

  it('reshape keeps the order of elements', async () => {
    const x = named([2, 3, 4]);
    expect(await evaluate((v) => reshape(v, [4, -1]), x)).toEqual([...x.data]);
    expect(elementCount(x.shape)).toBe(24);
  });
});
