// Orthogonal matrices by their action on rows: what rotations of a model are made of.
//
// Method: D · H / √n (random signs, then a Hadamard matrix) where n has a Hadamard matrix, else the Q of a Gaussian
// matrix's QR decomposition, by Gram-Schmidt on its rows, done twice so that rounding does not add up ("twice is
// enough", Giraud et al. 2005); such a Q is uniformly distributed. The dense matrix costs n² a row and n³ to make, so it
// is for offline rotations of the few widths without a Hadamard matrix only. Arithmetic in float64.

import type { Rotation } from '../../nn/hadamard.ts';
import { hadamardOrder, multiplyHadamard, randomSigns } from '../../tensor/hadamard.ts';
import { gaussianMatrix } from '../gaussian.ts';

/** An orthogonal matrix Q of order `size`. */
export interface Orthogonal {
  readonly size: number;
  /** Multiplies every run of `size` values by Q, in place; the length is a multiple of `size`. */
  multiply(values: Float64Array): void;
}

/** What rotateInput of nn/hadamard.ts multiplies by: x · Q for rows x. */
export function hadamardRotation({ size, stride = 1, seed }: Rotation): Orthogonal {
  const signs = seed === undefined ? undefined : randomSigns(size, seed);
  const flip = (values: Float64Array) => {
    if (signs) for (let i = 0; i < values.length; i++) values[i] *= signs[i % size];
  };
  const run = size * stride;
  if (stride === 1)
    return {
      size,
      multiply(values) {
        flip(values);
        multiplyHadamard(values, size);
      },
    };
  const blocks = new Float64Array(run); // [stride, size]
  return {
    size: run,
    multiply(values) {
      for (let first = 0; first < values.length; first += run) {
        for (let i = 0; i < size; i++)
          for (let s = 0; s < stride; s++) blocks[s * size + i] = values[first + i * stride + s];
        flip(blocks);
        multiplyHadamard(blocks, size);
        for (let i = 0; i < size; i++)
          for (let s = 0; s < stride; s++) values[first + i * stride + s] = blocks[s * size + i];
      }
    },
  };
}

/** A rotation that is merged into weights on both sides: a Hadamard matrix with signs where n has one, else dense. */
export function offlineRotation(n: number, randomized: boolean, seed: number): Orthogonal {
  if (hadamardOrder(n)) return hadamardRotation({ size: n, seed: randomized ? seed : undefined });
  return denseRotation(randomOrthogonal(n, seed), n);
}

/** Multiplication by Q [n, n], row-major. */
export function denseRotation(q: Float64Array, n: number): Orthogonal {
  const sums = new Float64Array(n);
  return {
    size: n,
    multiply(values) {
      for (let first = 0; first < values.length; first += n) {
        sums.fill(0);
        for (let i = 0; i < n; i++) {
          const value = values[first + i];
          for (let j = 0; j < n; j++) sums[j] += value * q[i * n + j];
        }
        values.set(sums, first);
      }
    },
  };
}

/** A uniformly distributed orthogonal matrix [n, n], row-major; the same for the same seed. */
export function randomOrthogonal(n: number, seed: number): Float64Array {
  const q = Float64Array.from(gaussianMatrix(n, n, seed));
  for (let i = 0; i < n; i++) {
    const row = q.subarray(i * n, (i + 1) * n);
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) {
        const other = q.subarray(j * n, (j + 1) * n);
        const share = dot(row, other);
        for (let k = 0; k < n; k++) row[k] -= share * other[k];
      }
    const norm = Math.sqrt(dot(row, row));
    for (let k = 0; k < n; k++) row[k] /= norm;
  }
  return q;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
