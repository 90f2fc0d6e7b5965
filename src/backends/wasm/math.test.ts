// Accuracy of the vector functions against float64 arithmetic over their whole ranges.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Value } from '../../graph/graph.ts';
import { rope } from '../../graph/ops/rope.ts';
import * as unary from '../../graph/ops/unary.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { erfc } from '../reference/erf.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

let backend: WasmBackend;
beforeAll(async () => {
  backend = await createWasmBackend({ threads: 1 });
});
afterAll(() => backend.dispose());

async function apply(op: (x: Value) => Value, values: Float32Array): Promise<Float32Array> {
  const graph = trace((g) => g.output('y', op(g.input('x', f32([values.length])))));
  const run = await backend.compile(graph, { params: new Map() });
  run.write('x', values);
  run.run();
  const y = await run.read('y');
  run.dispose();
  return y.data as Float32Array;
}

/** `count` values spread evenly over low … high. */
const spread = (low: number, high: number, count = 200_000) =>
  Float32Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

const words = new Uint32Array(1);
const single = new Float32Array(words.buffer);

/** Distance of neighbouring float32 at x. */
function ulp(x: number): number {
  single[0] = Math.abs(x);
  const field = words[0] >>> 23;
  return 2 ** (Math.max(field, 1) - 150);
}

/** Largest error in units in the last place of the exact result. */
function worstUlp(found: Float32Array, x: Float32Array, exact: (x: number) => number): number {
  let worst = 0;
  found.forEach((y, i) => {
    const expected = exact(x[i]);
    worst = Math.max(worst, Math.abs(y - expected) / ulp(expected));
  });
  return worst;
}

describe('exp', () => {
  it('is within 1 ulp where the result is a normal number, and within 1 in subnormals', async () => {
    for (const [low, high] of [
      [-87.3, 88.7],
      [-1, 1],
      [-104, -87.3],
    ]) {
      const x = spread(low, high);
      expect(worstUlp(await apply(unary.exp, x), x, Math.exp)).toBeLessThanOrEqual(1);
    }
  });

  it('gives 0, infinity and NaN at the ends', async () => {
    const x = Float32Array.of(-Infinity, -104.5, 0, -0, 88.73, Infinity, Number.NaN);
    expect([...(await apply(unary.exp, x))]).toEqual([0, 0, 1, 1, Infinity, Infinity, Number.NaN]);
  });
});

describe('functions made of it', () => {
  it('tanh is within 2 ulp', async () => {
    for (const width of [0.01, 0.7, 10]) {
      const x = spread(-width, width);
      expect(worstUlp(await apply(unary.tanh, x), x, Math.tanh)).toBeLessThanOrEqual(2);
    }
  });

  it('sigmoid is within 3 ulp', async () => {
    const x = spread(-80, 80);
    expect(worstUlp(await apply(unary.sigmoid, x), x, (v) => 1 / (1 + Math.exp(-v)))).toBeLessThanOrEqual(3);
  });

  it('silu is within 4 ulp', async () => {
    const x = spread(-80, 80);
    expect(worstUlp(await apply(unary.silu, x), x, (v) => v / (1 + Math.exp(-v)))).toBeLessThanOrEqual(4);
  });

  it('gelu keeps a relative error of 2e-6 into the tails', async () => {
    const x = spread(-12, 12);
    const y = await apply(unary.gelu, x);
    let worst = 0;
    y.forEach((v, i) => {
      const exact = (x[i] / 2) * erfc(-x[i] / Math.SQRT2);
      worst = Math.max(worst, Math.abs(v - exact) / Math.max(Math.abs(exact), 1e-38));
    });
    expect(worst).toBeLessThan(2e-6);
  });
});

describe('rope', () => {
  it('rotates by float64 angles at positions up to a million', async () => {
    const positions = Int32Array.from({ length: 64 }, (_, i) => Math.floor((i * 1048575) / 63));
    const frequencies = Float32Array.from({ length: 33 }, (_, i) => 500000 ** (-i / 33));
    const graph = trace((g) =>
      g.output(
        'y',
        rope(g.input('x', f32([1, 64, 1, 66])), g.input('p', i32([1, 64])), g.input('f', f32([33])), { style: 'half' }),
      ),
    );
    const run = await backend.compile(graph, { params: new Map() });
    run.write(
      'x',
      Float32Array.from({ length: 64 * 66 }, (_, i) => (i % 66 < 33 ? 1 : 0)),
    );
    run.write('p', positions);
    run.write('f', frequencies);
    run.run();
    const y = (await run.read('y')).data;
    run.dispose();
    let worst = 0;
    positions.forEach((p, t) => {
      frequencies.forEach((f, i) => {
        worst = Math.max(worst, Math.abs(y[t * 66 + i] - Math.cos(p * f)));
        worst = Math.max(worst, Math.abs(y[t * 66 + 33 + i] - Math.sin(p * f)));
      });
    });
    expect(worst).toBeLessThan(6.1e-8);
  });
});
