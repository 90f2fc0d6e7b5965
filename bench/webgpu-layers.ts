// Families of what lies between the matrix products: attention, norms, losses, the optimizer; each composed of simple
// ops first, then as one op.

import { gradients } from '../src/graph/differentiate.ts';
import type { Value } from '../src/graph/graph.ts';
import { affine } from '../src/graph/ops/affine.ts';
import { add, div, mul, sub } from '../src/graph/ops/arithmetic.ts';
import { attention } from '../src/graph/ops/attention.ts';
import { crossEntropy } from '../src/graph/ops/cross-entropy.ts';
import { embedding } from '../src/graph/ops/embedding.ts';
import { reshape, transpose } from '../src/graph/ops/layout.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { rmsNorm } from '../src/graph/ops/norm.ts';
import { adamw } from '../src/graph/ops/optimizers.ts';
import { max, mean, sum } from '../src/graph/ops/reduce.ts';
import { softmax } from '../src/graph/ops/softmax.ts';
import { swiglu } from '../src/graph/ops/swiglu.ts';
import { exp, log, rsqrt, silu, sqrt, square } from '../src/graph/ops/unary.ts';
import type { GraphBuilder } from '../src/graph/trace.ts';
import { f32 } from '../src/graph/value-type.ts';
import { tensorF32, tensorI32 } from '../src/tensor/tensor.ts';
import { dense } from './webgpu-data.ts';
import type { Family, Job } from './webgpu-ladder.ts';

const [heads, dimension] = [16, 64];

/** Causal attention by products and a softmax, T × T in memory. */
function composedAttention(q: Value, k: Value, v: Value, mask: Value): Value {
  const byHead = (x: Value) => transpose(reshape(x, x.type.shape.slice(1)), [1, 0, 2]);
  const scores = affine(matmul(byHead(q), byHead(k), { transposeB: true }), { scale: 1 / Math.sqrt(dimension) });
  const y = matmul(softmax(add(scores, mask)), byHead(v));
  return reshape(transpose(y, [1, 0, 2]), q.type.shape);
}

const causalMask = (T: number) =>
  tensorF32(
    [T, T],
    Float32Array.from({ length: T * T }, (_, i) => (i % T > Math.floor(i / T) ? -1e30 : 0)),
  );

function attentionFamilies(T: number): Family[] {
  const shape = (rows: number) => [1, rows, heads, dimension];
  const job =
    (composed: boolean, backward: boolean) =>
    (rows: number): Job => ({
      params: {
        ...Object.fromEntries(['q', 'k', 'v', 'dy'].map((name, i) => [name, dense(shape(rows), i + 1)])),
        ...(composed ? { mask: causalMask(rows) } : {}),
      },
      body({ q, k, v, dy, mask }, g) {
        const y = composed ? composedAttention(q, k, v, mask) : attention(q, k, v, { causal: true });
        if (!backward) return y;
        const [dq, dk, dv] = gradients(g, y, [q, k, v], { seed: dy });
        // all three are wanted; those of k and v depend on later rows, so they are not part of what is checked
        g.output('dk', dk);
        g.output('dv', dv);
        return dq;
      },
    });
  // two products forward, five backward, half of each
  const family = (name: string, backward: boolean, products: number): Family => ({
    name: `${name}, ${T} tokens, ${heads} × ${dimension}`,
    unit: 'FLOP/s',
    work: products * T * T * dimension * heads,
    rows: T,
    checked: 8,
    tolerance: 1e-5,
    anchor: `${backward ? 'attention-backward' : 'attention'}-${T}`,
    versions: [
      { name: 'composed', job: job(true, backward) },
      { name: 'attention', job: job(false, backward) },
    ],
  });
  return [family('attention', false, 2), family('attention, forward and backward', true, 7)];
}

function normFamilies(rows: number, C: number): Family[] {
  const weight = tensorF32(
    [C],
    Float32Array.from({ length: C }, (_, i) => 1 + (i % 7) / 8),
  );
  const epsilon = 1e-6;
  const norm = (x: Value, w: Value) => {
    const scale = rsqrt(affine(mean(square(x), { axes: [-1], keepDims: true }), { offset: epsilon }));
    return mul(mul(x, scale), w);
  };
  const job =
    (composed: boolean, backward: boolean) =>
    (rows: number): Job => ({
      params: { x: dense([rows, C], 1), dy: dense([rows, C], 2), weight },
      body({ x, dy, weight }, g) {
        const y = composed ? norm(x, weight) : rmsNorm(x, weight, { epsilon });
        return backward ? gradients(g, y, [x], { seed: dy })[0] : y;
      },
    });
  const family = (name: string, backward: boolean, passes: number): Family => ({
    name: `${name} ${rows} × ${C}`,
    unit: 'B/s',
    work: 4 * passes * rows * C,
    rows,
    checked: 4,
    tolerance: 1e-5,
    anchor: 'copy',
    versions: [
      { name: 'composed', job: job(true, backward) },
      { name: 'rmsNorm', job: job(false, backward) },
    ],
  });
  return [family('rmsNorm', false, 2), family('rmsNorm, forward and backward', true, 5)];
}

function gateFamily(rows: number, C: number): Family {
  const job =
    (body: (gate: Value, up: Value) => Value) =>
    (rows: number): Job => ({
      params: { gate: dense([rows, C], 1), up: dense([rows, C], 2) },
      body: ({ gate, up }) => body(gate, up),
    });
  return {
    name: `swiglu ${rows} × ${C}`,
    unit: 'B/s',
    work: 12 * rows * C,
    rows,
    checked: 4,
    tolerance: 1e-6,
    anchor: 'copy',
    versions: [
      { name: 'composed', job: job((gate, up) => mul(silu(gate), up)) },
      { name: 'swiglu', job: job(swiglu) },
    ],
  };
}

function lossFamilies(rows: number, C: number, V: number): Family[] {
  const weight = dense([V, C], 2);
  const targets = (rows: number) =>
    tensorI32(
      [rows],
      Int32Array.from({ length: rows }, (_, i) => (i * 7919) % V),
    );
  const composed = (h: Value, w: Value, ids: Value) => {
    const logits = matmul(h, w, { transposeB: true });
    const most = max(logits, { axes: [-1], keepDims: true });
    const total = add(log(sum(exp(sub(logits, most)), { axes: [-1], keepDims: true })), most);
    const target = sum(mul(embedding(w, ids), h), { axes: [-1], keepDims: true });
    return reshape(sub(total, target), [h.type.shape[0]]);
  };
  const job =
    (fused: boolean, backward: boolean) =>
    (rows: number): Job => ({
      params: { hidden: dense([rows, C], 1), weight, targets: targets(rows), dy: dense([rows], 3) },
      body({ hidden, weight, targets, dy }, g) {
        const nll = (fused ? crossEntropy : composed)(hidden, weight, targets);
        return backward ? gradients(g, nll, [hidden], { seed: dy })[0] : nll;
      },
    });
  const family = (name: string, backward: boolean, products: number): Family => ({
    name: `${name} ${rows} × ${C} × ${V}`,
    unit: 'FLOP/s',
    work: products * 2 * rows * C * V,
    rows,
    checked: 2,
    tolerance: 1e-5,
    anchor: 'f32-4096',
    versions: [
      { name: 'composed', job: job(false, backward) },
      { name: 'crossEntropy', job: job(true, backward) },
    ],
  });
  return [family('crossEntropy', false, 1), family('crossEntropy, forward and dhidden', true, 2)];
}

const betas = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1 };
const rate = 1e-3;

/** The new weight of step 1, by elementwise ops that leave the moments too. */
function composedAdamw(g: GraphBuilder, w: Value, m: Value, v: Value, gradient: Value): Value {
  const { beta1, beta2, epsilon, weightDecay } = betas;
  const first = add(affine(m, { scale: beta1 }), affine(gradient, { scale: 1 - beta1 }));
  const second = add(affine(v, { scale: beta2 }), affine(square(gradient), { scale: 1 - beta2 }));
  g.output('m', first);
  g.output('v', second);
  const root = affine(sqrt(affine(second, { scale: 1 / (1 - beta2) })), { offset: epsilon });
  const change = div(affine(first, { scale: 1 / (1 - beta1) }), root);
  return sub(affine(w, { scale: 1 - rate * weightDecay }), affine(change, { scale: rate }));
}

/**
 * Weights are states, which begin with zeros: the first run is step 1 from nothing, which is what the check looks at; the
 * timed runs after it go on from there.
 */
function optimizerFamily(rows: number, C: number): Family {
  const job =
    (fused: boolean) =>
    (rows: number): Job => ({
      params: {
        gradient: dense([rows, C], 1),
        rate: tensorF32([1], Float32Array.of(rate)),
        step: tensorI32([1], Int32Array.of(1)),
      },
      body({ gradient, rate, step }, g) {
        const [w, m, v] = ['w', 'm', 'v'].map((name) => g.state(name, f32([rows, C])));
        if (!fused) return composedAdamw(g, w, m, v, gradient);
        return adamw(w, { m, v }, gradient, { learningRate: rate, step }, betas);
      },
    });
  return {
    name: `adamw ${rows} × ${C}`,
    unit: 'B/s',
    work: 28 * rows * C,
    rows,
    checked: 4,
    tolerance: 1e-6,
    anchor: 'copy',
    versions: [
      { name: 'composed', job: job(false) },
      { name: 'adamw', job: job(true) },
    ],
  };
}

/** `n`: rows and columns of activations and weights; `V`: words. */
export const layerFamilies = (n: number, T: number, V: number): (() => Family)[] => [
  ...[0, 1].map((i) => () => attentionFamilies(T)[i]),
  ...[0, 1].map((i) => () => normFamilies(n, n)[i]),
  () => gateFamily(n, n),
  ...[0, 1].map((i) => () => lossFamilies(n / 2, n / 4, V)[i]),
  () => optimizerFamily(n, n),
];
