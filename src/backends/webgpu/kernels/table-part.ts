/** The part of a table that is bound: rows first … of `total`; the others are elsewhere (split-graph.ts). */
export interface TablePart {
  readonly first: number;
  readonly total: number;
  /** Results whose id has its row elsewhere become zeros, or stay as another part has made them. */
  readonly others: 'zero' | 'keep';
}
