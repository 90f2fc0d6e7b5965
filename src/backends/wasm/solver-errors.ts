// Host side of output errors: quadratic and bilinear forms of a layer's statistics (kernels/solve/quadratic.ts).

import type { Pool } from './pool.ts';
import { bytesOf, copyBytes } from './quantizer-copy.ts';
import { eachStrip, triangleFloats, withMemory } from './solver-factor.ts';

/** Output errors of a layer from its statistics. Its memory is in use until `free`. */
export interface ErrorForms {
  /** Σ over rows of d G dᵀ for d [rows, size], G symmetric: ‖d X̃ᵀ‖². */
  quadratic(d: Float32Array, rows: number): number;
  /**
   * The same for every row and every block of `span` columns on its own: [rows, size / span], each ‖d_block X̃_blockᵀ‖².
   * span is a multiple of eight that divides size, or size itself.
   */
  blocks(d: Float32Array, rows: number, span: number): Float64Array;
  /** Σ over rows of w C dᵀ, C the cross statistics: ⟨w (X − X̃)ᵀ, d X̃ᵀ⟩. */
  cross(w: Float32Array, d: Float32Array, rows: number): number;
  free(): void;
}

/** Rows that are in the memory at once. */
const rowsAtOnce = 384;

/** See solver.ts. */
export function errorForms(pool: Pool, gram: Float32Array, cross: Float32Array | undefined, size: number): ErrorForms {
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

  /** Copies rows first … first + count − 1 of a matrix into padded rows of the memory. */
  const loadRows = (matrix: Float32Array, first: number, count: number, address: number, padded: number) => {
    const heap = bytesOf(pool.memory.buffer);
    const bytes = bytesOf(matrix.buffer, matrix.byteOffset, matrix.byteLength);
    heap.fill(0, address, address + 4 * padded * cols);
    for (let r = 0; r < count; r++) {
      const from = 4 * (first + r) * size;
      copyBytes(bytes, from, from + 4 * size, heap, address + 4 * r * cols);
    }
  };

  /** For every row the sums of a T bᵀ over blocks of `span` columns: [rows, cols / span]. */
  const bilinear = (a: Float32Array, b: Float32Array, rows: number, panels: number, span: number): Float64Array =>
    withMemory(pool, (allocate) => {
      const most = Math.ceil(Math.min(rows, rowsAtOnce) / 6) * 6;
      const blocks = cols / span;
      const left = allocate(4 * most * cols, 'rows of a product');
      const right = a === b ? left : allocate(4 * most * cols, 'rows of a product');
      const packed = allocate(4 * most * cols, 'packed rows');
      const sums = allocate(8 * most * blocks, 'sums');
      const spares = allocate(256 * threads, 'scratch');
      const result = new Float64Array(rows * blocks);
      for (let first = 0; first < rows; first += most) {
        const count = Math.min(most, rows - first);
        const padded = Math.ceil(count / 6) * 6;
        loadRows(a, first, count, left, padded);
        if (a !== b) loadRows(b, first, count, right, padded);
        pool.run('packRows', left, padded, cols, packed);
        pool.run('bilinearRows', packed, right, padded, cols, span, panels, sums, spares);
        result.set(new Float64Array(pool.memory.buffer, sums, count * blocks), first * blocks);
      }
      return result;
    });

  const total = (sums: Float64Array) => sums.reduce((a, b) => a + b, 0);
  const free = () => {
    for (const address of addresses.splice(0)) allocator.free(address);
  };
  try {
    const half = triangle(gram, 0.5);
    const upper = cross && triangle(cross, 1);
    const lower = cross && triangle(cross, 'lower');
    return {
      quadratic: (d, rows) => 2 * total(bilinear(d, d, rows, half, cols)),
      blocks(d, rows, span) {
        if (span !== size && (span % 8 !== 0 || size % span !== 0))
          throw new Error(`errors: blocks of ${span} columns of ${size}`);
        return bilinear(d, d, rows, half, span === size ? cols : span).map((sum) => 2 * sum);
      },
      cross(w, d, rows) {
        if (upper === undefined || lower === undefined) throw new Error('errors: there are no cross statistics');
        return total(bilinear(w, d, rows, upper, cols)) + total(bilinear(d, w, rows, lower, cols));
      },
      free,
    };
  } catch (error) {
    free();
    throw error;
  }
}
