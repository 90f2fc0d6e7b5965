// Numerics of calibrated weight solving on the kernels of kernels/solve: factors of Hessians, rounding of columns with
// error feedback, and output errors as quadratic forms. The method that composes them is quantize/gptq.
//
// A pool of its own; all results have the same bits for any number of threads. Memory is taken per call and given back.

import { createPool, type Pool, type PoolOptions } from './pool.ts';
import { bytesOf, copyBytes } from './quantizer-copy.ts';
import { type ColumnRequest, type ColumnSolve, solveColumns } from './solver-columns.ts';
import {
  eachStrip,
  type Factor,
  type FactorRequest,
  factorHessian,
  type NotPositive,
  triangleFloats,
  withMemory,
} from './solver-factor.ts';

export type { ColumnSolve } from './solver-columns.ts';
export type { Factor } from './solver-factor.ts';

export interface Solver {
  readonly threads: number;
  /**
   * The factor U of the damped inverse Hessian, and GPTAQ's correction.
   *
   * @returns the pivot's column where the damped Hessian is not positive definite: raise the damping
   * @throws device error when the features do not fit the memory; its sentence has the limit
   */
  factor(request: FactorRequest): Factor | NotPositive;
  /** Loads rows of a weight; see ColumnSolve. */
  columns(request: ColumnRequest): ColumnSolve;
  /** Opens the forms of a layer's statistics; see ErrorForms. */
  errors(gram: Float32Array, cross: Float32Array | undefined, size: number): ErrorForms;
  dispose(): void;
}

/** Output errors of a layer from its statistics. Its memory is in use until `free`. */
export interface ErrorForms {
  /** Σ over rows of d G dᵀ for d [rows, size], G symmetric: ‖d X̃ᵀ‖². */
  quadratic(d: Float32Array, rows: number): number;
  /** Σ over rows of w C dᵀ, C the cross statistics: ⟨w (X − X̃)ᵀ, d X̃ᵀ⟩. */
  cross(w: Float32Array, d: Float32Array, rows: number): number;
  free(): void;
}

/**
 * Starts the threads.
 *
 * @example
 * const solver = await createSolver();
 * const factor = solver.factor({ gram, size: 4096, damping: 0.01 });
 */
export async function createSolver(options: PoolOptions = {}): Promise<Solver> {
  const pool = await createPool('solve', options);
  const maximumBytes = Math.min(options.maximumBytes ?? 2 ** 32, 2 ** 32);
  return {
    threads: pool.threads,
    factor: (request) => factorHessian(pool, maximumBytes, request),
    columns: (request) => solveColumns(pool, request),
    errors: (gram, cross, size) => errorForms(pool, gram, cross, size),
    dispose: () => pool.dispose(),
  };
}

/** Rows of d that are in the memory at once. */
const rowsAtOnce = 384;

function errorForms(pool: Pool, gram: Float32Array, cross: Float32Array | undefined, size: number): ErrorForms {
  const { allocator, threads } = pool;
  const addresses: number[] = [];
  /** Packs the upper triangle of a matrix, its diagonal times `diagonal`; 'lower': what lies below it, transposed. */
  const triangle = (matrix: Float32Array, diagonal: number | 'lower'): number => {
    const panels = allocator.allocate(4 * triangleFloats(size), 'statistics');
    addresses.push(panels);
    pool.call('clearLastPanel', size, panels);
    eachStrip(pool, matrix, size, (strip, first, count) => {
      if (diagonal === 'lower') pool.run('packLower', strip, first, count, size, panels);
      else pool.run('packTriangle', strip, first, count, size, diagonal, panels);
    });
    return panels;
  };
  const cols = Math.ceil(size / 8) * 8;

  /** Σ over rows of a T bᵀ. */
  const bilinear = (a: Float32Array, b: Float32Array, rows: number, panels: number): number =>
    withMemory(pool, (allocate) => {
      const most = Math.ceil(Math.min(rows, rowsAtOnce) / 6) * 6;
      const left = allocate(4 * most * cols, 'rows of a product');
      const right = a === b ? left : allocate(4 * most * cols, 'rows of a product');
      const packed = allocate(4 * most * cols, 'packed rows');
      const sums = allocate(8 * most, 'sums');
      const spares = allocate(256 * threads, 'scratch');
      const heap = bytesOf(pool.memory.buffer);
      let total = 0;
      for (let first = 0; first < rows; first += most) {
        const count = Math.min(most, rows - first);
        const padded = Math.ceil(count / 6) * 6;
        for (const [matrix, address] of a === b
          ? ([[a, left]] as const)
          : ([
              [a, left],
              [b, right],
            ] as const)) {
          const bytes = bytesOf(matrix.buffer, matrix.byteOffset, matrix.byteLength);
          heap.fill(0, address, address + 4 * padded * cols);
          for (let r = 0; r < count; r++) {
            const from = 4 * (first + r) * size;
            copyBytes(bytes, from, from + 4 * size, heap, address + 4 * r * cols);
          }
        }
        pool.run('packRows', left, padded, cols, packed);
        pool.run('bilinearRows', packed, right, padded, cols, panels, sums, spares);
        for (const sum of new Float64Array(pool.memory.buffer, sums, count)) total += sum;
      }
      return total;
    });

  const free = () => {
    for (const address of addresses.splice(0)) allocator.free(address);
  };
  try {
    const half = triangle(gram, 0.5);
    const upper = cross && triangle(cross, 1);
    const lower = cross && triangle(cross, 'lower');
    return {
      quadratic: (d, rows) => 2 * bilinear(d, d, rows, half),
      cross(w, d, rows) {
        if (upper === undefined || lower === undefined) throw new Error('errors: there are no cross statistics');
        return bilinear(w, d, rows, upper) + bilinear(d, w, rows, lower);
      },
      free,
    };
  } catch (error) {
    free();
    throw error;
  }
}
