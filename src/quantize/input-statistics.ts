// What calibration knows about the input of a linear layer: the figures that scaling and clipping methods start from.
//
// Sums are in float64, over rows in the order in which they come.

/** Figures of an input x [tokens, K], by channel. */
export interface InputStatistics {
  readonly tokens: number;
  /** max |x_j|, [K] */
  readonly absMax: Float32Array;
  /** mean |x_j|, [K] */
  readonly absMean: Float32Array;
  /** mean x_j², [K] */
  readonly meanSquare: Float32Array;
  /** The first rows of x, [sampleRows, K]. */
  readonly sample: Float32Array;
  readonly sampleRows: number;
}

/** Sums over rows of K numbers as they come. */
export interface RowSums {
  add(row: Float32Array): void;
  /** The figures so far; zeros without rows. */
  finish(): InputStatistics;
}

/** `sampleRows`: how many of the first rows to keep. */
export function rowSums(cols: number, sampleRows = 0): RowSums {
  const absMax = new Float32Array(cols);
  const sums = new Float64Array(cols);
  const squares = new Float64Array(cols);
  const kept: Float32Array[] = [];
  let tokens = 0;
  return {
    add(row) {
      tokens++;
      for (let j = 0; j < cols; j++) {
        const value = Math.abs(row[j]);
        if (value > absMax[j]) absMax[j] = value;
        sums[j] += value;
        squares[j] += value * value;
      }
      if (kept.length < sampleRows) kept.push(row.slice());
    },
    finish() {
      const sample = new Float32Array(kept.length * cols);
      for (const [i, row] of kept.entries()) sample.set(row, i * cols);
      const mean = (total: Float64Array) => Float32Array.from(total, (s) => s / Math.max(tokens, 1));
      return {
        tokens,
        absMax: absMax.slice(),
        absMean: mean(sums),
        meanSquare: mean(squares),
        sample,
        sampleRows: kept.length,
      };
    },
  };
}

/** The figures of x [tokens, K], of which the first `sampleRows` rows are kept. */
export function inputStatistics(x: Float32Array, cols: number, sampleRows = 0): InputStatistics {
  const all = rowSums(cols, sampleRows);
  for (let i = 0; i < x.length; i += cols) all.add(x.subarray(i, i + cols));
  return all.finish();
}
