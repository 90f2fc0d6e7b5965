// Trained grids against hand values, and against steps and errors that numerical integration over the normal
// distribution gives.

import { describe, expect, it } from 'vitest';
import type { Buffer } from '../backends/backend.ts';
import { erfc } from '../backends/reference/erf.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { gradients } from './differentiate.ts';
import { stopGradient, withGradient } from './gradient-rules.ts';
import type { GradientRule, Value } from './graph.ts';
import { lsq, lsqPlus, type SeqOptions, seq } from './learned-grids.ts';
import { div, mul, sub } from './ops/arithmetic.ts';
import { fakeQuantize } from './ops/fake-quantize.ts';
import { mean, sum } from './ops/reduce.ts';
import { square } from './ops/unary.ts';
import { trace } from './trace.ts';
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

  // z = (x + 0.25) / 0.5 for four unsigned levels, as for values with the tail of SiLU.
  it('takes a learned offset: β gets the gradients of what is clipped (LSQ+)', async () => {
    const table = [
      { x: 0.3, y: 0.25, dx: 1, ds: -0.1, dOffset: 0 },
      { x: -0.6, y: -0.25, dx: 0, ds: 0, dOffset: 1 },
      { x: 1.5, y: 1.25, dx: 0, ds: 3, dOffset: 1 },
      { x: -0.3, y: -0.25, dx: 0, ds: 0, dOffset: 1 },
    ];
    const graph = trace((g) => {
      const [v, s, offset] = [g.input('x', f32([4])), g.input('step', f32([1])), g.input('offset', f32([1]))];
      const y = lsqPlus(v, s, offset, { low: 0, high: 3 });
      const [dx, ds, dOffset] = gradients(g, sum(y), [v, s, offset]);
      for (const [name, value] of Object.entries({ y, dx, ds, dOffset })) g.output(name, value);
    });
    const run = await backend.compile(graph, none);
    run.write(
      'x',
      Float64Array.from(table, ({ x }) => x),
    );
    run.write('step', Float64Array.of(0.5));
    run.write('offset', Float64Array.of(-0.25));
    run.run();
    const read = async (name: string) => [...(await run.read(name)).data];
    for (const [i, y] of (await read('y')).entries()) expect(y).toBeCloseTo(table[i].y, 12);
    expect(await read('dx')).toEqual(table.map(({ dx }) => dx));
    const scale = 1 / Math.sqrt(4 * 3); // N = 4, Q_P = 3
    expect((await read('ds'))[0]).toBeCloseTo(2.9 * scale, 12);
    expect((await read('dOffset'))[0]).toBeCloseTo(3 * scale, 12);
  });
});

describe('steps and errors over the normal distribution, from numerical integration', () => {
  const normal = quantiles(4001);

  /** Mean squared error, and its gradient by the step, of a quantizer at a step. */
  async function measure(quantizerOf: (v: Value, step: Value) => Value) {
    const graph = trace((g) => {
      const [v, s] = [g.input('x', f32([normal.length])), g.input('step', f32([1]))];
      const error = mean(square(sub(quantizerOf(v, s), v)));
      g.output('error', error);
      g.output('ds', gradients(g, error, [s])[0]);
    });
    const run = await backend.compile(graph, none);
    run.write('x', normal);
    return async (step: number) => {
      run.write('step', Float64Array.of(step));
      run.run();
      return { error: (await run.read('error')).data[0], ds: (await run.read('ds')).data[0] };
    };
  }

  /** Descent moves down while the gradient is positive: where its sign changes is where it ends. */
  async function descend(at: Awaited<ReturnType<typeof measure>>, near: number): Promise<number> {
    let [low, high] = [near / 2, 2 * near];
    for (let i = 0; i < 24; i++) {
      const middle = (low + high) / 2;
      if ((await at(middle)).ds > 0) high = middle;
      else low = middle;
    }
    return low;
  }

  const signed = (bits: number) => ({ low: -(2 ** (bits - 1)), high: 2 ** (bits - 1) - 1 });

  // bits; where the LSQ rule ends; the step of least error and that error; another step (LSQ's initial one) and its error
  it.each([
    [2, 1.099, 1.049, 0.1496, 1.599, 0.222],
    [3, 0.612, 0.603, 0.0407, 0.923, 0.0714],
    [4, 0.3405, 0.339, 0.01185, 0.604, 0.0304],
  ])('%d bits', async (bits, learned, best, least, initial, initialError) => {
    const lsqAt = await measure((v, s) => withGradient(fakeQuantize(v, s, signed(bits)), lsq()));
    expect(Math.abs((await descend(lsqAt, learned)) / learned - 1)).toBeLessThan(0.01);
    // The levels held fixed: s times whole numbers that have no gradient, whose descent ends at the least error.
    const exactAt = await measure((v, s) => mul(s, stopGradient(div(fakeQuantize(v, s, signed(bits)), s))));
    expect(Math.abs((await descend(exactAt, best)) / best - 1)).toBeLessThan(0.01);
    expect(Math.abs((await lsqAt(best)).error / least - 1)).toBeLessThan(0.01);
    expect(Math.abs((await lsqAt(initial)).error / initialError - 1)).toBeLessThan(0.01);
  });

  it.each([
    [2, 2.0, 0.1192],
    ['ternary', 1.835, 0.1908],
  ] as const)('stretched levels, %s', async (bits, best, least) => {
    const at = await measure((v, alpha) => seq(v, alpha, bits));
    expect(Math.abs((await at(best)).error / least - 1)).toBeLessThan(0.01);
    for (const other of [0.9 * best, 1.1 * best])
      expect((await at(other)).error).toBeGreaterThan((await at(best)).error);
  });
});

describe('stretched elastic quantization', () => {
  async function stretched(w: number[], bits: number | 'ternary', options?: SeqOptions) {
    const graph = trace((g) => {
      const [v, alpha] = [g.input('w', f32([1, w.length])), g.input('alpha', f32([1, 1]))];
      const y = seq(v, alpha, bits, options);
      const [dw, dAlpha] = gradients(g, sum(y), [v, alpha]);
      for (const [name, value] of Object.entries({ y, dw, dAlpha })) g.output(name, value);
    });
    const run = await backend.compile(graph, none);
    run.write('w', Float64Array.from(w));
    run.write('alpha', Float64Array.of(1));
    run.run();
    const read = async (name: string) => [...(await run.read(name)).data];
    return { y: await read('y'), dw: await read('dw'), dAlpha: (await read('dAlpha'))[0] };
  }

  it('has two-bit levels ±1/4 and ±3/4 of alpha, and the gradients worked out by hand', async () => {
    const table = [
      { w: 0.3, y: 0.25, dw: 1, dAlpha: -0.05 },
      { w: 0.8, y: 0.75, dw: 1, dAlpha: -0.05 },
      { w: 0.995, y: 0.75, dw: 0, dAlpha: 0.75 },
      { w: -0.1, y: -0.25, dw: 1, dAlpha: -0.15 },
      { w: -1.2, y: -0.75, dw: 0, dAlpha: -0.75 },
      { w: 0, y: 0.25, dw: 1, dAlpha: 0.25 },
    ];
    for (const { w, y, dw, dAlpha } of table) {
      const found = await stretched([w], 2);
      expect(found.y[0], `y of ${w}`).toBeCloseTo(y, 12);
      expect(found.dw[0], `dw of ${w}`).toBe(dw);
      expect(found.dAlpha, `dAlpha of ${w}`).toBeCloseTo(dAlpha, 12);
    }
    const all = table.map(({ w }) => w);
    expect((await stretched(all, 2)).dAlpha).toBeCloseTo(0 / Math.sqrt(6), 12); // the shares sum to 0
    expect((await stretched([0.3, 1.2, 1.2, 1.2], 2)).dAlpha).toBeCloseTo(2.2 / Math.sqrt(4), 12);
  });

  it('has ternary levels, with either gradient beyond them', async () => {
    const found = await stretched([0.3, 0.6, 1.2, -1.2], 'ternary');
    const levels = [0, 2 / 3, 2 / 3, -2 / 3];
    for (const [i, y] of found.y.entries()) expect(y).toBeCloseTo(levels[i], 12);
    expect(found.dw).toEqual([1, 1, 0, 0]);
    expect((await stretched([1.2], 'ternary')).dAlpha).toBeCloseTo(2 / 3, 12);
    expect((await stretched([1.2], 'ternary', { edge: 1.5 })).dAlpha).toBeCloseTo(1, 12);
    expect((await stretched([0.6], 'ternary')).dAlpha).toBeCloseTo(2 / 3 - 0.6, 12);
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
