// The learned step size against hand values, and against fixed points known from numerical integration over the normal
// distribution: 1.099, 0.612 and 0.3405 standard deviations for two, three and four signed bits.

import { describe, expect, it } from 'vitest';
import type { Buffer } from '../backends/backend.ts';
import { erfc } from '../backends/reference/erf.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import type { Format } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { gradients } from './differentiate.ts';
import { clipMasked, lsq, withGradient } from './gradient-rules.ts';
import type { GradientRule } from './graph.ts';
import { add, sub } from './ops/arithmetic.ts';
import { fakeQuantize } from './ops/fake-quantize.ts';
import { dequantize, quantize } from './ops/quantize.ts';
import { mean, sum } from './ops/reduce.ts';
import { square } from './ops/unary.ts';
import { type GraphBuilder, trace } from './trace.ts';
import { f32 } from './value-type.ts';

const backend = createReferenceBackend({ precision: 'f64' });
const none = { params: new Map<string, Buffer>() };

/** y, dx and dstep of fakeQuantize under Σ y. */
async function quantizer(x: number[], step: number, grid: { low: number; high: number }, rule?: GradientRule) {
  const graph = trace((g) => {
    const [v, s] = [g.input('x', f32([x.length])), g.input('step', f32([1]))];
    const y = fakeQuantize(v, s, grid);
    const [dx, ds] = gradients(g, sum(rule ? withGradient(y, rule) : y), [v, s]);
    for (const [name, value] of Object.entries({ y, dx, ds })) g.output(name, value);
  });
  const run = await backend.compile(graph, none);
  run.write('x', Float64Array.from(x));
  run.write('step', Float64Array.of(step));
  run.run();
  const read = async (name: string) => [...(await run.read(name)).data];
  return { y: await read('y'), dx: await read('dx'), ds: (await read('ds'))[0] };
}

describe('learned step size', () => {
  const grid = { low: -2, high: 1 };

  it('has the gradients worked out by hand', async () => {
    const table = [
      { x: 0.3, y: 0.5, ds: 0.4, dx: 1 },
      { x: 0.9, y: 0.5, ds: 1, dx: 0 },
      { x: -1.3, y: -1, ds: -2, dx: 0 },
      { x: -0.7, y: -0.5, ds: 0.4, dx: 1 },
      // Ties go to even; the ends of the grid are inside.
      { x: 0.25, y: 0, ds: -0.5, dx: 1 },
      { x: -0.75, y: -1, ds: -0.5, dx: 1 },
      { x: 0.5, y: 0.5, ds: 0, dx: 1 },
      { x: -1, y: -1, ds: 0, dx: 1 },
    ];
    for (const { x, y, ds, dx } of table) {
      const found = await quantizer([x], 0.5, grid);
      expect(found.y[0], `y of ${x}`).toBeCloseTo(y, 12);
      expect(found.dx[0], `dx of ${x}`).toBe(dx);
      expect(found.ds, `ds of ${x}`).toBeCloseTo(ds, 12);
    }
  });

  it('scales the gradient of the step by 1/√(N·Q_P)', async () => {
    const x = [0.3, 0.9, -1.3, -0.7]; // shares 0.4 + 1 − 2 + 0.4
    expect((await quantizer(x, 0.5, grid)).ds).toBeCloseTo(-0.2, 12);
    expect((await quantizer(x, 0.5, grid, lsq())).ds).toBeCloseTo(-0.2 / 2, 12);
    expect((await quantizer(x, 0.5, grid, lsq({ gradientScaleElements: 100 }))).ds).toBeCloseTo(-0.02, 12);
    const wide = await quantizer([0.3], 0.5, { low: -8, high: 7 }, lsq());
    expect(wide.ds).toBeCloseTo(0.4 / Math.sqrt(7), 12);
  });

  it('keeps its gradient when the step is negative', async () => {
    const { y, ds } = await quantizer([0.3], -0.1, grid);
    expect(y[0]).toBeCloseTo(1e-8, 12); // the smallest step
    expect(ds).toBe(1);
  });

  it('takes a learned offset by composition: β gets the gradients of what is clipped (LSQ+)', async () => {
    const graph = trace((g) => {
      const [v, s, offset] = [g.input('x', f32([4])), g.input('step', f32([1])), g.input('offset', f32([1]))];
      const y = add(fakeQuantize(sub(v, offset), s, grid), offset);
      const [dx, dOffset] = gradients(g, sum(y), [v, offset]);
      g.output('y', y);
      g.output('dx', dx);
      g.output('dOffset', dOffset);
    });
    const run = await backend.compile(graph, none);
    run.write(
      'x',
      Float64Array.of(0.3, 0.9, -1.3, -0.7).map((x) => x + 0.125),
    );
    run.write('step', Float64Array.of(0.5));
    run.write('offset', Float64Array.of(0.125));
    run.run();
    const read = async (name: string) => [...(await run.read(name)).data];
    expect(await read('y')).toEqual([0.625, 0.625, -0.875, -0.375]);
    expect(await read('dx')).toEqual([1, 0, 0, 1]);
    expect(await read('dOffset')).toEqual([2]);
  });

  it.each([
    [2, 1.099],
    [3, 0.612],
    [4, 0.3405],
  ])('descends to the known step for %d bits', async (bits, known) => {
    const normal = quantiles(2001);
    const graph = trace((g) => {
      const [v, s] = [g.input('x', f32([normal.length])), g.input('step', f32([1]))];
      const y = withGradient(fakeQuantize(v, s, { low: -(2 ** (bits - 1)), high: 2 ** (bits - 1) - 1 }), lsq());
      g.output('ds', gradients(g, mean(square(sub(y, v))), [s])[0]);
    });
    const run = await backend.compile(graph, none);
    run.write('x', normal);
    // Descent moves down while the gradient is positive: where its sign changes is where it ends.
    let [low, high] = [known / 2, 2 * known];
    for (let i = 0; i < 24; i++) {
      const middle = (low + high) / 2;
      run.write('step', Float64Array.of(middle));
      run.run();
      if ((await run.read('ds')).data[0] > 0) high = middle;
      else low = middle;
    }
    expect(Math.abs(low / known - 1)).toBeLessThan(0.01);
  });
});

describe('clip-masked quantization', () => {
  const x = Float64Array.from({ length: 64 }, (_, i) => (i < 32 ? 1 : 10) * ((i % 32) - 16));

  async function masked(format: Format, rule: (g: GraphBuilder) => GradientRule) {
    const graph = trace((g) => {
      const v = g.input('x', f32([2, 32]));
      const y = dequantize(withGradient(quantize(v, format), rule(g)));
      g.output('dx', gradients(g, sum(y), [v])[0]);
    });
    const run = await backend.compile(graph, none);
    run.write('x', x);
    run.run();
    return [...(await run.read('dx')).data];
  }

  it('stops the gradient beyond clip × the largest magnitude of each row', async () => {
    const format = parseFormat('int4-channel');
    if (format.kind !== 'quant') throw new Error('int4-channel has codes');
    const expected = [...x].map((v, i) => (Math.abs(v) <= (i < 32 ? 8 : 80) ? 1 : 0));
    expect(await masked({ ...format, clip: 0.5 }, () => clipMasked())).toEqual(expected);
    expect(await masked(format, () => clipMasked())).toEqual(expected.map(() => 1));
  });

  it('takes a bound, and asks for one where the format does not tell', async () => {
    const format = parseFormat('q4_0');
    const bound = (g: GraphBuilder) => g.constant(tensorF32([2, 1], Float32Array.of(3, 70)));
    const expected = [...x].map((v, i) => (Math.abs(v) <= (i < 32 ? 3 : 70) ? 1 : 0));
    expect(await masked(format, (g) => clipMasked(bound(g)))).toEqual(expected);
    await expect(masked(format, () => clipMasked())).rejects.toThrow(
      'clipMasked: the range of x does not follow from a group, row or tensor; pass the bound',
    );
  });
});

/** Quantiles (i + 1/2)/n of the normal distribution, by bisection. */
function quantiles(n: number): Float64Array {
  return Float64Array.from({ length: n }, (_, i) => {
    let [low, high] = [-8, 8];
    for (let k = 0; k < 50; k++) {
      const middle = (low + high) / 2;
      const below = middle < 0 ? erfc(-middle / Math.SQRT2) / 2 : 1 - erfc(middle / Math.SQRT2) / 2;
      if (below < (i + 0.5) / n) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  });
}
