// Host side of rounding columns with error feedback: buffers, tables of the grid, and the three kernels of
// kernels/solve/columns.ts. Columns are in processing order throughout; codes come back in the order of the matrix.

import type { Pool } from './pool.ts';
import { bytesOf, copyBytes } from './quantizer-copy.ts';
import type { Factor, Triangle } from './solver-factor.ts';

export interface ColumnRequest {
  /** [rows, cols], natural order of columns. */
  weight: Float32Array;
  rows: number;
  cols: number;
  factor: Factor;
  /** order[i] is the column that is processed as number i; natural order when missing. */
  order?: Uint32Array;
  /** Value of each code and the codes to choose from by ascending value (formats/grid-values.ts). */
  values: Float32Array;
  choice: Uint8Array;
  /** Columns of the matrix, in natural order, that share a step. */
  run: number;
  /** Whether values have offsets. */
  offsets: boolean;
}

/** Rows whose columns are being rounded. Its memory is in use until `free`. */
export interface ColumnSolve {
  /** Steps and offsets [rows, n] of runs first … first + n − 1 of the matrix. */
  setParameters(firstRun: number, steps: Float32Array, offsets: Float32Array | undefined): void;
  /** Current weights of columns first … last − 1, [rows, last − first]. */
  read(first: number, last: number): Float32Array;
  /** Columns first … last − 1 receive the errors of columns from … to − 1, once. */
  update(first: number, last: number, from: number, to: number): void;
  /** Rounds columns first … last − 1, which have received the errors of all before `first`. */
  round(first: number, last: number): void;
  /** Ends a block: later columns take the rounded weights of columns first … last − 1 for GPTAQ's correction. */
  settle(first: number, last: number): void;
  /** Codes [rows, cols] in natural order. */
  codes(): Uint8Array;
  free(): void;
}

const argumentWords = 16;
const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** The largest float32 below x, or at most x when `inclusive`. */
function below(x: number, inclusive: boolean): number {
  f32[0] = x;
  if (f32[0] < x || (inclusive && f32[0] === x)) return f32[0];
  if (f32[0] === 0) return -1.401298464324817e-45;
  u32[0] += f32[0] > 0 ? -1 : 1;
  return f32[0];
}

/**
 * Thresholds between neighbouring values: x belongs above number i exactly when x > thresholds[i] in float32. On the
 * midpoint the even code wins; two neighbours never have codes of the same parity.
 */
export function choiceThresholds(values: Float32Array, choice: Uint8Array): Float32Array {
  return Float32Array.from({ length: choice.length - 1 }, (_, i) => {
    const middle = (values[choice[i]] + values[choice[i + 1]]) / 2;
    return below(middle, (choice[i] & 1) === 0);
  });
}

const roundUp = (x: number, unit: number) => Math.ceil(x / unit) * unit;

/** Bytes of the pool's memory that a row of a ColumnSolve takes. */
export function bytesPerRow(cols: number, run: number, asymmetric: boolean): number {
  return roundUp(cols, 8) * (asymmetric ? 13 : 9) + 8 * Math.ceil(cols / run);
}

/** See solver.ts. */
export function solveColumns(pool: Pool, request: ColumnRequest): ColumnSolve {
  const { weight, rows, cols, factor, order, values, choice, run } = request;
  if (weight.length !== rows * cols) throw new Error(`solve: ${weight.length} weights for ${rows} × ${cols}`);
  if (factor.upper.size !== cols) throw new Error(`solve: a factor of ${factor.upper.size} for ${cols} columns`);
  const { memory, allocator } = pool;
  const addresses: number[] = [];
  const allocate = (bytes: number, purpose: string) => {
    const address = allocator.allocate(bytes, purpose);
    addresses.push(address);
    return address;
  };
  const free = () => {
    for (const address of addresses.splice(0)) allocator.free(address);
  };
  try {
    const paddedRows = roundUp(rows, 6);
    const paddedCols = roundUp(cols, 8);
    const matrixBytes = 4 * paddedRows * paddedCols;
    const runs = Math.ceil(cols / run);
    const levels = Math.ceil(Math.log2(choice.length));
    const asymmetric = factor.correction !== undefined;
    const w = allocate(matrixBytes, 'weights');
    const f = allocate(matrixBytes, 'rounding errors');
    const v = asymmetric ? allocate(matrixBytes, 'weights before rounding') : 0;
    const u = allocate(factor.upper.panels.byteLength, 'a factor');
    const p = factor.correction ? allocate(factor.correction.panels.byteLength, 'a correction') : 0;
    const runOf = allocate(4 * cols, 'groups of columns');
    const steps = allocate(4 * runs * paddedRows, 'steps');
    const offsets = request.offsets ? allocate(4 * runs * paddedRows, 'offsets') : 0;
    const thresholds = allocate(4 * 2 ** levels, 'thresholds');
    const table = allocate(4 * choice.length, 'values');
    const codeTable = allocate(choice.length, 'codes');
    const out = allocate(paddedRows * paddedCols, 'codes');
    const scratch = allocate(256 * pool.threads, 'scratch');
    const args = allocate(4 * argumentWords, 'arguments');

    const { buffer } = memory;
    const load = (triangle: Triangle, address: number) => {
      const { panels } = triangle;
      const bytes = bytesOf(panels.buffer, panels.byteOffset, panels.byteLength);
      copyBytes(bytes, 0, bytes.length, bytesOf(buffer), address);
    };
    load(factor.upper, u);
    if (factor.correction) load(factor.correction, p);
    new Int32Array(buffer, runOf, cols).set(
      Int32Array.from({ length: cols }, (_, i) => Math.floor((order ? order[i] : i) / run)),
    );
    new Float32Array(buffer, thresholds, 2 ** levels).fill(Infinity).set(choiceThresholds(values, choice));
    new Float32Array(buffer, table, choice.length).set(Array.from(choice, (code) => values[code]));
    new Uint8Array(buffer, codeTable, choice.length).set(choice);
    new Float32Array(buffer, steps, runs * paddedRows).fill(1);
    if (offsets) new Float32Array(buffer, offsets, runs * paddedRows).fill(0);
    const words = new Int32Array(buffer, args, argumentWords);
    words.set([
      paddedRows,
      paddedCols,
      w,
      f,
      v,
      u,
      p,
      runOf,
      steps,
      offsets,
      thresholds,
      levels,
      table,
      codeTable,
      out,
    ]);
    words[15] = scratch;

    const weights = new Float32Array(buffer, w, paddedRows * paddedCols).fill(0);
    for (let r = 0; r < rows; r++) {
      const to = r * paddedCols;
      const from = r * cols;
      if (order) for (let i = 0; i < cols; i++) weights[to + i] = weight[from + order[i]];
      else weights.set(weight.subarray(from, from + cols), to);
    }

    const transpose = (address: number, firstRun: number, from: Float32Array) => {
      const count = from.length / rows;
      const to = new Float32Array(memory.buffer, address + 4 * firstRun * paddedRows, count * paddedRows);
      for (let k = 0; k < count; k++) for (let r = 0; r < rows; r++) to[k * paddedRows + r] = from[r * count + k];
    };
    return {
      setParameters(firstRun, newSteps, newOffsets) {
        transpose(steps, firstRun, newSteps);
        if (newOffsets) transpose(offsets, firstRun, newOffsets);
      },
      read(first, last) {
        const all = new Float32Array(memory.buffer, w, paddedRows * paddedCols);
        const result = new Float32Array(rows * (last - first));
        for (let r = 0; r < rows; r++)
          result.set(all.subarray(r * paddedCols + first, r * paddedCols + last), r * (last - first));
        return result;
      },
      update(first, last, from, to) {
        if (from < to && first < last) pool.run('updateColumns', args, first, last, from, to);
      },
      round(first, last) {
        pool.run('roundColumns', args, first, last);
      },
      settle(first, last) {
        if (asymmetric) pool.run('settleColumns', args, first, last);
      },
      codes() {
        const all = new Uint8Array(memory.buffer, out, paddedRows * paddedCols);
        const result = new Uint8Array(rows * cols);
        for (let r = 0; r < rows; r++) {
          const from = r * paddedCols;
          const to = r * cols;
          if (order) for (let i = 0; i < cols; i++) result[to + order[i]] = all[from + i];
          else result.set(all.subarray(from, from + cols), to);
        }
        return result;
      },
      free,
    };
  } catch (error) {
    free();
    throw error;
  }
}
