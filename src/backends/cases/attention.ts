// RoPE, attention and the KV cache.

import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { rope } from '../../graph/ops/rope.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import type { Data } from './common.ts';

const inverseFrequencies = (half: number) => Float32Array.from({ length: half }, (_, i) => 10000 ** (-i / half));
export const ropeCases: OpCase[] = (['half', 'interleaved'] as const).flatMap((style) =>
  [
    { D: 8, half: 4, magnitude: 1 },
    { D: 10, half: 3, magnitude: 1 },
    { D: 6, half: 3, magnitude: 1.25 },
    { D: 64, half: 32, magnitude: 1 },
  ].map(
    ({ D, half, magnitude }): OpCase => ({
      name: `rope ${style}, ${2 * half} of ${D} dimensions, magnitude ${magnitude}`,
      tolerance: 2e-6,
      build(g) {
        const x = g.input('x', f32([2, 3, 5, D]));
        const table = g.constant(tensorF32([half], inverseFrequencies(half)));
        g.output('y', rope(x, g.input('positions', i32([2, 3])), table, { style, magnitude }));
      },
      runs: [{ x: gaussian(1, [2, 3, 5, D]), positions: Int32Array.of(0, 1, 2, 7, 500, 2047) }],
    }),
  ),
);

function attentionCase(
  name: string,
  { B, T, S, H, G, D }: Record<'B' | 'T' | 'S' | 'H' | 'G' | 'D', number>,
  options: Omit<AttentionOptions, 'start'>,
  starts: readonly number[] = [],
): OpCase {
  const data: Data = { q: gaussian(1, [B, T, H, D]), k: gaussian(2, [B, S, G, D]), v: gaussian(3, [B, S, G, D]) };
  return {
    name: `attention ${name}`,
    tolerance: 3e-6,
    build(g) {
      const [q, k, v] = [
        g.input('q', f32([B, T, H, D])),
        g.input('k', f32([B, S, G, D])),
        g.input('v', f32([B, S, G, D])),
      ];
      const start = starts.length > 0 ? { start: g.input('start', i32([1])) } : {};
      g.output('y', attention(q, k, v, { ...options, ...start }));
    },
    runs: starts.length > 0 ? starts.map((s) => ({ ...data, start: Int32Array.of(s) })) : [data],
  };
}

export const attentionCases: OpCase[] = [
  attentionCase('full, cross lengths', { B: 1, T: 3, S: 7, H: 2, G: 2, D: 5 }, {}),
  attentionCase('causal', { B: 2, T: 13, S: 13, H: 3, G: 3, D: 8 }, { causal: true }),
  attentionCase('causal grouped', { B: 2, T: 5, S: 5, H: 6, G: 2, D: 16 }, { causal: true, scale: 0.3 }),
  attentionCase('multi-query', { B: 1, T: 4, S: 4, H: 5, G: 1, D: 3 }, { causal: true }),
  attentionCase('window', { B: 1, T: 17, S: 17, H: 2, G: 1, D: 8 }, { causal: true, window: 4 }),
  attentionCase('window of one', { B: 1, T: 5, S: 5, H: 1, G: 1, D: 4 }, { causal: true, window: 1 }),
  attentionCase('window beyond the length', { B: 1, T: 5, S: 5, H: 1, G: 1, D: 4 }, { causal: true, window: 64 }),
  attentionCase('one query, one key', { B: 1, T: 1, S: 1, H: 1, G: 1, D: 1 }, { causal: true }),
  attentionCase('cache, one query', { B: 2, T: 1, S: 9, H: 4, G: 2, D: 8 }, { causal: true }, [0, 3, 8]),
  attentionCase('cache, several queries', { B: 1, T: 4, S: 11, H: 2, G: 1, D: 6 }, { causal: true }, [0, 5, 7]),
  attentionCase('cache with window', { B: 1, T: 3, S: 12, H: 2, G: 2, D: 8 }, { causal: true, window: 4 }, [0, 2, 9]),
  attentionCase('more tokens than a tile', { B: 1, T: 70, S: 70, H: 2, G: 1, D: 32 }, { causal: true }),
  attentionCase('split over threads', { B: 2, T: 67, S: 67, H: 8, G: 4, D: 64 }, { causal: true }),
  attentionCase('long, windowed', { B: 1, T: 131, S: 131, H: 1, G: 1, D: 16 }, { causal: true, window: 33 }),
];

export const cacheCases: OpCase[] = [
  {
    name: 'cacheWrite keeps what earlier runs wrote',
    tolerance: 'exact',
    build(g) {
      const cache = g.state('cache', f32([2, 6, 2, 3]));
      g.output('y', cacheWrite(cache, g.input('x', f32([2, 2, 2, 3])), g.input('start', i32([1]))));
    },
    runs: [0, 2, 4, 1].map((s) => ({ x: gaussian(s + 1, [2, 2, 2, 3]), start: Int32Array.of(s) })),
  },
  {
    name: 'cacheWrite and attention, token by token',
    tolerance: 3e-6,
    build(g) {
      const start = g.input('start', i32([1]));
      const k = cacheWrite(g.state('k', f32([1, 4, 1, 8])), g.input('newK', f32([1, 1, 1, 8])), start);
      const v = cacheWrite(g.state('v', f32([1, 4, 1, 8])), g.input('newV', f32([1, 1, 1, 8])), start);
      g.output('y', attention(g.input('q', f32([1, 1, 2, 8])), k, v, { causal: true, start }));
    },
    runs: [0, 1, 2, 3].map((s) => ({
      start: Int32Array.of(s),
      newK: gaussian(10 + s, [8]),
      newV: gaussian(20 + s, [8]),
      q: gaussian(30 + s, [16]),
    })),
  },
];
