// Importances of input features between llama.cpp's files and the layers of a model.
//
// A file has one entry for a tensor of a GGUF file, experts stacked; the model's own names are those of transformers.

import { modelError, userError } from '../../errors.ts';
import { type Imatrix, type ImatrixEntry, importanceOf } from '../../io/imatrix.ts';
import { ggufName } from '../../models/gguf-names.ts';
import type { ModelWeights } from '../../models/weights.ts';

/** Mean squares of the inputs of a weight, [K]; undefined: not known. */
export type Importance = (name: string) => Float32Array | undefined;

/**
 * The importances of a file for the weights of a model.
 *
 * Throws a model error when an entry has another shape than its weight, a user error when no entry is for this model.
 */
export function importanceFromFile(imatrix: Imatrix, weights: ModelWeights, file: string): Importance {
  const { experts } = weights.config;
  const found = new Map<string, Float32Array>();
  for (const name of weights.names()) {
    const place = ggufName(name);
    const shape = weights.shape(name);
    if (!place || shape.length !== 2) continue;
    const stacked = place.expert === undefined ? shape : [experts?.count ?? 1, ...shape];
    const all = importanceOf(imatrix, place.name, stacked);
    if (!all) continue;
    const K = shape[1];
    const values = place.expert === undefined ? all : all.subarray(place.expert * K, (place.expert + 1) * K);
    checkValues(values, place.name, file);
    found.set(name, values);
  }
  if (found.size === 0)
    throw userError({
      code: 'imatrix-other-model',
      op: 'importance matrix',
      problem: 'the file has no entry for any tensor of this model',
      file,
      fix: 'collect the importance matrix with this model',
    });
  return (name) => found.get(name);
}

function checkValues(values: Float32Array, tensor: string, file: string): void {
  const bad = values.findIndex((v) => !(v >= 0 && Number.isFinite(v)));
  if (bad < 0) return;
  throw modelError({
    code: 'imatrix-value',
    op: 'importance matrix',
    problem: `the importance of input ${bad} is no number of at least 0`,
    got: String(values[bad]),
    tensor,
    file,
    fix: 'collect it again',
  });
}

/** What calibration measured at one weight. */
export interface MeasuredImportance {
  readonly name: string;
  readonly tokens: number;
  /** [K]; undefined where no token reached an expert. */
  readonly meanSquares: Float32Array | undefined;
}

/** Measured importances as a file holds them. */
export function importanceEntries(
  measured: Iterable<MeasuredImportance>,
  text: { dataset: string; samples: number; window: number },
): Imatrix {
  const found = new Map<string, { sums: (Float32Array | undefined)[]; counts: number[] }>();
  for (const { name, tokens, meanSquares } of measured) {
    const place = ggufName(name);
    if (!place) continue;
    const entry = found.get(place.name) ?? { sums: [], counts: [] };
    found.set(place.name, entry);
    entry.sums[place.expert ?? 0] = meanSquares?.map((v) => v * tokens);
    entry.counts[place.expert ?? 0] = meanSquares ? tokens : 0;
  }
  const entries = new Map<string, ImatrixEntry>();
  for (const [name, { sums, counts }] of found) {
    const K = sums.find((s) => s !== undefined)?.length ?? 0;
    if (K === 0) continue;
    const all = new Float32Array(counts.length * K);
    for (const [e, s] of sums.entries()) if (s) all.set(s, e * K);
    entries.set(name, { sums: all, counts });
  }
  return { entries, datasets: [text.dataset], chunkCount: text.samples, chunkSize: text.window };
}
