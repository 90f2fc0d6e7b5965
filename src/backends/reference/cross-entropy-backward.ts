// Gradients of crossEntropy, with the logits of one row at a time, and of compareLogits.

import type { WeightGradientAttributes } from '../../graph/ops/cross-entropy.ts';
import { checkIndex, dot, doubles, type Kernel, numbers, target } from './kernel.ts';
import { logSumExp } from './softmax.ts';

export const crossEntropyBackward: Kernel<WeightGradientAttributes> = (
  [hidden, weight, targets, nll, dnll],
  [dhidden, dweight],
  { weightGradient },
) => {
  const [h, w, wanted] = [doubles(hidden), doubles(weight), numbers(targets)];
  const [losses, incoming] = [numbers(nll), numbers(dnll)];
  const [V, C] = weight.shape;
  const logits = new Float64Array(V);
  const hiddenSums = new Float64Array(h.length);
  const weightSums = new Float64Array(weightGradient ? V * C : 0);
  wanted.forEach((id, n) => {
    if (id < 0) return;
    checkIndex('crossEntropyBackward', `target at position ${n}`, id, 0, V - 1);
    for (let v = 0; v < V; v++) logits[v] = dot(h, n * C, w, v * C, C);
    const normalizer = losses[n] + logits[id];
    for (let v = 0; v < V; v++) {
      // d nll / d logit = probability − 1 at the target, probability elsewhere
      const g = incoming[n] * (Math.exp(logits[v] - normalizer) - (v === id ? 1 : 0));
      for (let c = 0; c < C; c++) hiddenSums[n * C + c] += g * w[v * C + c];
      for (let c = 0; weightGradient && c < C; c++) weightSums[v * C + c] += g * h[n * C + c];
    }
  });
  target(dhidden).set(hiddenSums);
  if (weightGradient) target(dweight).set(weightSums);
};

export const compareLogitsBackward: Kernel = ([p, q, targets, dy], [dp, dq]) => {
  const [lp, lq, wanted, incoming] = [numbers(p), numbers(q), numbers(targets), numbers(dy)];
  const [toP, toQ] = [target(dp), target(dq)];
  const V = p.shape[1];
  wanted.forEach((id, n) => {
    const first = n * V;
    const [zp, zq] = [logSumExp(lp, first, V), logSumExp(lq, first, V)];
    // log p − log q; a probability of 0 adds nothing, as in the forward pass.
    const gap = (i: number) => (lp[i] === -Infinity ? 0 : lp[i] - zp - (lq[i] - zq));
    let divergence = 0;
    for (let i = first; i < first + V; i++) divergence += Math.exp(lp[i] - zp) * gap(i);
    const [nllP, nllQ, kl] = [id < 0 ? 0 : incoming[4 * n], id < 0 ? 0 : incoming[4 * n + 1], incoming[4 * n + 2]];
    for (let i = first; i < first + V; i++) {
      const [probP, probQ, hit] = [Math.exp(lp[i] - zp), Math.exp(lq[i] - zq), i === first + id && id >= 0 ? 1 : 0];
      toP[i] = nllP * (probP - hit) + kl * probP * (gap(i) - divergence);
      toQ[i] = nllQ * (probQ - hit) + kl * (probQ - probP);
    }
  });
};
