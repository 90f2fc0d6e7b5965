// Is the file what was meant to be written?
//
// The output is opened again by the ordinary readers and every tensor's values are compared, bit for bit, with what the
// scalar reference codec makes of the source: a wrong row order, nibble order, scale convention or kernel shows here as
// the name of a tensor. Large models are checked on a sample of layers (first, middle, last), stated in the result.

import { modelError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { denseF32 } from '../models/stack.ts';
import { countWeights, type ModelWeights } from '../models/weights.ts';
import type { TensorQuantizer } from './tensor-quantizer.ts';

export interface CheckOptions {
  /** The format that a tensor was to have in the file; undefined: as stored. */
  formatOf(name: string): Format | undefined;
  /** Relative error that the container brings to values of a format; default 0, bit for bit. */
  relativeError?(format: Format | undefined): number;
  quantizer: TensorQuantizer;
  seed: number;
  streams: ReadonlyMap<string, number>;
  /** Most weights to compare; above it layers are sampled. */
  maxWeights?: number;
  onTensor?: (name: string, index: number, count: number) => void;
  signal?: AbortSignal;
}

export interface CheckResult {
  tensors: number;
  /** Those of them that differ within `relativeError`; all others are equal bit for bit. */
  inexact: number;
  /** Tensors of the model that were not compared. */
  skipped: number;
  weights: number;
}

/** Throws a model error naming the first tensor whose values differ. */
export async function checkOutput(
  source: ModelWeights,
  written: ModelWeights,
  options: CheckOptions,
): Promise<CheckResult> {
  const names = sample(source, options.maxWeights ?? 200e6);
  let weights = 0;
  let inexact = 0;
  for (const [i, name] of names.entries()) {
    options.signal?.throwIfAborted();
    const original = await source.load(name);
    const format = options.formatOf(name);
    const intended =
      format && format.kind !== 'float'
        ? await options.quantizer.quantize(original, format, {
            seed: options.seed,
            stream: options.streams.get(name) ?? 0,
            name,
          })
        : original;
    const expected = denseF32(intended);
    const got = denseF32(await written.load(name));
    const allowed = options.relativeError?.(format ?? source.format(name)) ?? 0;
    const at = firstDifference(expected, got, allowed);
    if (at >= 0) {
      throw modelError({
        code: 'output-differs',
        op: 'verify',
        problem: `the written file does not hold what was meant at element ${at}`,
        got: got[at],
        expected: expected[at],
        tensor: name,
        file: written.location,
        fix: 'the file is not to be used; run again, and report it if it happens twice',
      });
    }
    if (allowed > 0 && firstDifference(expected, got, 0) >= 0) inexact++;
    weights += expected.length;
    options.onTensor?.(name, i + 1, names.length);
  }
  return { tensors: names.length, inexact, skipped: source.names().length - names.length, weights };
}

/** All tensors, or those outside the layers and of the first, middle and last layer. */
function sample(model: ModelWeights, limit: number): string[] {
  const names = model.names();
  if (countWeights(model) <= limit) return names;
  const last = model.config.layers - 1;
  const kept = new Set([0, Math.floor(last / 2), last]);
  return names.filter((name) => {
    const layer = /\.layers\.(\d+)\./.exec(name);
    return !layer || kept.has(Number(layer[1]));
  });
}

/** Index of the first value that differs by more than the relative error; −0 and 0 count as equal. */
function firstDifference(a: Float32Array, b: Float32Array, relative: number): number {
  if (a.length !== b.length) return Math.min(a.length, b.length);
  for (let i = 0; i < a.length; i++)
    if (a[i] !== b[i] && !(Math.abs(a[i] - b[i]) <= relative * Math.abs(a[i]))) return i;
  return -1;
}
