// The interface that every ggml block type implements: one row at a time, because rows are independent and some
// importance-weighted types use a statistic of the whole row.

export interface RowCodec {
  /**
   * Encode one row. x has a whole number of blocks; out has exactly the row's bytes; importance, when given, has the
   * length of x and holds non-negative weights (types without a weighted search ignore it).
   */
  encode(x: Float32Array, out: Uint8Array, importance?: Float32Array): void;
  /** Decode one row: bytes has exactly the row's bytes, out its values. */
  decode(bytes: Uint8Array, out: Float32Array): void;
}
