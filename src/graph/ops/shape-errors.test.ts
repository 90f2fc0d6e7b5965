// Every shape rule refuses wrong calls with one sentence: op, what was wrong, what came, what was expected, the fix.

import { describe, expect, it } from 'vitest';
import { SubbyteError } from '../../errors.ts';
import { parseFormat } from '../../formats/registry.ts';
import { applyOp } from '../apply.ts';
import type { Value, ValueType } from '../graph.ts';
import { trace } from '../trace.ts';
import { f32, i32, packed } from '../value-type.ts';
import { add } from './arithmetic.ts';
import { attention } from './attention.ts';
import { cacheWrite } from './cache-write.ts';
import { compareLogits } from './compare-logits.ts';
import { crossEntropy } from './cross-entropy.ts';
import { dgeBackward } from './dge.ts';
import { embedding } from './embedding.ts';
import { expertMatmul } from './expert-matmul.ts';
import { fakeQuantize } from './fake-quantize.ts';
import { hadamard } from './hadamard.ts';
import { kvAttention } from './kv-attention.ts';
import { packChannels, ringWrite } from './kv-write.ts';
import { concat, pad, reshape, slice, transpose } from './layout.ts';
import { matmul } from './matmul.ts';
import { layerNorm, rmsNorm } from './norm.ts';
import { adamw, sgd, sgdMomentum } from './optimizers.ts';
import { dequantize, quantize } from './quantize.ts';
import { argmax, broadcastTo, sum } from './reduce.ts';
import { rope } from './rope.ts';
import { softmax, softmaxBackwardOp } from './softmax.ts';
import { swiglu } from './swiglu.ts';
import { targetMask } from './target-mask.ts';
import { topK } from './top-k.ts';
import { silu } from './unary.ts';

const mxfp4 = parseFormat('mxfp4');
const cacheTypes = [f32([1, 8, 2, 4]), f32([1, 9, 2, 4]), i32([1])];
const keys8 = parseFormat('int2-g8-asymf');
const kvView = { scale: 1, keys: 'channel', block: 8, residual: 8, sinks: 0, window: 0 } as const;
/** q, keys, values, recent keys and values of a cache of 24 tokens. */
const kvTypes = (columns: number, ring: number): ValueType[] => [
  f32([1, 3, 4, 4]),
  packed([1, 2, 4, columns], keys8),
  packed([1, 24, 2, 4], parseFormat('int2-channel-asymf')),
  f32([1, ring, 2, 4]),
  f32([1, ring, 2, 4]),
];
const half = { style: 'half' } as const;

type Case = [message: string, types: ValueType[], call: (...values: Value[]) => unknown];

const cases: Case[] = [
  ['pad: bad number of zeros, got -1 and 0, expected whole numbers from 0', [f32([2])], (x) => pad(x, 0, -1, 0)],
  [
    'broadcastTo: the result has the wrong shape, got [2, 3], expected [1, 3]; only dimensions of 1 stretch',
    [f32([2, 3])],
    (x) => broadcastTo(x, [1, 3]),
  ],
  [
    'fakeQuantize: step has the wrong shape, got [2, 3], expected [1, 3]; give a step that broadcasts to x',
    [f32([1, 3]), f32([2, 1])],
    (x, step) => fakeQuantize(x, step, { low: -2, high: 1 }),
  ],
  [
    'fakeQuantize: bad grid, got low 1, high 2, epsilon 1e-8, expected low ≤ 0 ≤ high, low < high, epsilon above 0',
    [f32([3]), f32([1])],
    (x, step) => fakeQuantize(x, step, { low: 1, high: 2 }),
  ],
  [
    'fakeQuantize: bad levels, got shift 0.25, edge 1, expected shift 0 or 1/2, a finite edge; leave them out',
    [f32([3]), f32([1])],
    (x, step) => fakeQuantize(x, step, { low: -2, high: 1, shift: 0.25 }),
  ],
  ['targetMask: targets must be i32', [f32([3])], targetMask],
  [
    'dgeBackward: y has no scaled levels, got int4-g32-asym[2, 32], expected a format of scaled elements without zero',
    [f32([2, 32]), packed([2, 32], parseFormat('int4-g32-asym')), f32([2, 32])],
    (x, y, dy) => dgeBackward(x, y, dy, { k: 5, cap: 3 }),
  ],
  [
    'dgeBackward: bad estimator, got k 0.5, cap 3, expected k from 1, cap above 0',
    [f32([2, 32]), packed([2, 32], mxfp4), f32([2, 32])],
    (x, y, dy) => dgeBackward(x, y, dy, { k: 0.5, cap: 3 }),
  ],
  [
    'sgd: gradient has the wrong shape, got [2], expected [3]; the gradient has the shape of the weight',
    [f32([3]), f32([2]), f32([1])],
    (w, g, rate) => sgd(w, g, rate, { weightDecay: 0 }),
  ],
  [
    'sgdMomentum: the first moment has the wrong shape, got [2], expected [3]; states have the shape of the weight',
    [f32([3]), f32([2]), f32([3]), f32([1])],
    (w, m, g, rate) => sgdMomentum(w, m, g, rate, { weightDecay: 0, momentum: 0.9, nesterov: false }),
  ],
  [
    'adamw: step must be i32, got f32[1]',
    [f32([3]), f32([3]), f32([3]), f32([3]), f32([1]), f32([1])],
    (w, m, v, g, learningRate, step) =>
      adamw(w, { m, v }, g, { learningRate, step }, { weightDecay: 0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 }),
  ],
  [
    'softmaxBackward: dy has the wrong shape, got [3], expected [2, 3]; dy has the shape of y',
    [f32([2, 3]), f32([3])],
    (y, dy) => applyOp(softmaxBackwardOp, [y, dy], {}),
  ],
  ['reshape: the number of elements changes, got [2, 3], expected [7]', [f32([2, 3])], (x) => reshape(x, [7])],
  ['reshape: the number of elements changes, got [2, 3], expected [4, 1]', [f32([2, 3])], (x) => reshape(x, [4, -1])],
  [
    'reshape: packed rows cannot be cut, got mxfp4[2, 32], expected last dimension 32',
    [packed([2, 32], mxfp4)],
    (x) => reshape(x, [64]),
  ],
  ['transpose: not a permutation of the dimensions, got [0, 0] for [2, 3]', [f32([2, 3])], (x) => transpose(x, [0, 0])],
  ['transpose: not a permutation', [f32([2, 3])], (x) => transpose(x, [1])],
  [
    'transpose: packed values cannot be rearranged, got mxfp4[2, 32], expected f32 or i32; call dequantize',
    [packed([2, 32], mxfp4)],
    (x) => transpose(x, [1, 0]),
  ],
  ['slice: outside axis 1 of [2, 3], got 2 … 3, expected within 0 … 2', [f32([2, 3])], (x) => slice(x, -1, 2, 2)],
  ['slice: outside axis 0', [f32([2, 3])], (x) => slice(x, 0, 0, 0)],
  ['slice: outside axis 0', [f32([2, 3])], (x) => slice(x, 0, -1, 1)],
  ['slice: axis 2 does not exist, got [2, 3], expected an axis below 2', [f32([2, 3])], (x) => slice(x, 2, 0, 1)],
  [
    'concat: input 1 has the wrong shape, got [3, 3], expected [2, 3]',
    [f32([2, 3]), f32([3, 3])],
    (a, b) => concat([a, b], 1),
  ],
  ['concat: input 1 has another dtype, got i32[2], expected f32[2]', [f32([2]), i32([2])], (a, b) => concat([a, b], 0)],
  [
    'add: shapes do not broadcast, got [2, 3] and [2], expected equal dimensions or 1; reshape',
    [f32([2, 3]), f32([2])],
    add,
  ],
  ['add: b must be dense f32, got i32[2], expected f32; pass f32 values', [f32([2]), i32([2])], add],
  [
    'add: a must be dense f32, got mxfp4[2, 32], expected f32; call dequantize first',
    [packed([2, 32], mxfp4), f32([32])],
    add,
  ],
  ['silu: x must be dense f32', [i32([2])], silu],
  ['swiglu: up has the wrong shape, got [2, 4], expected [2, 3]', [f32([2, 3]), f32([2, 4])], swiglu],
  ['sum: axes must differ, got [1, 1]', [f32([2, 3])], (x) => sum(x, { axes: [1, -1] })],
  ['sum: axes must differ, got []', [f32([2, 3])], (x) => sum(x, { axes: [] })],
  ['argmax: x has 0 dimensions, got f32[], expected at least 1 dimensions', [f32([])], argmax],
  ['softmax: x has 0 dimensions', [f32([])], softmax],
  [
    'rmsNorm: weight has the wrong shape, got [4], expected [3]',
    [f32([2, 3]), f32([4])],
    (x, w) => rmsNorm(x, w, { epsilon: 1e-5 }),
  ],
  [
    'layerNorm: bias has the wrong shape, got [1], expected [3]',
    [f32([2, 3]), f32([3]), f32([1])],
    (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 }),
  ],
  [
    'embedding: ids must be i32, got f32[2], expected i32; declare the input with i32(shape)',
    [f32([5, 3]), f32([2])],
    embedding,
  ],
  ['embedding: table has 1 dimensions', [f32([5]), i32([2])], embedding],
  [
    'rope: positions has the wrong shape, got [3], expected [1, 3]',
    [f32([1, 3, 2, 8]), i32([3]), f32([4])],
    (x, p, f) => rope(x, p, f, half),
  ],
  [
    'rope: more dimensions are rotated than x has, got 2 × 5 for [1, 3, 2, 8], expected at most 8',
    [f32([1, 3, 2, 8]), i32([1, 3]), f32([5])],
    (x, p, f) => rope(x, p, f, half),
  ],
  [
    'attention: k has the wrong shape, got [1, 3, 2, 5], expected [1, 3, 2, 4]',
    [f32([1, 3, 2, 4]), f32([1, 3, 2, 5]), f32([1, 3, 2, 5])],
    (q, k, v) => attention(q, k, v),
  ],
  [
    'attention: v has the wrong shape, got [1, 4, 2, 4], expected [1, 3, 2, 4]',
    [f32([1, 3, 2, 4]), f32([1, 3, 2, 4]), f32([1, 4, 2, 4])],
    (q, k, v) => attention(q, k, v),
  ],
  [
    'attention: query heads do not divide into key/value heads, got H 3, G 2',
    [f32([1, 3, 3, 4]), f32([1, 3, 2, 4]), f32([1, 3, 2, 4])],
    (q, k, v) => attention(q, k, v),
  ],
  [
    'attention: bad window, got 2, expected 0, or a whole number with causal; set causal: true',
    [f32([1, 3, 2, 4]), f32([1, 3, 2, 4]), f32([1, 3, 2, 4])],
    (q, k, v) => attention(q, k, v, { window: 2 }),
  ],
  [
    'attention: more queries than keys',
    [f32([1, 3, 2, 4]), f32([1, 2, 2, 4]), f32([1, 2, 2, 4])],
    (q, k, v) => attention(q, k, v, { causal: true }),
  ],
  [
    'attention: start has the wrong shape, got [2], expected [1]',
    [f32([1, 3, 2, 4]), f32([1, 3, 2, 4]), f32([1, 3, 2, 4]), i32([2])],
    (q, k, v, start) => attention(q, k, v, { start }),
  ],
  ['cacheWrite: x has more tokens than the cache, got [1, 9, 2, 4], expected at most 8 tokens', cacheTypes, cacheWrite],
  [
    'cacheWrite: x has the wrong shape, got [1, 2, 2, 5], expected [1, 2, 2, 4]',
    [cacheTypes[0], f32([1, 2, 2, 5]), i32([1])],
    cacheWrite,
  ],
  [
    'cacheWrite: x is stored in another format than the cache, got f32[1, 2, 2, 32], expected mxfp4[1, 8, 2, 32]',
    [packed([1, 8, 2, 32], mxfp4), f32([1, 2, 2, 32]), i32([1])],
    cacheWrite,
  ],
  [
    'cacheWrite: rows of this format share scales, got fp8-e4m3-tensor[1, 8, 2, 4]',
    [packed([1, 8, 2, 4], parseFormat('fp8')), packed([1, 2, 2, 4], parseFormat('fp8')), i32([1])],
    cacheWrite,
  ],
  [
    'ringWrite: x has more tokens than the ring, got 3 tokens, expected at most 2; allocate a longer ring',
    [f32([1, 4, 2, 4]), f32([1, 3, 2, 4]), i32([1])],
    (ring, x, start) => ringWrite(ring, x, start, { sinks: 2 }),
  ],
  [
    'ringWrite: bad number of sinks, got 4, expected 0 … 3',
    [f32([1, 4, 2, 4]), f32([1, 3, 2, 4]), i32([1])],
    (ring, x, start) => ringWrite(ring, x, start, { sinks: 4 }),
  ],
  [
    'packChannels: the ring does not hold the groups that the new tokens complete, got 9 tokens after the sinks, expected at least 11',
    [packed([1, 2, 4, 32], keys8), f32([1, 9, 2, 4]), i32([1])],
    (cache, ring, start) => packChannels(cache, ring, start, { tokens: 4, sinks: 0 }),
  ],
  [
    'packChannels: keys per channel need scales of groups that fill whole bytes, got int3-channel[1, 2, 4, 32]',
    [packed([1, 2, 4, 32], parseFormat('int3-channel')), f32([1, 9, 2, 4]), i32([1])],
    (cache, ring, start) => packChannels(cache, ring, start, { tokens: 1, sinks: 0 }),
  ],
  [
    'packChannels: the cache has the wrong shape, got [1, 4, 2, 32], expected [1, 2, 4, 32]',
    [packed([1, 4, 2, 32], keys8), f32([1, 9, 2, 4]), i32([1])],
    (cache, ring, start) => packChannels(cache, ring, start, { tokens: 1, sinks: 0 }),
  ],
  [
    'kvAttention: the keys are too short, got int2-g8-asymf[1, 2, 4, 8], expected 16 tokens; allocate a longer cache',
    kvTypes(8, 24),
    (q, keys, values, k, v) => kvAttention(q, { keys, values, recentKeys: k, recentValues: v }, kvView),
  ],
  [
    'kvAttention: the ring of exact tokens is too short, got 10 rows, expected at least 11; allocate a longer ring',
    kvTypes(16, 10),
    (q, keys, values, k, v) => kvAttention(q, { keys, values, recentKeys: k, recentValues: v }, kvView),
  ],
  [
    'kvAttention: bad attributes, got {"scale":1,"keys":"channel","block":0',
    kvTypes(16, 24),
    (q, keys, values, k, v) =>
      kvAttention(q, { keys, values, recentKeys: k, recentValues: v }, { ...kvView, block: 0 }),
  ],
  [
    'kvAttention: values must be packed row by row, got f32[1, 24, 2, 4]',
    kvTypes(16, 24).map((t, i) => (i === 2 ? f32([1, 24, 2, 4]) : t)),
    (q, keys, values, k, v) => kvAttention(q, { keys, values, recentKeys: k, recentValues: v }, kvView),
  ],
  ['cacheWrite: start must be i32', [cacheTypes[0], f32([1, 2, 2, 4]), f32([1])], cacheWrite],
  [
    'matmul: the operands differ in K, got [2, 3] and [4, 5] (K 3 and 4), expected one K; check transposeA',
    [f32([2, 3]), f32([4, 5])],
    (a, b) => matmul(a, b),
  ],
  [
    'matmul: batch dimensions differ, got [2, 4, 3] and [5, 3, 2]',
    [f32([2, 4, 3]), f32([5, 3, 2])],
    (a, b) => matmul(a, b),
  ],
  ['matmul: a has 1 dimensions', [f32([3]), f32([3, 2])], (a, b) => matmul(a, b)],
  ['matmul: b must hold real numbers, got i32[3, 2]', [f32([2, 3]), i32([3, 2])], (a, b) => matmul(a, b)],
  [
    'matmul: packed b must have K last, got [32, 32], expected [..., N, K]; set transposeB: true',
    [f32([2, 32]), packed([32, 32], mxfp4)],
    (a, b) => matmul(a, b),
  ],
  [
    'matmul: packed a must have K last',
    [packed([32, 32], mxfp4), f32([32, 2])],
    (a, b) => matmul(a, b, { transposeA: true }),
  ],
  [
    'quantize: the group size does not divide the reduction dimension K, got K = 33',
    [f32([2, 33])],
    (x) => quantize(x, mxfp4),
  ],
  ['quantize: x must be dense f32', [packed([2, 32], mxfp4)], (x) => quantize(x, mxfp4)],
  [
    'dequantize: x is dense already, got f32[2, 32], expected packed values; leave out dequantize',
    [f32([2, 32])],
    dequantize,
  ],
  [
    'hadamard: blockSize does not fit [2, 48], got 32, expected a power of two that divides 48',
    [f32([2, 48])],
    (x) => hadamard(x, { blockSize: 32 }),
  ],
  ['hadamard: blockSize does not fit [2, 48], got 24', [f32([2, 48])], (x) => hadamard(x, { blockSize: 24 })],
  [
    'hadamard: signs has the wrong shape, got [8], expected [16]',
    [f32([2, 48]), f32([8])],
    (x, signs) => hadamard(x, { blockSize: 16, signs }),
  ],
  ['topK: k does not fit [2, 5], got 6, expected 1 … 5', [f32([2, 5])], (x) => topK(x, 6)],
  ['topK: x has 3 dimensions', [f32([2, 5, 1])], (x) => topK(x, 1)],
  [
    'expertMatmul: x has the wrong shape, got [3, 8], expected [4, 8]',
    [f32([3, 8]), f32([2, 5, 8]), i32([4, 2])],
    expertMatmul,
  ],
  [
    'expertMatmul: x has the wrong shape, got [4, 3, 8], expected [4, 2, 8]',
    [f32([4, 3, 8]), f32([2, 5, 8]), i32([4, 2])],
    expertMatmul,
  ],
  ['expertMatmul: x has too many dimensions', [f32([1, 4, 2, 8]), f32([2, 5, 8]), i32([4, 2])], expertMatmul],
  [
    'crossEntropy: weight has the wrong shape, got [7, 4], expected [7, 3]',
    [f32([2, 3]), f32([7, 4]), i32([2])],
    crossEntropy,
  ],
  [
    'crossEntropy: targets has the wrong shape, got [3], expected [2]',
    [f32([2, 3]), f32([7, 3]), i32([3])],
    crossEntropy,
  ],
  [
    'compareLogits: q has the wrong shape, got [2, 8], expected [2, 7]',
    [f32([2, 7]), f32([2, 8]), i32([2])],
    compareLogits,
  ],
  ['compareLogits: targets must be i32', [f32([2, 7]), f32([2, 7]), f32([2])], compareLogits],
];

describe('shape rules', () => {
  it.each(cases)('%s', (message, types, call) => {
    trace((g) => {
      const values = types.map((type, i) => g.input(`x${i}`, type));
      let caught: unknown;
      try {
        call(...values);
      } catch (error) {
        caught = error;
      }
      expect(caught).toBeInstanceOf(SubbyteError);
      expect((caught as SubbyteError).message).toContain(message);
      expect((caught as SubbyteError).exitCode).toBe(1);
      expect(g.graph.nodes).toHaveLength(0);
    });
  });
});
