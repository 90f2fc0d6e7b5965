// Attention and its gradients, large enough for tensor cores, at lengths that no tile divides. Operands are f32, so these
// run there only where a backend is told that it may round to f16.

import { gradients } from '../../graph/differentiate.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { f32 } from '../../graph/value-type.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import type { Data } from './common.ts';

interface Sizes {
  readonly B?: number;
  readonly T: number;
  readonly S?: number;
  readonly H: number;
  readonly G: number;
  readonly D: number;
}

interface Options extends Omit<AttentionOptions, 'start'> {
  /** Changes the numbers of q, k, v and dy. */
  change?: (data: Record<'q' | 'k' | 'v' | 'dy', Float32Array>) => void;
}

function largeAttention(name: string, { B = 1, T, S = T, H, G, D }: Sizes, options: Options = {}): OpCase {
  const { change, ...attributes } = options;
  const shapes = { q: [B, T, H, D], k: [B, S, G, D], v: [B, S, G, D], dy: [B, T, H, D] };
  const data = {
    q: gaussian(1, shapes.q),
    k: gaussian(2, shapes.k),
    v: gaussian(3, shapes.v),
    dy: gaussian(4, shapes.dy),
  } satisfies Data;
  change?.(data);
  return {
    name: `large attention ${name}`,
    // operands and probabilities of 11 bits
    tolerance: 1e-3,
    runs: [data],
    build(g) {
      const [q, k, v, dy] = (['q', 'k', 'v', 'dy'] as const).map((key) => g.input(key, f32(shapes[key])));
      const y = attention(q, k, v, attributes);
      g.output('y', y);
      for (const [i, gradient] of gradients(g, y, [q, k, v], { seed: dy }).entries())
        g.output(`d${'qkv'[i]}`, gradient);
    },
  };
}

const causal = { causal: true } as const;
const scaled = (x: Float32Array, factor: number) => {
  for (let i = 0; i < x.length; i++) x[i] *= factor;
};

/** Keys from the 40th on score far higher than those before (by 8 · 8 · 4 / √64 = 32), so that sums must be scaled. */
const rising = ({ q, k }: Record<'q' | 'k', Float32Array>) => {
  for (let i = 0; i < q.length; i += 64) q.fill(8, i, i + 8);
  for (let i = 0; i < k.length; i += 64) k.fill(i < 40 * 64 ? 0 : 4, i, i + 8);
};

/** Gradients of a query over 20 binades; the last ones are the smallest. */
const fading = ({ dy }: Record<'dy', Float32Array>) => {
  for (let i = 0; i < dy.length; i++) dy[i] *= 2 ** (-20 * (i / dy.length));
};

export const largeAttentionCases: OpCase[] = [
  largeAttention('causal, grouped', { B: 2, T: 67, H: 6, G: 2, D: 64 }, causal),
  largeAttention('causal, one head a key head', { B: 3, T: 130, H: 2, G: 2, D: 64 }, causal),
  largeAttention('causal, several blocks', { T: 300, H: 3, G: 1, D: 64 }, causal),
  largeAttention('full', { T: 130, H: 4, G: 2, D: 64 }),
  largeAttention('cross lengths', { B: 2, T: 67, S: 131, H: 4, G: 2, D: 64 }),
  largeAttention('causal, more keys', { B: 2, T: 67, S: 131, H: 4, G: 2, D: 64 }, causal),
  largeAttention('window', { B: 2, T: 130, H: 4, G: 2, D: 64 }, { causal: true, window: 33 }),
  largeAttention('narrow window, several blocks', { T: 330, H: 2, G: 1, D: 64 }, { causal: true, window: 5 }),
  largeAttention('16 dimensions', { B: 2, T: 131, H: 6, G: 2, D: 16 }, causal),
  largeAttention('80 dimensions', { B: 2, T: 67, H: 6, G: 2, D: 80 }, causal),
  largeAttention('128 dimensions', { B: 2, T: 130, H: 4, G: 2, D: 128 }, causal),
  largeAttention('128 dimensions, full', { T: 67, S: 131, H: 8, G: 2, D: 128 }),
  largeAttention('rising scores', { T: 130, H: 4, G: 1, D: 64 }, { causal: true, change: rising }),
  largeAttention('rising scores, 128 dimensions', { T: 130, H: 4, G: 1, D: 128 }, { causal: true, change: rising }),
  largeAttention(
    'tiny gradients',
    { B: 2, T: 67, H: 6, G: 2, D: 64 },
    { causal: true, change: ({ dy }) => scaled(dy, 1e-6) },
  ),
  largeAttention('fading gradients', { B: 2, T: 67, H: 6, G: 2, D: 64 }, { causal: true, change: fading }),
  largeAttention(
    'tiny keys, huge values',
    { B: 2, T: 67, H: 6, G: 2, D: 64 },
    {
      causal: true,
      change({ q, k, v }) {
        scaled(q, 1e10);
        scaled(k, 1e-10);
        scaled(v, 1e12);
      },
    },
  ),
];
