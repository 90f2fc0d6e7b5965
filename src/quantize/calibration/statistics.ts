// What calibration learns about the input of a group of layers.
//
// Moments (largest and mean magnitude, mean square of every feature) and a sample of rows are summed here, in f64, from
// rows that a stage hands out; the second moments Σ x xᵀ are summed on the backend (gramUpdate). Of routed inputs there
// is one record for each expert, from the rows that were sent to it.

/** Statistics of a layer's input over `tokens` rows of K features. */
export interface InputStatistics {
  tokens: number;
  /** [K] each */
  absMax: Float32Array;
  absMean: Float32Array;
  meanSquare: Float32Array;
  /** The first rows, [sampleRows, K]. */
  sample: Float32Array;
  sampleRows: number;
}

/** Sums of the rows that were added. */
export interface MomentSums {
  add(row: Float32Array): void;
  finish(): InputStatistics;
}

/** `sampleRows`: how many of the first rows to keep; 0: none. */
export function momentSums(features: number, sampleRows: number): MomentSums {
  const absMax = new Float32Array(features);
  const magnitude = new Float64Array(features);
  const square = new Float64Array(features);
  const sample: Float32Array[] = [];
  let tokens = 0;
  return {
    add(row) {
      tokens++;
      for (let i = 0; i < features; i++) {
        const x = Math.abs(row[i]);
        if (x > absMax[i]) absMax[i] = x;
        magnitude[i] += x;
        square[i] += x * x;
      }
      if (sample.length < sampleRows) sample.push(row.slice());
    },
    finish() {
      const rows = new Float32Array(sample.length * features);
      for (const [i, row] of sample.entries()) rows.set(row, i * features);
      const mean = (sum: Float64Array) => Float32Array.from(sum, (v) => (tokens > 0 ? v / tokens : 0));
      return {
        tokens,
        absMax,
        absMean: mean(magnitude),
        meanSquare: mean(square),
        sample: rows,
        sampleRows: sample.length,
      };
    },
  };
}
