// Host side of the factorization: a Hessian in, panels of U with (H + λI)⁻¹ = Uᵀ U out.
//
// One Cholesky and one triangular inverse suffice: in reversed order J H J = M Mᵀ with M lower, so that R = J M J is upper
// with H = R Rᵀ, and U = R⁻¹ = J M⁻¹ J. Everything is f64 (kernels/solve/cholesky.ts). H is divided by the mean of its
// diagonal first, so that the factor's numbers are near 1 whatever the scale and number of the calibration tokens; GPTQ
// does not depend on that factor. A feature that never occurred (diagonal 0) stands alone with diagonal 1.

import { deviceError } from '../../errors.ts';
import type { Pool } from './pool.ts';
import { bytesOf, copyBytes } from './quantizer-copy.ts';

/** An upper triangle [size, size] in panels of eight columns; kernels/solve/panels.ts has the layout. */
export interface Triangle {
  readonly size: number;
  readonly panels: Float32Array;
}

export interface FactorRequest {
  /** Σ xᵀx [size, size] row-major; only the upper triangle is read. Finite, not all zero on the diagonal. */
  gram: Float32Array;
  size: number;
  /** λ in units of the mean of the non-zero diagonal entries. */
  damping: number;
  /** order[i] is the column that is processed as number i; natural order when missing. */
  order?: Uint32Array;
  /** GPTAQ: Σ (x − x̃)ᵀx̃ [size, size] and the factor α of its correction. */
  asymmetry?: { cross: Float32Array; strength: number };
}

/** What rounding with error feedback needs of a layer's statistics, in processing order. */
export interface Factor {
  readonly upper: Triangle;
  readonly correction: Triangle | undefined;
}

/** H + λI is not positive definite: the column whose pivot was not positive. */
export interface NotPositive {
  readonly pivot: number;
}

const threadScratch = 256 * 48 + 256 * 128 * 8 + 192;
const bufferRows = 96;
const invertRowBytes = 22 * 48;
const stripBytes = 8 << 20;
/** Relative size under which a pivot is rounding error. */
const pivotFloor = (size: number) => size * 2 ** -52;

/** Floats in the panels of a triangle. */
export const triangleFloats = (size: number) => 32 * Math.ceil(size / 8) * (Math.ceil(size / 8) + 1);

/** Entry (row, column) of a triangle; 0 below the diagonal. */
export function triangleEntry({ panels }: Triangle, row: number, column: number): number {
  const p = column >> 3;
  return row > column ? 0 : panels[32 * p * (p + 1) + 8 * row + (column & 7)];
}

/** Row length of a f64 matrix: not a multiple of 4 KiB, so that rows do not fall on the same cache lines. */
const rowLength = (size: number) => (Math.ceil(size / 8) + (size % 512 === 0 ? 1 : 0)) * 8;

const totalBytes = (size: number, matrices: number, threads: number) =>
  matrices * 8 * size * rowLength(size) + 4 * triangleFloats(size) + threads * 8 * bufferRows * size + (32 << 20);

/** Copies strips of rows of a dense matrix [size, size] into the pool's memory and calls `use` for each. */
export function eachStrip(
  pool: Pool,
  matrix: Float32Array,
  size: number,
  use: (address: number, first: number, count: number) => void,
): void {
  const rowBytes = 4 * size;
  const rows = Math.min(size, Math.max(1, Math.floor(stripBytes / rowBytes)));
  withMemory(pool, (allocate) => {
    const strip = allocate(rows * rowBytes, 'rows of statistics');
    const source = bytesOf(matrix.buffer, matrix.byteOffset, 4 * size * size);
    const heap = bytesOf(pool.memory.buffer);
    for (let first = 0; first < size; first += rows) {
      const count = Math.min(rows, size - first);
      copyBytes(source, first * rowBytes, (first + count) * rowBytes, heap, strip);
      use(strip, first, count);
    }
  });
}

/** Runs `body` with a function that allocates; frees everything it gave out. */
export function withMemory<T>(pool: Pool, body: (allocate: (bytes: number, purpose: string) => number) => T): T {
  const addresses: number[] = [];
  try {
    return body((bytes, purpose) => {
      const address = pool.allocator.allocate(bytes, purpose);
      addresses.push(address);
      return address;
    });
  } finally {
    for (const address of addresses) pool.allocator.free(address);
  }
}

/** Mean of the non-zero diagonal entries. */
export function meanDiagonal(gram: Float32Array, size: number): number {
  let sum = 0;
  let live = 0;
  for (let i = 0; i < size; i++) {
    sum += gram[i * size + i];
    if (gram[i * size + i] !== 0) live++;
  }
  return sum / live;
}

/** See solver.ts. */
export function factorHessian(pool: Pool, maximumBytes: number, request: FactorRequest): Factor | NotPositive {
  const { gram, size, damping, order, asymmetry } = request;
  if (gram.length !== size * size) throw new Error(`factor: ${gram.length} values for ${size} × ${size}`);
  checkSize(size, asymmetry ? 2 : 1, pool.threads, maximumBytes);
  const { threads } = pool;
  const scale = 1 / meanDiagonal(gram, size);
  const stride = 8 * rowLength(size);
  return withMemory(pool, (allocate) => {
    const a = allocate(size * stride, 'a Hessian in double precision');
    const positions = allocate(4 * size, 'an order of columns');
    const diagonal = allocate(8 * size, 'a diagonal');
    const status = allocate(4, 'a status');
    const scratch = allocate(threads * threadScratch, 'scratch');
    const rows = allocate(size * invertRowBytes, 'rows of a factor');
    const places = new Int32Array(pool.memory.buffer, positions, size);
    for (let i = 0; i < size; i++) places[order ? order[i] : i] = size - 1 - i;
    eachStrip(pool, gram, size, (strip, first, count) =>
      pool.run('loadSymmetric', strip, first, count, size, positions, a, stride, scale, damping),
    );
    pool.run('factorLower', a, stride, size, diagonal, pivotFloor(size), status, scratch);
    const failed = new Int32Array(pool.memory.buffer, status, 1)[0];
    if (failed >= 0) return { pivot: order ? order[size - 1 - failed] : size - 1 - failed };
    pool.run('invertLower', a, stride, size, rows, scratch);
    const panels = allocate(4 * triangleFloats(size), 'a factor');
    const triangle = (matrix: number): Triangle => {
      pool.run('storeTriangle', matrix, stride, size, panels);
      const stored = new Float32Array(triangleFloats(size));
      copyBytes(bytesOf(pool.memory.buffer), panels, panels + stored.byteLength, bytesOf(stored.buffer), 0);
      return { size, panels: stored };
    };
    const upper = triangle(a);
    if (!asymmetry) return { upper, correction: undefined };
    const d = allocate(size * stride, 'cross statistics in double precision');
    const buffers = allocate(threads * bufferRows * stride, 'rows of a correction');
    eachStrip(pool, asymmetry.cross, size, (strip, first, count) =>
      pool.run('loadSquare', strip, first, count, size, positions, d, stride, scale * asymmetry.strength),
    );
    pool.run('correctLower', d, a, stride, size, buffers, scratch);
    return { upper, correction: triangle(d) };
  });
}

function checkSize(size: number, matrices: number, threads: number, maximumBytes: number): void {
  if (totalBytes(size, matrices, threads) <= maximumBytes) return;
  let largest = size;
  while (largest > 64 && totalBytes(largest, matrices, threads) > maximumBytes) largest -= 64;
  throw deviceError({
    code: 'hessian-too-large',
    op: 'solve',
    problem: `a Hessian in double precision does not fit the memory of ${maximumBytes} bytes`,
    got: `${size} features`,
    expected: `at most ${largest}`,
    fix: matrices > 1 ? 'solve without asymmetry, or round this layer plainly' : 'round this layer plainly',
  });
}
