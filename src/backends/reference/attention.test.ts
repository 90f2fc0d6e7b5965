// Attention against the textbook formula with whole score matrices and explicit masks; RoPE against rotation of complex
// numbers; the KV cache against a pass over all tokens.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluate, largestDifference, real, whole } from '../../../test/support/evaluate.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { rope } from '../../graph/ops/rope.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { gaussian } from '../op-case.ts';
import { createReferenceBackend } from './reference-backend.ts';

interface Sizes {
  B: number;
  T: number;
  S: number;
  H: number;
  G: number;
  D: number;
}

/** softmax(scale·QKᵀ + mask)·V for each head with the keys and values of its group written out. */
function textbook(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  s: Sizes,
  options: AttentionOptions,
  start: number,
) {
  const { B, T, S, H, G, D } = s;
  const { scale = 1 / Math.sqrt(D), causal = false, window = 0 } = options;
  const out = new Array<number>(B * T * H * D).fill(0);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const group = Math.floor((h * G) / H);
      const row = (m: Float32Array, heads: number, length: number, head: number, t: number) =>
        m.subarray(((b * length + t) * heads + head) * D, ((b * length + t) * heads + head + 1) * D);
      for (let t = 0; t < T; t++) {
        const weights = Array.from({ length: S }, (_, key) => {
          const hidden = (causal && key > start + t) || (window > 0 && key <= start + t - window);
          const dot = row(q, H, T, h, t).reduce((a, x, d) => a + x * row(k, G, S, group, key)[d], 0);
          return hidden ? 0 : Math.exp(scale * dot);
        });
        const total = weights.reduce((a, w) => a + w, 0);
        for (let d = 0; d < D; d++)
          out[((b * T + t) * H + h) * D + d] = weights.reduce(
            (a, w, key) => a + (w / total) * row(v, G, S, group, key)[d],
            0,
          );
      }
    }
  }
  return out;
}

const sizes = fc.record({
  B: fc.integer({ min: 1, max: 2 }),
  T: fc.integer({ min: 1, max: 6 }),
  extra: fc.nat(5),
  G: fc.integer({ min: 1, max: 3 }),
  perGroup: fc.integer({ min: 1, max: 3 }),
  D: fc.integer({ min: 1, max: 5 }),
  causal: fc.boolean(),
  window: fc.nat(4),
  seed: fc.nat(1000),
});

describe('attention', () => {
  it('agrees with the textbook under every mask, grouping and start', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, fc.nat(5), async ({ B, T, extra, G, perGroup, D, causal, window, seed }, startSeed) => {
        const s = { B, T, S: T + extra, H: G * perGroup, G, D };
        const start = causal ? startSeed % (extra + 1) : 0;
        const options = { causal, window: causal ? window : 0, scale: 0.7 };
        const [q, k, v] = [
          [T, s.H],
          [s.S, G],
          [s.S, G],
        ].map(([n, heads], i) => real([B, n, heads, D], gaussian(seed + i, [B, n, heads, D])));
        const found = await evaluate(
          (a, b, c, d) => attention(a, b, c, { ...options, start: d }),
          q,
          k,
          v,
          whole([1], [start]),
        );
        const data = [q, k, v].map((x) => x.data as Float32Array);
        expect(largestDifference(found, textbook(data[0], data[1], data[2], s, options, start))).toBeLessThan(1e-12);
      }),
      { numRuns: 80 },
    );
  });

  it('scales by 1/√D when nothing is said', async () => {
    const s = { B: 1, T: 2, S: 3, H: 1, G: 1, D: 16 };
    const [q, k, v] = [gaussian(1, [2, 16], 3), gaussian(2, [3, 16], 3), gaussian(3, [3, 16])];
    const found = await evaluate(
      (a, b, c) => attention(a, b, c),
      real([1, 2, 1, 16], q),
      real([1, 3, 1, 16], k),
      real([1, 3, 1, 16], v),
    );
    expect(largestDifference(found, textbook(q, k, v, s, { scale: 0.25 }, 0))).toBeLessThan(1e-12);
  });

  it('stays finite with scores that overflow e^x', async () => {
    const big = real([1, 2, 1, 1], [1e4, 1e4]);
    const found = await evaluate(
      (q, k, v) => attention(q, k, v, { scale: 1 }),
      big,
      real([1, 2, 1, 1], [1, 2]),
      real([1, 2, 1, 1], [5, 7]),
    );
    expect(found).toEqual([7, 7]);
  });

  it('refuses queries beyond the last key', async () => {
    const x = real([1, 2, 1, 1], [1, 1]);
    const run = evaluate((q, k, v, start) => attention(q, k, v, { causal: true, start }), x, x, x, whole([1], [1]));
    await expect(run).rejects.toThrow('attention: start is out of range, got 1, expected 0 … 0');
  });
});

describe('cacheWrite', () => {
  it('decoding with a cache gives what one pass over all tokens gives', async () => {
    const [T, H, G, D] = [9, 4, 2, 8];
    const [q, k, v] = [gaussian(1, [T, H, D]), gaussian(2, [T, G, D]), gaussian(3, [T, G, D])];
    const expected = textbook(q, k, v, { B: 1, T, S: T, H, G, D }, { causal: true, window: 5 }, 0);
    const backend = createReferenceBackend({ precision: 'f64' });
    const states = new Map([
      ['k', backend.allocate(f32([1, T + 2, G, D]))],
      ['v', backend.allocate(f32([1, T + 2, G, D]))],
    ]);
    // A prefill of 4 tokens and single steps are different graphs that share the cache.
    const step = (length: number) =>
      trace((g) => {
        const start = g.input('start', i32([1]));
        const put = (name: string) =>
          cacheWrite(g.state(name, f32([1, T + 2, G, D])), g.input(`new ${name}`, f32([1, length, G, D])), start);
        const query = g.input('q', f32([1, length, H, D]));
        g.output('y', attention(query, put('k'), put('v'), { causal: true, window: 5, start }));
      });
    const found: number[] = [];
    for (const [start, length] of [
      [0, 4],
      [4, 1],
      [5, 1],
      [6, 1],
      [7, 1],
      [8, 1],
    ]) {
      const run = await backend.compile(step(length), { params: new Map(), states });
      run.write('start', Int32Array.of(start));
      run.write('q', q.subarray(start * H * D, (start + length) * H * D));
      run.write('new k', k.subarray(start * G * D, (start + length) * G * D));
      run.write('new v', v.subarray(start * G * D, (start + length) * G * D));
      run.run();
      found.push(...(await run.read('y')).data);
    }
    expect(largestDifference(found, expected)).toBeLessThan(1e-12);
  });

  it('refuses rows beyond the cache', async () => {
    const backend = createReferenceBackend();
    const graph = trace((g) => {
      g.output(
        'y',
        cacheWrite(g.state('c', f32([1, 3, 1, 1])), g.input('x', f32([1, 2, 1, 1])), g.input('start', i32([1]))),
      );
    });
    const run = await backend.compile(graph, { params: new Map() });
    run.write('start', Int32Array.of(2));
    expect(() => run.run()).toThrow('cacheWrite: start is out of range, got 2, expected 0 … 1');
    run.write('start', Int32Array.of(-1));
    expect(() => run.run()).toThrow('got -1');
  });
});

describe('rope', () => {
  const [T, H, D] = [3, 2, 8];
  const frequencies = [1, 0.3, 0.05];
  const positions = [0, 5, 1234];
  const x = gaussian(1, [T, H, D]);

  it.each(['half', 'interleaved'] as const)(
    '%s multiplies complex numbers by e^(i·position·frequency)',
    async (style) => {
      const found = await evaluate(
        (a, p, f) => rope(a, p, f, { style, magnitude: 1.5 }),
        real([1, T, H, D], x),
        whole([1, T], positions),
        real([3], frequencies),
      );
      const expected = [...x];
      for (let t = 0; t < T; t++) {
        for (let h = 0; h < H; h++) {
          frequencies.forEach((frequency, i) => {
            const [u, v] = style === 'half' ? [i, i + 3] : [2 * i, 2 * i + 1];
            const at = (t * H + h) * D;
            const length = Math.hypot(x[at + u], x[at + v]);
            const angle = Math.atan2(x[at + v], x[at + u]) + positions[t] * Math.fround(frequency);
            expected[at + u] = 1.5 * length * Math.cos(angle);
            expected[at + v] = 1.5 * length * Math.sin(angle);
          });
        }
      }
      expect(largestDifference(found, expected)).toBeLessThan(1e-11);
    },
  );

  it('makes products of queries and keys depend on their distance alone', async () => {
    const rotate = (data: Float32Array, position: number) =>
      evaluate(
        (a, p, f) => rope(a, p, f, { style: 'half' }),
        real([1, 1, 1, 6], data),
        whole([1, 1], [position]),
        real([3], frequencies),
      );
    const [q, k] = [gaussian(5, [6]), gaussian(6, [6])];
    const product = async (m: number, n: number) => {
      const b = await rotate(k, n);
      return (await rotate(q, m)).reduce((sum, a, i) => sum + a * b[i], 0);
    };
    expect(await product(7, 3)).toBeCloseTo(await product(104, 100), 10);
  });
});
