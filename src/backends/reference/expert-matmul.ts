// Matrix-vector products with the expert that the router chose for each row and slot.

import { checkIndex, dot, doubles, type Kernel, numbers, target } from './kernel.ts';

export const expertMatmul: Kernel = ([x, weight, indices], [y]) => {
  const [input, weights, expert, to] = [doubles(x), doubles(weight), numbers(indices), target(y)];
  const [E, M, K] = weight.shape;
  const slots = indices.shape[1];
  expert.forEach((e, i) => {
    checkIndex('expertMatmul', `expert index at position ${i}`, e, 0, E - 1);
    const row = x.shape.length === 3 ? i : Math.floor(i / slots);
    for (let m = 0; m < M; m++) to[i * M + m] = dot(weights, (e * M + m) * K, input, row * K, K);
  });
};
