// Test signals with different crest factors, all reproducible: the same values for the same seed on every machine.

import { uniformSource } from '../../formats/random.ts';
import { gaussianMatrix } from '../gaussian.ts';

export const signals = ['uniform', 'gaussian', 'laplace', 'student-t'] as const;
export type Signal = (typeof signals)[number];

/** Values [rows, cols] of unit scale; student-t has 4 degrees of freedom. */
export function signalMatrix(signal: Signal, rows: number, cols: number, seed: number): Float32Array {
  if (signal === 'gaussian') return gaussianMatrix(rows, cols, seed);
  if (signal === 'student-t') return studentMatrix(rows, cols, seed);
  const uniform = uniformSource(seed, 1);
  return Float32Array.from({ length: rows * cols }, (_, i) => {
    const u = 2 * uniform.at(i) - 1 + 2 ** -24;
    return signal === 'uniform' ? u : -Math.sign(u) * Math.log(1 - Math.abs(u));
  });
}

/** z·√(4/χ²₄), and χ²₄/2 is the sum of two exponential numbers. */
function studentMatrix(rows: number, cols: number, seed: number): Float32Array {
  const z = gaussianMatrix(rows, cols, seed);
  const uniform = uniformSource(seed, 2);
  return z.map(
    (v, i) => v * Math.sqrt(-2 / Math.log((1 - uniform.at(2 * i)) * (1 - uniform.at(2 * i + 1)) * (1 - 2 ** -25))),
  );
}
