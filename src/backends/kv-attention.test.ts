// Attention over quantized keys and values against KIVI's algorithm written out: a decoder that appends token after
// token, holds what is quantized and what is not in lists, and rounds with arithmetic of its own. The same numbers must
// come from a whole window, and from a cache that is filled in runs of any length.

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseFormat } from '../formats/registry.ts';
import { cacheWrite } from '../graph/ops/cache-write.ts';
import { type KvAttentionAttributes, kvAttention } from '../graph/ops/kv-attention.ts';
import { packChannels, ringWrite } from '../graph/ops/kv-write.ts';
import { dequantize, quantize } from '../graph/ops/quantize.ts';
import { trace } from '../graph/trace.ts';
import { f32, i32, packed } from '../graph/value-type.ts';
import { gaussian } from './op-case.ts';
import { createReferenceBackend } from './reference/reference-backend.ts';
import { createWasmBackend } from './wasm/backend.ts';

/** Asymmetric rounding of one group: q = round((x − m)/s), s and m in half precision; a constant group is its minimum. */
function roundGroup(x: number[], bits: number): number[] {
  const most = 2 ** bits - 1;
  const low = Math.min(...x);
  const m = Math.f16round(low);
  const s = Math.f16round(Math.fround(Math.fround(Math.max(...x) - low) / most));
  if (s === 0) return x.map(() => m);
  const halfEven = (r: number) => (r % 1 === 0.5 ? 2 * Math.round(r / 2) : Math.round(r));
  return x.map((v) => m + s * Math.min(most, Math.max(0, halfEven(Math.fround(v - m) / s))));
}

interface Scheme {
  keys: 'channel' | 'token';
  bits: number;
  /** Tokens of a group of keys per channel. */
  group: number;
  residual: number;
  sinks: number;
  window: number;
}

/** One head: q, k, v [T][D] → y [T][D]. */
function kivi(q: number[][], k: number[][], v: number[][], scale: number, s: Scheme): number[][] {
  const D = q[0].length;
  const sinkKeys: number[][] = [];
  const sinkValues: number[][] = [];
  const quantKeys: number[][] = [];
  const quantValues: number[][] = [];
  let fullKeys: number[][] = [];
  const fullValues: number[][] = [];
  const block = s.keys === 'channel' ? Math.max(s.residual, s.group) : Math.max(s.residual, 1);
  return q.map((query, t) => {
    (t < s.sinks ? sinkKeys : fullKeys).push(k[t]);
    (t < s.sinks ? sinkValues : fullValues).push(v[t]);
    const keys = [...sinkKeys, ...quantKeys, ...fullKeys];
    const values = [...sinkValues, ...quantValues, ...fullValues];
    expect([keys.length, values.length]).toEqual([t + 1, t + 1]);
    const first = s.window > 0 ? Math.max(0, t - s.window + 1) : 0;
    const scores = keys.map((key, i) => (i < first ? -Infinity : scale * key.reduce((a, x, d) => a + x * query[d], 0)));
    const most = Math.max(...scores);
    const weights = scores.map((x) => Math.exp(x - most));
    const total = weights.reduce((a, b) => a + b);
    const y = Array.from({ length: D }, (_, d) => values.reduce((a, x, i) => a + (weights[i] / total) * x[d], 0));
    if (fullKeys.length === block) {
      if (s.keys === 'token') quantKeys.push(...fullKeys.map((x) => roundGroup(x, s.bits)));
      else
        for (let at = 0; at < block; at += s.group) {
          const tokens = fullKeys.slice(at, at + s.group);
          const columns = Array.from({ length: D }, (_, d) =>
            roundGroup(
              tokens.map((x) => x[d]),
              s.bits,
            ),
          );
          quantKeys.push(...tokens.map((_, i) => columns.map((c) => c[i])));
        }
      fullKeys = [];
    }
    if (fullValues.length > s.residual) quantValues.push(roundGroup(fullValues.shift()!, s.bits));
    return y;
  });
}

const [B, H, G, D] = [2, 4, 2, 6];
const scale = 0.4;

function data(T: number, seed: number) {
  const [q, k, v] = [gaussian(seed, [B, T, H, D]), gaussian(seed + 1, [B, T, G, D]), gaussian(seed + 2, [B, T, G, D])];
  // A channel with an outlier, a constant channel, a constant token.
  for (let row = 0; row < B * T * G; row++) {
    k[row * D + 1] = 20 * k[row * D + 1] + 9;
    k[row * D + 4] = -0.7;
    if (row % 5 === 0) v.fill(1.1, row * D, (row + 1) * D);
  }
  return { q, k, v };
}

function expected({ q, k, v }: ReturnType<typeof data>, T: number, s: Scheme): number[] {
  const out = new Array<number>(B * T * H * D).fill(0);
  const head = (x: Float32Array, heads: number, b: number, h: number) =>
    Array.from({ length: T }, (_, t) => [
      ...x.subarray(((b * T + t) * heads + h) * D, ((b * T + t) * heads + h + 1) * D),
    ]);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const g = Math.floor(h / (H / G));
      const y = kivi(head(q, H, b, h), head(k, G, b, g), head(v, G, b, g), scale, s);
      for (const [t, row] of y.entries()) for (const [d, x] of row.entries()) out[((b * T + t) * H + h) * D + d] = x;
    }
  return out;
}

const attributes = (s: Scheme): KvAttentionAttributes => ({
  scale,
  window: s.window,
  keys: s.keys,
  block: s.keys === 'channel' ? Math.max(s.residual, s.group) : Math.max(s.residual, 1),
  residual: s.residual,
  sinks: s.sinks,
});
const keyFormat = (s: Scheme) => parseFormat(`int${s.bits}-${s.keys === 'channel' ? `g${s.group}` : 'channel'}-asymf`);
const valueFormat = (s: Scheme) => parseFormat(`int${s.bits}-channel-asymf`);

const schemes = fc.record({
  keys: fc.constantFrom('channel', 'token') as fc.Arbitrary<Scheme['keys']>,
  bits: fc.constantFrom(2, 3, 4, 8),
  group: fc.constantFrom(8, 16),
  residual: fc.constantFrom(0, 16, 32),
  sinks: fc.constantFrom(0, 1, 4),
  window: fc.constantFrom(0, 0, 11),
});
const wasm = await createWasmBackend({ threads: 2 });
afterAll(() => wasm.dispose());

describe('kvAttention', () => {
  it.each([createReferenceBackend(), wasm])('is KIVI, whatever the runs a text is cut into: $name', async (backend) => {
    await fc.assert(
      fc.asyncProperty(schemes, fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 9 }), async (s, T, step) => {
        const input = data(T, 7 * T + step);
        const wanted = expected(input, T, s);
        const largest = Math.max(...wanted.map(Math.abs));
        const capacity = 64;
        const ringRows = s.sinks + Math.max(attributes(s).block - 1, s.residual) + step;
        const states = {
          keys: backend.allocate(
            packed(s.keys === 'channel' ? [B, G, D, capacity] : [B, capacity, G, D], keyFormat(s)),
          ),
          values: backend.allocate(packed([B, capacity, G, D], valueFormat(s))),
          recentKeys: backend.allocate(f32([B, ringRows, G, D])),
          recentValues: backend.allocate(f32([B, ringRows, G, D])),
        };
        let before: Float32Array | undefined;
        for (let at = 0; at < T; at += step) {
          const n = Math.min(step, T - at);
          const graph = trace((g) => {
            const start = g.input('start', i32([1]));
            const [k, v] = [g.input('k', f32([B, n, G, D])), g.input('v', f32([B, n, G, D]))];
            const state = (name: keyof typeof states) => g.state(name, states[name].type);
            const recentKeys = ringWrite(state('recentKeys'), k, start, { sinks: s.sinks });
            const recentValues = ringWrite(state('recentValues'), v, start, { sinks: s.sinks });
            const keys =
              s.keys === 'channel'
                ? packChannels(state('keys'), recentKeys, start, { tokens: n, sinks: s.sinks })
                : cacheWrite(state('keys'), quantize(k, keyFormat(s)), start);
            const values = cacheWrite(state('values'), quantize(v, valueFormat(s)), start);
            const kv = { keys, values, recentKeys, recentValues, start };
            g.output('y', kvAttention(g.input('q', f32([B, n, H, D])), kv, attributes(s)));
            g.output('cached', dequantize(keys));
          });
          const run = await backend.compile(graph, { params: new Map(), states: new Map(Object.entries(states)) });
          const part = (x: Float32Array, heads: number) =>
            Float32Array.from({ length: B * n * heads * D }, (_, i) => {
              const [b, rest] = [Math.floor(i / (n * heads * D)), i % (n * heads * D)];
              return x[(b * T + at) * heads * D + rest];
            });
          run.write('q', part(input.q, H));
          run.write('k', part(input.k, G));
          run.write('v', part(input.v, G));
          run.write('start', Int32Array.of(at));
          await run.run();
          const { data: y } = await run.read('y');
          for (let i = 0; i < y.length; i++) {
            const [b, rest] = [Math.floor(i / (n * H * D)), i % (n * H * D)];
            const difference = Math.abs(y[i] - wanted[(b * T + at) * H * D + rest]);
            if (difference > 5e-6 * largest) expect.fail(`element ${i} of the run at ${at} differs by ${difference}`);
          }
          // What was quantized before this run is what it was.
          const cached = Float32Array.from((await run.read('cached')).data);
          const groupOf = s.keys === 'channel' ? s.group : 1;
          const done = s.keys === 'channel' ? Math.max(0, Math.floor((at - s.sinks) / groupOf) * groupOf) : at;
          if (before)
            for (let i = 0; i < cached.length; i++) {
              const token = s.keys === 'channel' ? i % capacity : Math.floor(i / (G * D)) % capacity;
              if (token < done && cached[i] !== before[i]) expect.fail(`token ${token} changed at ${at}`);
            }
          before = cached;
          run.dispose();
        }
        for (const buffer of Object.values(states)) buffer.dispose();
      }),
      { numRuns: 40, seed: 5 },
    );
  });
});
