// A quantized matrix seen as a grid of reachable values: what a solver needs to know of a format.
//
// Every format with one scale a run of columns is the same to a solver: value = values[code] · step + offset, with steps
// and offsets that are fixed (rounded to how they are stored) and codes that may be chosen. grid.ts makes such a view.

export interface Grid {
  readonly rows: number;
  readonly cols: number;
  /** Columns whose parameters come from one fit: the group, 256 for K-quants, K for channel and tensor scales. */
  readonly span: number;
  /** Columns that share a step and an offset; divides span or, where tiles are cut at the edge, cols. */
  readonly run: number;
  /** Value of every code before scaling, in code order of the format. */
  readonly values: Float32Array;
  /**
   * The codes that may be chosen, by ascending value: no two have the same value (zero is +0), none is NaN, infinite or
   * outside the format's range (−8 of restricted INT4).
   */
  readonly order: Uint8Array;
  /** [rows, cols / run]; may be zero or negative. */
  readonly steps: Float32Array;
  /** [rows, cols / run]; undefined: all zero. */
  readonly offsets: Float32Array | undefined;
}

/** Codes by ascending value, the lowest code of equal values; only those that `allowed` admits. */
export function ascendingCodes(values: Float32Array, allowed: (value: number, code: number) => boolean): Uint8Array {
  const codes = [...values.keys()].filter((c) => Number.isFinite(values[c]) && allowed(values[c]!, c));
  const distinct = codes.filter((c) => codes.find((d) => values[d] === values[c]) === c);
  return Uint8Array.from(distinct.sort((a, b) => values[a]! - values[b]!));
}
