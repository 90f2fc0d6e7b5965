// Numerics of calibrated weight solving on the kernels of kernels/solve: factors of Hessians, rounding of columns with
// error feedback, and output errors as quadratic forms. The method that composes them is quantize/gptq.
//
// A pool of its own; all results have the same bits for any number of threads. Memory is taken per call and given back.

import { createPool, type PoolOptions } from './pool.ts';
import { type ColumnRequest, type ColumnSolve, solveColumns } from './solver-columns.ts';
import { type ErrorForms, errorForms } from './solver-errors.ts';
import { type Factor, type FactorRequest, factorHessian, type NotPositive } from './solver-factor.ts';

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
