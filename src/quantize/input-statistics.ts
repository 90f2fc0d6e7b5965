// What calibration knows about the input of a linear layer: the figures that scaling methods start from.

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

/** The figures of x [tokens, K], of which the first `sampleRows` rows are kept; zeros without tokens. Sums in float64. */
export function inputStatistics(x: Float32Array, cols: number, sampleRows = 0): InputStatistics {
  const tokens = x.length / cols;
  const absMax = new Float32Array(cols);
  const sums = new Float64Array(cols);
  const squares = new Float64Array(cols);
  for (let i = 0; i < x.length; i += cols)
    for (let j = 0; j < cols; j++) {
      const value = Math.abs(x[i + j]);
      if (value > absMax[j]) absMax[j] = value;
      sums[j] += value;
      squares[j] += value * value;
    }
  const kept = Math.min(sampleRows, tokens);
  return {
    tokens,
    absMax,
    absMean: Float32Array.from(sums, (s) => s / Math.max(tokens, 1)),
    meanSquare: Float32Array.from(squares, (s) => s / Math.max(tokens, 1)),
    sample: x.slice(0, kept * cols),
    sampleRows: kept,
  };
}
