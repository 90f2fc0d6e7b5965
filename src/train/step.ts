// One training step of a decoder as a graph: loss, gradients and updates, compiled once and replayed.
//
//   loss = Σ nll / max(1, number of targets ≥ 0);  g = ∂loss/∂w, clipped;  w ← optimizer(w, g)
//
// Weights are f32 states. They are the same memory as the buffers of the loaded decoder, so that other graphs over
// these buffers (evaluation) read the weights as they are after the last step.
// It does not do: schedules, data, saving and resuming: they belong to the loop around it.

import type { Backend } from '../backends/backend.ts';
import { gradients } from '../graph/differentiate.ts';
import type { GradientRule, Graph, Value, ValueType } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { div } from '../graph/ops/arithmetic.ts';
import { crossEntropy } from '../graph/ops/cross-entropy.ts';
import { sum } from '../graph/ops/reduce.ts';
import { targetMask } from '../graph/ops/target-mask.ts';
import { relu } from '../graph/ops/unary.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { ActivationOf, ParamSource } from '../models/block.ts';
import type { DecoderConfig } from '../models/config.ts';
import { decoderBody } from '../models/decoder.ts';
import { type LoadedDecoder, type LoadOptions, loadDecoder } from '../models/loaded.ts';
import { denseF32 } from '../models/stack.ts';
import { type ModelWeights, mapWeights } from '../models/weights.ts';
import { appendUpdates, clipByGlobalNorm, type OptimizerOptions } from '../nn/optimizers.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';

export interface TrainingStepOptions {
  /** B */
  readonly batch: number;
  /** T */
  readonly tokens: number;
  readonly optimizer: OptimizerOptions;
  /** Bound of the norm of all gradients together; absent: none. Adds the output `gradientNorm`. */
  readonly clipNorm?: number;
  /** Computes the blocks again for the backward pass instead of keeping what is inside them. */
  readonly recompute?: boolean;
  /** Gradient rules by op name, in place of the ops' own. */
  readonly rules?: Readonly<Record<string, GradientRule>>;
  /** Formats of the layers' inputs; those of the model's own file when absent. */
  readonly activation?: ActivationOf;
  /** What the model computes with in place of a weight, such as its rounding to a format; the weight itself by default. */
  readonly forward?: (name: string, weight: Value) => Value;
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
  const { batch, tokens, optimizer, clipNorm, recompute, rules, activation, forward } = options;
  return trace((g) => {
    const ids = g.input('ids', i32([batch, tokens]));
    const targets = g.input('targets', i32([batch * tokens]));
    const learningRate = g.input('learningRate', f32([1]));
    const step = g.input('step', i32([1]));
    const { source, weights } = trainedSource(g, types, forward);
    const body = { batch, tokens, mode: 'nll', activation, recompute } as const;
    const { hidden, head } = decoderBody(g, config, source, ids, body);
    const loss = meanLoss(crossEntropy(hidden, head, targets), targets);
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

/** The mean of nll [N] over the targets that count; 0 where none does. */
function meanLoss(nll: Value, targets: Value): Value {
  const count = sum(targetMask(targets));
  return div(sum(nll), affine(relu(affine(count, { offset: -1 })), { offset: 1 })); // max(count, 1)
}

/** Declares weights as states, and remembers which the model asked for. */
function trainedSource(
  g: GraphBuilder,
  types: ReadonlyMap<string, ValueType>,
  forward = (_: string, weight: Value) => weight,
): { source: ParamSource; weights: ReadonlyMap<string, Value> } {
  const weights = new Map<string, Value>();
  const source: ParamSource = {
    param(name) {
      const type = types.get(name);
      if (!type) throw new Error(`training: parameter ${name} was not loaded`);
      const weight = weights.get(name) ?? g.state(name, type);
      weights.set(name, weight);
      return forward(name, weight);
    },
    has: (name) => types.has(name),
  };
  return { source, weights };
}

/** Loads a model with all weights in f32, whatever its file stores. */
export function loadTrainable(weights: ModelWeights, backend: Backend, options?: LoadOptions): Promise<LoadedDecoder> {
  const dense = mapWeights(weights, (_, tensor) => tensorF32(tensor.shape, denseF32(tensor)));
  return loadDecoder(dense, backend, options);
}

/** The weights as they are now, one at a time, by their names in the graph. */
export async function* readWeights({ backend, buffers, types }: LoadedDecoder): AsyncGenerator<[string, Tensor]> {
  for (const [name, type] of types) {
    const graph = trace((g) => void g.output(name, g.param(name, type)));
    const executable = await backend.compile(graph, { params: buffers });
    try {
      yield [name, await executable.read(name)];
    } finally {
      executable.dispose();
    }
  }
}
