// crossEntropy, with the logits of one row at a time, and compareLogits.

import { checkIndex, dot, doubles, type Kernel, numbers, target } from './kernel.ts';
import { firstMaximum } from './reduce.ts';
import { logSumExp } from './softmax.ts';

export const crossEntropy: Kernel = ([hidden, weight, targets], [y]) => {
  const [h, w, wanted, to] = [doubles(hidden), doubles(weight), numbers(targets), target(y)];
  const [V, C] = weight.shape;
  const logits = new Float64Array(V);
  wanted.forEach((id, n) => {
    to[n] = 0;
    if (id < 0) return;
    checkIndex('crossEntropy', `target at position ${n}`, id, 0, V - 1);
    for (let v = 0; v < V; v++) logits[v] = dot(h, n * C, w, v * C, C);
    to[n] = logSumExp(logits, 0, V) - logits[id];
  });
};

export const compareLogits: Kernel = ([p, q, targets], [y]) => {
  const [lp, lq, wanted, to] = [numbers(p), numbers(q), numbers(targets), target(y)];
  const V = p.shape[1];
  wanted.forEach((id, n) => {
    const first = n * V;
    const [zp, zq] = [logSumExp(lp, first, V), logSumExp(lq, first, V)];
    let divergence = 0;
    for (let i = first; i < first + V; i++) {
      const logP = lp[i] - zp;
      // A probability of 0 adds nothing, also where its logit is −infinity.
      if (logP > -Infinity) divergence += Math.exp(logP) * (logP - (lq[i] - zq));
    }
    if (id >= 0) checkIndex('compareLogits', `target at position ${n}`, id, 0, V - 1);
    const agree = firstMaximum(lp, first, V) === firstMaximum(lq, first, V);
    to[4 * n] = id < 0 ? 0 : zp - lp[first + id];
    to[4 * n + 1] = id < 0 ? 0 : zq - lq[first + id];
    to[4 * n + 2] = divergence;
    to[4 * n + 3] = agree ? 1 : 0;
  });
};
