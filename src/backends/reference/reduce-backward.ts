// Stretching, zeros around a tensor, and the gradients of max, softmax and the norms.

import type { PadAttributes } from '../../graph/ops/layout.ts';
import type { NormAttributes } from '../../graph/ops/norm.ts';
import { elementCount } from '../../tensor/shape.ts';
import { broadcastIndex } from './elementwise.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const broadcastTo: Kernel = ([x], [y]) => {
  const [from, to, at] = [numbers(x), target(y), broadcastIndex(x.shape, y.shape)];
  for (let i = 0; i < to.length; i++) to[i] = from[at(i)];
};

export const pad: Kernel<PadAttributes> = ([x], [y], { axis, before }) => {
  const [from, to] = [numbers(x), target(y)];
  const inner = elementCount(x.shape.slice(axis + 1));
  const outer = elementCount(x.shape.slice(0, axis));
  const run = x.shape[axis] * inner;
  to.fill(0);
  for (let o = 0; o < outer; o++) to.set(from.subarray(o * run, (o + 1) * run), (o * y.shape[axis] + before) * inner);
};

export const maxBackward: Kernel = ([x, y, dy], [dx]) => {
  const [from, largest, incoming, to] = [numbers(x), numbers(y), numbers(dy), target(dx)];
  const at = broadcastIndex(y.shape, x.shape);
  const ties = new Float64Array(largest.length);
  for (let i = 0; i < to.length; i++) if (from[i] === largest[at(i)]) ties[at(i)]++;
  for (let i = 0; i < to.length; i++) to[i] = from[i] === largest[at(i)] ? incoming[at(i)] / ties[at(i)] : 0;
};

export const softmaxBackward: Kernel = ([y, dy], [dx]) => {
  const [p, incoming, to] = [numbers(y), numbers(dy), target(dx)];
  const C = y.shape[y.shape.length - 1];
  for (let first = 0; first < to.length; first += C) {
    let mean = 0;
    for (let i = first; i < first + C; i++) mean += p[i] * incoming[i];
    for (let i = first; i < first + C; i++) to[i] = p[i] * (incoming[i] - mean);
  }
};

/** With n = (x − μ)/σ and u = weight · dy: dx = (u − mean(u) − n · mean(u n))/σ; rmsNorm has no μ and no mean(u). */
const normBackward =
  (centered: boolean): Kernel<NormAttributes> =>
  ([x, weight, dy], [dx, dweight, dbias], { epsilon }) => {
    const [from, w, incoming, to] = [numbers(x), numbers(weight), numbers(dy), target(dx)];
    const C = w.length;
    const weightSums = new Float64Array(C);
    const biasSums = new Float64Array(C);
    for (let first = 0; first < to.length; first += C) {
      let mu = 0;
      for (let c = 0; centered && c < C; c++) mu += from[first + c] / C;
      let variance = 0;
      for (let c = 0; c < C; c++) variance += (from[first + c] - mu) ** 2 / C;
      const inverse = 1 / Math.sqrt(variance + epsilon);
      let [plain, correlated] = [0, 0];
      for (let c = 0; c < C; c++) {
        const [n, g] = [(from[first + c] - mu) * inverse, incoming[first + c]];
        if (centered) plain += (w[c] * g) / C;
        correlated += (w[c] * g * n) / C;
        weightSums[c] += g * n;
        biasSums[c] += g;
      }
      for (let c = 0; c < C; c++) {
        const n = (from[first + c] - mu) * inverse;
        to[first + c] = (w[c] * incoming[first + c] - plain - n * correlated) * inverse;
      }
    }
    target(dweight).set(weightSums);
    if (centered) target(dbias).set(biasSums);
  };

export const rmsNormBackward = normBackward(false);
export const layerNormBackward = normBackward(true);
