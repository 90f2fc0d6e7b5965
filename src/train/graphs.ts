// The graphs of a run: a step of one batch or of several, the validation loss. Over one set of states.
//
//   step      loss of a batch, its gradients g, and the update, in one graph
//   gradient  loss of a batch; each weight's gradient is added to its state `<name>/sum`
//   update    g = sum / batches, and the update;  sum ← 0
//   evaluate  the negative log-likelihoods of a batch
//
// A step of one batch is the first graph, one of more batches the second for each batch and then the third. The update:
//
//   squares_i = Σ g_i²;  norm = √Σ squares;  w ← optimizer(w, g · min(1, maxNorm / norm))
//
// Loss and norm are guarded (holdUpdates): a batch that breaks leaves weights and moments as they were.

import { gradients } from '../graph/differentiate.ts';
import type { Graph, ValueType } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { holdUpdates } from '../graph/ops/hold-updates.ts';
import { sum } from '../graph/ops/reduce.ts';
import { roundToBf16 } from '../graph/ops/round-state.ts';
import { sumSquares } from '../graph/ops/sum-squares.ts';
import { sqrt } from '../graph/ops/unary.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { DecoderConfig } from '../models/config.ts';
import { accumulate, appendUpdates, clear, clipFactor, type OptimizerOptions, type Trained } from '../nn/optimizers.ts';
import { type LossOptions, traceLoss } from './loss-graph.ts';

/** Streams of the weights' rounding, apart from those of operands (recipes/product.ts) and of first weights. */
const weightStream = 0x77000000;

/** The state that sums a weight's gradients. */
export const sumName = (name: string) => `${name}/sum`;

type Types = ReadonlyMap<string, ValueType>;

/** What computes the linear layers: declares inputs of its own and gives the product of each layer. */
export type Products = (g: GraphBuilder) => LossOptions['product'];

export interface GradientGraphOptions extends Pick<LossOptions, 'batch' | 'tokens' | 'recompute'> {
  readonly products?: Products;
}

/** Inputs `ids` [B, T] and `targets` [B·T]; output `loss`, the mean over the targets in nats. */
export function buildGradientGraph(config: DecoderConfig, types: Types, options: GradientGraphOptions): Graph {
  return trace((g) => {
    const { loss, trained } = traceGradients(g, config, types, options);
    g.output('loss', loss);
    const sums = trained.map(({ name, weight }) => g.state(sumName(name), weight.type));
    g.scope('accumulate', () =>
      accumulate(
        g,
        sums,
        trained.map(({ gradient }) => gradient),
      ),
    );
  });
}

/** Loss and gradients of a batch, in the order of `types`. */
function traceGradients(g: GraphBuilder, config: DecoderConfig, types: Types, options: GradientGraphOptions) {
  const { products, ...rest } = options;
  const { loss, weights } = traceLoss(g, config, types, { ...rest, product: products?.(g) });
  const found = gradients(g, loss, [...weights.values()]);
  const named = new Map([...weights].map(([name, weight], i) => [name, { name, weight, gradient: found[i] }]));
  const trained = [...types.keys()].map((name) => {
    const one = named.get(name);
    if (!one) throw new Error(`train: the loss does not depend on ${name}`);
    return one;
  });
  return { loss, trained };
}

export interface UpdateGraphOptions {
  readonly optimizer: OptimizerOptions;
  /** Bound of the norm of all gradients together; absent: none. */
  readonly clipNorm?: number;
  /** Whether a weight decays. */
  readonly decays: (name: string) => boolean;
  /** Seed of stochastic rounding of the weights to bf16 after each update; absent: they stay f32. */
  readonly bf16Seed?: number;
}

/**
 * A step of one batch. Inputs `ids` [B, T], `targets` [B·T], `learningRate` f32 [1] and `step` i32 [1] from 1; outputs
 * `loss`, and `norm` and `squares` of the gradients before they are clipped.
 */
export function buildStepGraph(
  config: DecoderConfig,
  types: Types,
  options: GradientGraphOptions,
  update: UpdateGraphOptions,
): Graph {
  return trace((g) => {
    const { loss, trained } = traceGradients(g, config, types, options);
    g.output('loss', holdUpdates(loss));
    traceUpdate(g, trained, update);
  });
}

/**
 * The update after `batches` runs of the gradient graph. Inputs `learningRate` f32 [1] and `step` i32 [1] from 1; outputs
 * `norm`, of the mean gradient, and `squares` [P] of the sums, one number for each weight.
 */
export function buildUpdateGraph(types: Types, batches: number, options: UpdateGraphOptions): Graph {
  return trace((g) => {
    const sums = [...types].map(([name, type]) => g.state(sumName(name), type));
    const trained = [...types].map(([name, type], i) => ({ name, weight: g.state(name, type), gradient: sums[i] }));
    traceUpdate(g, trained, options, batches);
    g.scope('update', () => clear(g, sums));
  });
}

/** Appends norm, guard and update; the gradients are sums over `batches` batches. */
function traceUpdate(g: GraphBuilder, trained: readonly Trained[], options: UpdateGraphOptions, batches = 1): void {
  const { optimizer, clipNorm, decays, bf16Seed } = options;
  const squares = sumSquares(trained.map(({ gradient }) => gradient));
  const norm = holdUpdates(affine(sqrt(sum(squares)), { scale: 1 / batches }));
  g.output('squares', squares);
  g.output('norm', norm);
  const schedule = {
    learningRate: g.input('learningRate', f32([1])),
    step: g.input('step', i32([1])),
    factor: clipNorm === undefined ? undefined : clipFactor(g, norm, clipNorm),
  };
  const means = trained.map(({ name, weight, gradient }) => ({
    ...{ name, weight },
    gradient: batches === 1 ? gradient : affine(gradient, { scale: 1 / batches }),
    ...(!decays(name) && { weightDecay: 0 }),
  }));
  const next = appendUpdates(g, means, optimizer, schedule);
  if (bf16Seed === undefined) return;
  g.scope('update', () => {
    for (const [i, weight] of next.entries())
      roundToBf16(weight, schedule.step, { seed: bf16Seed, stream: weightStream + i });
  });
}

/** Inputs `ids` [B, T] and `targets` [B·T]; output `nll` [B·T]. The layers compute as in training. */
export function buildEvaluationGraph(config: DecoderConfig, types: Types, options: GradientGraphOptions): Graph {
  const { products, batch, tokens } = options;
  return trace((g) => {
    g.output('nll', traceLoss(g, config, types, { batch, tokens, product: products?.(g) }).nll);
  });
}

/** Arithmetic operations of one run, multiplications and additions apart, by the ops' own counts. */
export const graphFlops = (graph: Graph): number =>
  graph.nodes.reduce(
    (total, { op, inputs, attributes }) =>
      total +
      (op.flops?.(
        inputs.map(({ type }) => type),
        attributes,
      ) ?? 0),
    0,
  );
