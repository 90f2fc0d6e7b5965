// Importance matrices: how much each input feature of each linear layer matters, as llama.cpp's imatrix files hold it.
//
// For every weight W [M, K] the matrix has Σ x² over the tokens that reached the layer, one sum an input feature. The
// mean Σ x²/count is the weight of a column's squared error when W is rounded; stacked experts [E, M, K] have E rows of
// sums and a count each, because they see different tokens.
//
// Two file forms (imatrix-read.ts, imatrix-file.ts):
//   GGUF    general.type "imatrix", imatrix.datasets (string[]), imatrix.chunk_count and imatrix.chunk_size (u32);
//           for each weight the F32 tensors `<name>.in_sum2` (ggml dims [K, E]; a trailing 1 is not written, so a dense
//           layer has [K]) and `<name>.counts` ([1, E], or [1]), in tokens. Newer files add `<name>.in_sum` (Σ x), which
//           is not used here. `<name>` is the GGUF tensor name, `blk.0.attn_q.weight`, sorted by bytes.
//   legacy  i32 entries, then for each: i32 length, name, i32 calls, i32 values, f32 (Σ x²/count)·calls; then i32
//           chunks, i32 length, name of the data set, which may be absent. Experts share one number of calls: the file
//           does not say how many experts there are, and counts are in chunks of a size that it does not say either.
//
// Layers that the calibration data did not reach, as llama.cpp treats them: a weight without an entry is rounded
// without importance; an expert that saw no token gets weight 1 for every feature (the legacy writer stores those
// ones); an entry in which no expert saw any is left out of legacy files. An entry whose length is not E·K stops the
// quantization, except that of the token embedding, which is then rounded without importance.
//
// Source: llama.cpp, tools/imatrix/imatrix.cpp (save_imatrix, save_imatrix_legacy), common/imatrix-loader.cpp,
// tools/quantize/quantize.cpp (load_imatrix) and src/llama-quant.cpp. Does not run a model: src/quantize collects.

import { modelError } from '../errors.ts';

export interface ImatrixEntry {
  /** Σ x² over tokens, E rows of K input features. */
  readonly sums: Float32Array;
  /** Tokens that each expert saw. One number for a dense layer, and where a legacy file has one for all experts. */
  readonly counts: readonly number[];
}

export interface Imatrix {
  /** By GGUF tensor name. */
  readonly entries: ReadonlyMap<string, ImatrixEntry>;
  /** Names of the calibration texts. */
  readonly datasets: readonly string[];
  /** Chunks of calibration text and tokens in a chunk; 0 where the file does not say. */
  readonly chunkCount: number;
  readonly chunkSize: number;
}

/** Tokens of a chunk where a file does not say: the default context of llama.cpp's collector. */
export const defaultChunkSize = 512;

/**
 * The importance of a weight's input features.
 *
 * @param shape of the weight, row-major: [M, K], or [E, M, K] for stacked experts
 * @returns mean squares, E·K numbers (expert by expert); undefined when the matrix has no entry for this weight
 * @throws model error when the entry is for another shape
 * @example importanceOf(imatrix, 'blk.0.ffn_down.weight', [1024, 4096]) // Float32Array(4096)
 */
export function importanceOf(imatrix: Imatrix, name: string, shape: readonly number[]): Float32Array | undefined {
  const entry = imatrix.entries.get(name);
  if (!entry) return undefined;
  const k = shape[shape.length - 1];
  const experts = shape.slice(0, -2).reduce((n, d) => n * d, 1);
  if (entry.sums.length === k * experts) return meanSquares(entry);
  if (name === 'token_embd.weight') return undefined;
  throw modelError({
    code: 'imatrix-shape',
    op: 'importance matrix',
    problem: 'the importance of a tensor is for another shape',
    got: `${entry.sums.length} values`,
    expected: `${experts === 1 ? '' : `${experts} × `}${k}`,
    tensor: name,
    fix: 'collect the importance matrix with this model',
  });
}

/** Σ x²/count in f32, and 1 for every feature of an expert that saw no token. */
export function meanSquares({ sums, counts }: ImatrixEntry): Float32Array {
  const k = sums.length / counts.length;
  return sums.map((sum, i) => {
    const count = counts[Math.floor(i / k)];
    return count > 0 ? sum / Math.fround(count) : 1;
  });
}
