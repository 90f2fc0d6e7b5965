// Attention across its blocks of 60 rows and 64 keys, both code paths, against the reference.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { differences, gaussian, integers, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

let backend: WasmBackend;
beforeAll(async () => {
  backend = await createWasmBackend({ threads: 2 });
});
afterAll(() => backend.dispose());

async function agrees(opCase: OpCase): Promise<void> {
  const expected = await runOpCase(createReferenceBackend(), opCase);
  expect(differences(await runOpCase(backend, opCase), expected, opCase.tolerance)).toEqual([]);
}

type Sizes = Record<'B' | 'T' | 'S' | 'H' | 'G' | 'D', number>;
const cases: [name: string, sizes: Sizes, options: Omit<AttentionOptions, 'start'>, start?: number][] = [
  ['several blocks', { B: 1, T: 150, S: 150, H: 6, G: 2, D: 20 }, { causal: true }],
  ['several blocks, all keys', { B: 2, T: 61, S: 200, H: 2, G: 2, D: 12 }, {}],
  ['window across blocks', { B: 1, T: 200, S: 200, H: 2, G: 1, D: 8 }, { causal: true, window: 70 }],
  ['cache, one query', { B: 2, T: 1, S: 300, H: 6, G: 2, D: 80 }, { causal: true }, 257],
  ['cache, one query, odd D and window', { B: 1, T: 1, S: 300, H: 3, G: 1, D: 13 }, { causal: true, window: 100 }, 299],
  ['cache, several queries', { B: 1, T: 33, S: 200, H: 4, G: 2, D: 64 }, { causal: true }, 130],
];

describe('attention', () => {
  it.each(cases)('%s', (name, { B, T, S, H, G, D }, options, start) =>
    agrees({
      name,
      tolerance: 3e-6,
      build(g) {
        const [q, k, v] = [
          g.input('q', f32([B, T, H, D])),
          g.input('k', f32([B, S, G, D])),
          g.input('v', f32([B, S, G, D])),
        ];
        const from = start === undefined ? {} : { start: g.input('start', i32([1])) };
        g.output('y', attention(q, k, v, { ...options, ...from }));
      },
      runs: [
        {
          q: gaussian(1, [B, T, H, D], 3),
          k: gaussian(2, [B, S, G, D]),
          v: gaussian(3, [B, S, G, D]),
          ...(start === undefined ? {} : { start: Int32Array.of(start) }),
        },
      ],
    }),
  );

  it('refuses a position outside the cache', async () => {
    const position: OpCase = {
      name: 'start',
      tolerance: 0,
      build(g) {
        const [q, k] = [g.input('q', f32([1, 2, 1, 4])), g.input('k', f32([1, 5, 1, 4]))];
        g.output('y', attention(q, k, k, { causal: true, start: g.input('start', i32([1])) }));
      },
      runs: [{ start: Int32Array.of(4) }],
    };
    await expect(runOpCase(backend, position)).rejects.toThrow(
      /attention: start is out of range .* got 4, expected 0 … 3/,
    );
  });
});

describe('crossEntropy', () => {
  it('joins chunks of the vocabulary and blocks of rows', () =>
    agrees({
      name: 'large vocabulary',
      tolerance: 2e-6,
      build(g) {
        const weight = g.input('w', f32([4500, 24]));
        g.output('nll', crossEntropy(g.input('h', f32([200, 24])), weight, g.input('t', i32([200]))));
      },
      runs: [{ h: gaussian(1, [200, 24]), w: gaussian(2, [4500, 24]), t: integers(3, [200], -1, 4500) }],
    }));
});
