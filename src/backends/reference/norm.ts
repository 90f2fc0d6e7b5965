// rmsNorm and layerNorm over the last axis.

import type { NormAttributes } from '../../graph/ops/norm.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const rmsNorm: Kernel<NormAttributes> = ([x, weight], [y], { epsilon }) => {
  const [from, w, to] = [numbers(x), numbers(weight), target(y)];
  const C = w.length;
  for (let first = 0; first < to.length; first += C) {
    let squares = 0;
    for (let c = 0; c < C; c++) squares += from[first + c] ** 2;
    const scale = 1 / Math.sqrt(squares / C + epsilon);
    for (let c = 0; c < C; c++) to[first + c] = from[first + c] * scale * w[c];
  }
};

export const layerNorm: Kernel<NormAttributes> = ([x, weight, bias], [y], { epsilon }) => {
  const [from, w, b, to] = [numbers(x), numbers(weight), numbers(bias), target(y)];
  const C = w.length;
  for (let first = 0; first < to.length; first += C) {
    let mean = 0;
    for (let c = 0; c < C; c++) mean += from[first + c] / C;
    let variance = 0;
    for (let c = 0; c < C; c++) variance += (from[first + c] - mean) ** 2 / C;
    const scale = 1 / Math.sqrt(variance + epsilon);
    for (let c = 0; c < C; c++) to[first + c] = (from[first + c] - mean) * scale * w[c] + b[c];
  }
};
