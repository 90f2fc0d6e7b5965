// A model's tensors under the format pairs: the weights of its linear layers, and what these layers read on a text.
//
// The inputs come from the calibration passes with a method that rounds nothing: the first rows of every site are
// compared when the site is reached and then let go, so memory is that of one block.

import type { Backend } from '../../backends/backend.ts';
import type { Format } from '../../formats/format.ts';
import { denseF32 } from '../../models/stack.ts';
import type { ModelWeights } from '../../models/weights.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { CalibrationMethod } from '../calibration/calibrate.ts';
import { openProfile } from '../calibration/profile.ts';
import { solveModel } from '../solve-model.ts';
import { matrixShape } from '../tensor-quantizer.ts';
import { compareTensor, type TensorComparison } from './tensor.ts';

/** Names of the weights of linear layers. */
export const linearNames = (weights: ModelWeights): string[] =>
  weights.names().filter((name) => weights.role(name) === 'linear');

/**
 * Evenly spaced rows of one weight, at most `most`; undefined when no block size divides a row. Reading it throws when a
 * value is not finite.
 */
export async function compareWeight(
  weights: ModelWeights,
  name: string,
  most: number,
  seed: number,
): Promise<TensorComparison | undefined> {
  const tensor = await weights.load(name);
  const { rows, cols } = matrixShape(tensor.shape);
  const values = denseF32(tensor);
  const kept = Math.min(rows, most);
  const sample = new Float32Array(kept * cols);
  for (let i = 0; i < kept; i++) {
    const row = Math.floor((i * rows) / kept);
    sample.set(values.subarray(row * cols, (row + 1) * cols), i * cols);
  }
  return compareTensor(name, 'weight', sample, cols, seed);
}

export interface InputRequest {
  weights: ModelWeights;
  /** Token ids [windows · window] */
  ids: Int32Array;
  window: number;
  /** Rows of each input to compare: the first of the text. */
  rows: number;
  backend: Backend;
  /** For activations that spill; it is deleted again. */
  folder: string;
  /** Bytes that activations may take in memory. */
  memory: number;
  seed: number;
  signal?: AbortSignal;
  onProgress?(tokens: number, place: string): void;
}

/** The inputs of all sites, in the order of the forward pass; of routed experts, the first that tokens are sent to. */
export async function compareInputs(request: InputRequest): Promise<TensorComparison[]> {
  const { weights, rows, seed } = request;
  const found: TensorComparison[] = [];
  // the calibration asks for a format of every layer; nothing is rounded to it
  const none: Format = { kind: 'float', name: 'f32' };
  const method: CalibrationMethod = {
    needs: () => ({ moments: true, sampleRows: rows }),
    propagate: 'float',
    floatStream: false,
    async round(site, tasks) {
      const sample = tasks.map((task) => task.record.moments).find((moments) => moments && moments.sampleRows > 0);
      const layer = /^(.*?\.\d+)\./.exec(tasks[0].name)?.[1] ?? tasks[0].name;
      const compared =
        sample && compareTensor(`${layer} ${site.name}`, 'activation', sample.sample, site.features, seed);
      if (compared) found.push(compared);
      return tasks.map(({ name, record }) => ({
        tensor: tensorF32([1], Float32Array.of(0)),
        report: { name, format: 'none', tokens: record.tokens, notes: [] },
      }));
    },
  };
  const solved = await solveModel({
    ...request,
    formats: new Map(linearNames(weights).map((name) => [name, none])),
    method,
    fingerprint: 'compare',
    profile: openProfile(),
    splitProfile: false,
  });
  await solved.remove();
  return found;
}
