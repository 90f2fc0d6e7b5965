// How many windows run together.

/** Rows that give the matrix products their full rate without taking much memory. */
const rowsPerRun = 4096;

/** Windows of a chunk: the largest divisor of their number that keeps to the rows of a run. */
export function chunkWindows(samples: number, window: number): number {
  let batch = Math.max(1, Math.min(samples, Math.floor(rowsPerRun / window)));
  while (samples % batch !== 0) batch--;
  return batch;
}
