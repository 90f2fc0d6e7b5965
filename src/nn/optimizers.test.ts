// Optimizers against closed forms for a constant gradient, against sums over all past gradients (which is how the
// moments are defined, not how they are computed), and against numbers worked out by hand.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend, Buffer, Executable } from '../backends/backend.ts';
import { gaussian } from '../backends/op-case.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import type { Value } from '../graph/graph.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { planMemory } from '../graph/plan.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { appendUpdates, clipByGlobalNorm, type OptimizerOptions } from './optimizers.ts';

const none = new Map<string, Buffer>();

let wasm: Backend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => wasm.dispose());
const backendOf = {
  reference: () => createReferenceBackend({ precision: 'f64' }),
  wasm: () => wasm,
};

/** Weight `w` and everything an update needs as inputs. */
function updateGraph(count: number, options: OptimizerOptions, weightDecay?: number) {
  return trace((g) => {
    const weight = g.state('w', f32([count]));
    const gradient = g.input('gradient', f32([count]));
    const schedule = { learningRate: g.input('rate', f32([1])), step: g.input('step', i32([1])) };
    const [next] = appendUpdates(g, [{ name: 'w', weight, gradient, weightDecay }], options, schedule);
    g.output('w', next);
  });
}

/** The weights after every step. */
async function train(
  backend: Backend,
  start: number[],
  gradients: readonly ArrayLike<number>[],
  rates: readonly number[],
  options: OptimizerOptions,
  weightDecay?: number,
): Promise<number[][]> {
  const w = await backend.upload(tensorF32([start.length], Float32Array.from(start)));
  const graph = updateGraph(start.length, options, weightDecay);
  const run = await backend.compile(graph, { params: none, states: new Map([['w', w]]) });
  const result: number[][] = [];
  for (const [i, gradient] of gradients.entries()) {
    run.write('gradient', Float32Array.from(gradient));
    run.write('rate', Float32Array.of(rates[i]));
    run.write('step', Int32Array.of(i + 1));
    await run.run();
    result.push([...(await run.read('w')).data]);
  }
  run.dispose();
  w.dispose();
  return result;
}

const expectClose = (found: number[], expected: number[]) => {
  for (const [i, e] of expected.entries()) expect(Math.abs(found[i] - e), `weight ${i}`).toBeLessThan(2e-6);
};

describe.each(['reference', 'wasm'] as const)('%s', (name) => {
  const start = [1, -2, 0.5, 0, 3];
  const steps = 12;
  const rates = Array.from({ length: steps }, (_, i) => Math.fround(0.02 / (1 + i)));
  const data = Array.from({ length: steps }, (_, i) => gaussian(40 + i, [5], 0.3));

  it('adamw with a constant gradient moves by the learning rate, and shrinks by the decay', async () => {
    const [rate, decay] = [0.01, 0.1];
    const constant = [0.5, -0.25, 3, 1e-3, -40];
    const options = { kind: 'adamw', weightDecay: decay, epsilon: 0 } as const;
    const gradients = new Array(steps).fill(constant);
    const found = await train(backendOf[name](), start, gradients, new Array(steps).fill(rate), options);
    // w ← a w − η s with a = 1 − ηλ: a geometric sum
    const a = 1 - rate * decay;
    for (const [t, w] of found.entries())
      expectClose(
        w,
        start.map((w0, i) => a ** (t + 1) * w0 - (rate * Math.sign(constant[i]) * (1 - a ** (t + 1))) / (1 - a)),
      );
  });

  it('adamw with any gradients, from the moments written as sums', async () => {
    const [b1, b2, epsilon, decay] = [0.8, 0.95, 1e-3, 0.2];
    const options = { kind: 'adamw', beta1: b1, beta2: b2, epsilon, weightDecay: decay } as const;
    const found = await train(backendOf[name](), start, data, rates, options);
    let w = start;
    for (let t = 1; t <= steps; t++) {
      const past = Array.from({ length: t }, (_, i) => i); // gradient i+1 counts β^(t−1−i)
      const weighted = (b: number, f: (g: number) => number, i: number) =>
        past.reduce((sum, k) => sum + b ** (t - 1 - k) * f(data[k][i]), 0) /
        past.reduce((sum, k) => sum + b ** (t - 1 - k), 0); // (1−β) Σ β^… / (1 − β^t)
      w = w.map((v, i) => {
        const [mean, square] = [weighted(b1, (g) => g, i), weighted(b2, (g) => g ** 2, i)];
        return v * (1 - rates[t - 1] * decay) - (rates[t - 1] * mean) / (Math.sqrt(square) + epsilon);
      });
      expectClose(found[t - 1], w);
    }
  });

  it('takes the first step of adamw worked out by hand', async () => {
    // m̂ = g, v̂ = g²: 1 − 0.1·0.5·1 − 0.1·0.3/(0.3 + 0.1) = 0.875
    const options = { kind: 'adamw', epsilon: 0.1, weightDecay: 0.5 } as const;
    expectClose((await train(backendOf[name](), [1], [[0.3]], [0.1], options))[0], [0.875]);
  });

  it.each([false, true])('momentum, nesterov %s, from the velocity written as a sum', async (nesterov) => {
    const [mu, decay] = [0.9, 0.05];
    const options = { kind: 'sgd', momentum: mu, nesterov, weightDecay: decay } as const;
    const found = await train(backendOf[name](), start, data, rates, options);
    let w = start;
    const slopes: number[][] = [];
    for (let t = 0; t < steps; t++) {
      slopes.push(w.map((v, i) => data[t][i] + decay * v));
      const velocity = w.map((_, i) => slopes.reduce((sum, slope, k) => sum + mu ** (t - k) * slope[i], 0));
      w = w.map((v, i) => v - rates[t] * (nesterov ? slopes[t][i] + mu * velocity[i] : velocity[i]));
      expectClose(found[t], w);
    }
  });

  it('plain descent and its decay, which one weight may have of its own', async () => {
    const options = { kind: 'sgd', weightDecay: 0.5 } as const;
    expectClose((await train(backendOf[name](), [2], [[1]], [0.1], options))[0], [2 - 0.1 * (1 + 1)]);
    expectClose((await train(backendOf[name](), [2], [[1]], [0.1], options, 0))[0], [1.9]);
  });

  it.each([
    [6.5, [1.5, 2], [6]],
    [13, [3, 4], [12]],
    [20, [3, 4], [12]],
  ])('clips a norm of 13 to %d', async (maxNorm, a, b) => {
    const run = await clipper(backendOf[name](), maxNorm);
    run.write('a', Float32Array.of(3, 4));
    run.write('b', Float32Array.of(12));
    await run.run();
    expect([...(await run.read('da')).data]).toEqual(a);
    expect([...(await run.read('db')).data]).toEqual(b);
    expect((await run.read('norm')).data[0]).toBe(13);
    run.write('b', Float32Array.of(Number.NaN));
    await run.run();
    expect([...(await run.read('da')).data]).toEqual([Number.NaN, Number.NaN]);
    run.dispose();
  });

  async function clipper(backend: Backend, maxNorm: number): Promise<Executable> {
    const graph = trace((g) => {
      const { gradients, norm } = clipByGlobalNorm(g, [g.input('a', f32([1, 2])), g.input('b', f32([1]))], maxNorm);
      g.output('da', gradients[0]);
      g.output('db', gradients[1]);
      g.output('norm', norm);
    });
    return backend.compile(graph, { params: none });
  }

  it('leaves the states alone in a run that met an error', async () => {
    const backend = backendOf[name]();
    const graph = trace((g) => {
      const weight = g.state('w', f32([3, 2]));
      const gradient = embedding(g.input('table', f32([4, 2])), g.input('ids', i32([3])));
      const schedule = { learningRate: g.input('rate', f32([1])), step: g.input('step', i32([1])) };
      g.output('w', appendUpdates(g, [{ name: 'w', weight, gradient }], { kind: 'adamw' }, schedule)[0]);
    });
    const run = await backend.compile(graph, { params: none });
    run.write('table', Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    run.write('rate', Float32Array.of(0.1));
    const step = (t: number, ids: number[]) => {
      run.write('step', Int32Array.of(t));
      run.write('ids', Int32Array.from(ids));
      run.run();
    };
    expect(() => step(1, [0, 4, 1])).toThrow(/id/);
    expect(() => step(0, [0, 1, 2])).toThrow(/adamw: the step is out of range|adamw: step is out of range/);
    expect([...(await run.read('w')).data]).toEqual([0, 0, 0, 0, 0, 0]);
    step(1, [0, 3, 1]);
    for (const w of (await run.read('w')).data) expect(w).toBeCloseTo(-0.1, 6);
    run.dispose();
  });
});

describe('what is refused', () => {
  const plan = (build: (g: GraphBuilder, weight: Value, gradient: Value) => void, role: 'param' | 'state' = 'state') =>
    planMemory(
      trace((g) =>
        build(g, role === 'state' ? g.state('w', f32([2])) : g.param('w', f32([2])), g.input('g', f32([2]))),
      ),
    );
  const update = (g: GraphBuilder, weight: Value, gradient: Value, options: OptimizerOptions = { kind: 'sgd' }) =>
    appendUpdates(g, [{ name: 'w', weight, gradient }], options, {
      learningRate: g.input('rate', f32([1])),
      step: g.input('step', i32([1])),
    });

  it('a weight that is no state', () => {
    expect(() => plan((g, w, d) => void update(g, w, d), 'param')).toThrow(
      'plan: update/sgd#0 updates memory that is no state, got param w; declare it with state()',
    );
  });

  it('a reader that comes after the update, also of a moment', () => {
    expect(() => plan((g, w, d) => [update(g, w, d), g.output('old', w)])).toThrow(
      'plan: output old reads state w as it was before an update; read the value that the update returned',
    );
    const late = (g: GraphBuilder, w: Value, d: Value) => {
      update(g, w, d, { kind: 'adamw' });
      g.output('v', g.graph.states.get('w/v')!);
    };
    expect(() => plan(late)).toThrow('plan: output v reads state w/v as it was before an update');
  });

  it('a second update of the old weight, and not one of the new', () => {
    const twice = (old: boolean) => (g: GraphBuilder, w: Value, d: Value) => {
      const [next] = update(g, w, d);
      const again = { name: 'w', weight: old ? w : next, gradient: d };
      const schedule = { learningRate: g.graph.inputs.get('rate')!, step: g.graph.inputs.get('step')! };
      appendUpdates(g, [again], { kind: 'sgd' }, schedule);
    };
    expect(() => plan(twice(true))).toThrow('plan: update/sgd#1 reads state w as it was before an update');
    expect(plan(twice(false)).nodes).toHaveLength(2);
  });

  it('constants that make no sense', () => {
    const message = (options: OptimizerOptions) => () => plan((g, w, d) => void update(g, w, d, options));
    expect(message({ kind: 'sgd', nesterov: true })).toThrow(
      'sgd: nesterov needs a momentum, got 0, expected a number',
    );
    expect(message({ kind: 'sgd', momentum: 1 })).toThrow(
      'sgdMomentum: bad momentum for a weight [2], got 1, expected 0',
    );
    expect(message({ kind: 'adamw', beta2: Number.NaN })).toThrow('adamw: bad beta2 for a weight [2], got NaN');
    expect(message({ kind: 'sgd', weightDecay: -1 })).toThrow('sgd: bad weightDecay for a weight [2], got -1');
  });
});
