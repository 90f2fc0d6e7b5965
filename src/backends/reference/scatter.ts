// Gradients of look-ups: embedding, topK and expertMatmul. Sums are gathered in float64 and rounded once.

import type { EmbeddingBackwardAttributes } from '../../graph/ops/embedding.ts';
import type { ExpertGradientAttributes, ExpertWeightGradientAttributes } from '../../graph/ops/expert-matmul.ts';
import type { TopKBackwardAttributes } from '../../graph/ops/top-k.ts';
import { checkIndex, doubles, type Kernel, numbers, target } from './kernel.ts';

export const embeddingBackward: Kernel<EmbeddingBackwardAttributes> = ([ids, dy], [dtable], { rows }) => {
  const [index, incoming, to] = [numbers(ids), numbers(dy), target(dtable)];
  const C = dtable.shape[1];
  const sums = new Float64Array(to.length);
  index.forEach((id, i) => {
    checkIndex('embeddingBackward', `id at position ${i}`, id, 0, rows - 1);
    for (let c = 0; c < C; c++) sums[id * C + c] += incoming[i * C + c];
  });
  to.set(sums);
};

export const topKBackward: Kernel<TopKBackwardAttributes> = ([indices, dvalues], [dx], { entries }) => {
  const [index, incoming, to] = [numbers(indices), numbers(dvalues), target(dx)];
  const k = indices.shape[1];
  to.fill(0);
  index.forEach((e, i) => {
    checkIndex('topKBackward', `index at position ${i}`, e, 0, entries - 1);
    to[Math.floor(i / k) * entries + e] += incoming[i];
  });
};

export const expertMatmulBackward: Kernel<ExpertGradientAttributes> = (
  [x, weight, indices, dy],
  [dx, dweight],
  { weightGradient },
) => {
  const [input, weights, expert, incoming] = [doubles(x), doubles(weight), numbers(indices), doubles(dy)];
  const [E, M, K] = weight.shape;
  const slots = indices.shape[1];
  const inputSums = new Float64Array(input.length);
  const weightSums = new Float64Array(weightGradient ? E * M * K : 0);
  expert.forEach((e, i) => {
    checkIndex('expertMatmulBackward', `expert index at position ${i}`, e, 0, E - 1);
    const from = (x.shape.length === 3 ? i : Math.floor(i / slots)) * K;
    for (let m = 0; m < M; m++) {
      const g = incoming[i * M + m];
      const row = (e * M + m) * K;
      for (let j = 0; j < K; j++) inputSums[from + j] += g * weights[row + j];
      for (let j = 0; weightGradient && j < K; j++) weightSums[row + j] += g * input[from + j];
    }
  });
  target(dx).set(inputSums);
  if (weightGradient) target(dweight).set(weightSums);
};

export const expertWeightGradient: Kernel<ExpertWeightGradientAttributes> = (
  [x, dy, indices],
  [dweight],
  { experts },
) => {
  const [input, incoming, expert] = [doubles(x), doubles(dy), numbers(indices)];
  const [, M, K] = dweight.shape;
  const slots = indices.shape[1];
  const sums = new Float64Array(experts * M * K);
  expert.forEach((e, i) => {
    checkIndex('expertWeightGradient', `expert index at position ${i}`, e, 0, experts - 1);
    const from = (x.shape.length === 3 ? i : Math.floor(i / slots)) * K;
    for (let m = 0; m < M; m++)
      for (let j = 0; j < K; j++) sums[(e * M + m) * K + j] += incoming[i * M + m] * input[from + j];
  });
  target(dweight).set(sums);
};
