// One training step of a decoder as a graph: loss, gradients and updates, compiled once and replayed.
//
//   loss = Σ nll / max(1, number of targets ≥ 0);  g = ∂loss/∂w, clipped;  w ← optimizer(w, g)
//
// Weights are f32 states. They are the same memory as the buffers of the loaded decoder, so that other graphs over
// these buffers (evaluation) read the weights as they are after the last step.
// It does not do: schedules, data, saving and resuming: they belong to the loop around it.

import type { Backend } from '../backends/backend.ts';
import { readBuffer } from '../backends/read-buffer.ts';
import { gradients } from '../graph/differentiate.ts';
import type { GradientRule, Graph, ValueType } from '../graph/graph.ts';
import { trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { DecoderConfig } from '../models/config.ts';
import { type LoadedDecoder, type LoadOptions, loadDecoder } from '../models/loaded.ts';
import { denseF32 } from '../models/stack.ts';
import { type ModelWeights, mapWeights } from '../models/weights.ts';
import { appendUpdates, clipByGlobalNorm, type OptimizerOptions } from '../nn/optimizers.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';
import { type LossOptions, traceLoss } from './loss-graph.ts';

export interface TrainingStepOptions extends LossOptions {
  readonly optimizer: OptimizerOptions;
  /** Bound of the norm of all gradients together; absent: none. Adds the output `gradientNorm`. */
  readonly clipNorm?: number;
  /** Gradient rules by op name, in place of the ops' own. */
  readonly rules?: Readonly<Record<string, GradientRule>>;
}

/**
 * Builds the graph of a step. Inputs `ids` i32 [B, T], `targets` i32 [B·T] (below 0: ignored), `learningRate` f32 [1]
 * and `step` i32 [1] from 1; states: the weights by their names, and the optimizer's moments; output `loss`, before the
 * update, in nats. Matrices decay as the optimizer says, norms and biases do not.
 *
 * @example
 * const model = await loadTrainable(await openWeights(checkpoint), backend);
 * const graph = buildTrainingStep(model.config, model.types, { batch: 4, tokens: 128, optimizer: { kind: 'adamw' } });
 * const step = await backend.compile(graph, { params: new Map(), states: model.buffers });
 */
export function buildTrainingStep(
  config: DecoderConfig,
  types: ReadonlyMap<string, ValueType>,
  options: TrainingStepOptions,
): Graph {
  const { optimizer, clipNorm, rules } = options;
  return trace((g) => {
    const { loss, weights } = traceLoss(g, config, types, options);
    const learningRate = g.input('learningRate', f32([1]));
    const step = g.input('step', i32([1]));
    g.output('loss', loss);

    let found = gradients(g, loss, [...weights.values()], { rules });
    if (clipNorm !== undefined) {
      const clipped = clipByGlobalNorm(g, found, clipNorm);
      found = clipped.gradients;
      g.output('gradientNorm', clipped.norm);
    }
    const trained = [...weights].map(([name, weight], i) => ({
      name,
      weight,
      gradient: found[i],
      ...(weight.type.shape.length < 2 && { weightDecay: 0 }),
    }));
    appendUpdates(g, trained, optimizer, { learningRate, step });
  });
}

/** Loads a model with all weights in f32, whatever its file stores. */
export function loadTrainable(weights: ModelWeights, backend: Backend, options?: LoadOptions): Promise<LoadedDecoder> {
  const dense = mapWeights(weights, (_, tensor) => tensorF32(tensor.shape, denseF32(tensor)));
  return loadDecoder(dense, backend, options);
}

/** The weights as they are now, one at a time, by their names in the graph. */
export async function* readWeights({ backend, buffers }: LoadedDecoder): AsyncGenerator<[string, Tensor]> {
  for (const [name, buffer] of buffers) yield [name, await readBuffer(backend, name, buffer)];
}
