// The graphs of a run: gradients of one batch, their norm, the update, the validation loss. Over one set of states.
//
//   gradient  loss of a batch; each weight's gradient is added to its state `<name>/sum`
//   norm      squares_i = Σ sum_i²;  norm = √Σ squares / batches, the norm of the mean gradient
//   update    g = sum / batches · min(1, maxNorm / norm);  w ← optimizer(w, g);  sum ← 0
//   evaluate  the negative log-likelihoods of a batch
//
// A step runs gradient once a batch, then norm, and update only when loss and norm are finite: a batch that breaks leaves
// weights and moments as they were. The norm is computed on the backend; the host hands it from one graph to the next.

import { gradients } from '../graph/differentiate.ts';
import type { Graph, ValueType } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { mul } from '../graph/ops/arithmetic.ts';
import { concat, reshape } from '../graph/ops/layout.ts';
import { sum } from '../graph/ops/reduce.ts';
import { roundToBf16 } from '../graph/ops/round-state.ts';
import { sqrt } from '../graph/ops/unary.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { DecoderConfig } from '../models/config.ts';
import { accumulate, appendUpdates, clear, clipFactor, type OptimizerOptions, sumOfSquares } from '../nn/optimizers.ts';
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
  const { products, ...rest } = options;
  return trace((g) => {
    const { loss, weights } = traceLoss(g, config, types, { ...rest, product: products?.(g) });
    g.output('loss', loss);
    const found = gradients(g, loss, [...weights.values()]);
    g.scope('accumulate', () => {
      for (const [i, [name, weight]] of [...weights].entries())
        accumulate(g, g.state(sumName(name), weight.type), found[i]);
    });
  });
}

/** Outputs `norm` and `squares` [P], one number for each weight, of the sums before they are divided. */
export function buildNormGraph(types: Types, batches: number): Graph {
  return trace((g) => {
    const squares = [...types].map(([name, type]) => reshape(sumOfSquares(g.state(sumName(name), type)), [1]));
    const all = concat(squares, 0);
    g.output('squares', all);
    g.output('norm', affine(sqrt(sum(all)), { scale: 1 / batches }));
  });
}

export interface UpdateGraphOptions {
  readonly optimizer: OptimizerOptions;
  /** Batches of a step. */
  readonly batches: number;
  /** Bound of the norm of all gradients together; absent: none. */
  readonly clipNorm?: number;
  /** Whether a weight decays. */
  readonly decays: (name: string) => boolean;
  /** Seed of stochastic rounding of the weights to bf16 after each update; absent: they stay f32. */
  readonly bf16Seed?: number;
}

/** Inputs `learningRate` f32 [1], `step` i32 [1] from 1 and `norm` f32 [1]. */
export function buildUpdateGraph(types: Types, options: UpdateGraphOptions): Graph {
  const { optimizer, batches, clipNorm, decays, bf16Seed } = options;
  return trace((g) => {
    const schedule = { learningRate: g.input('learningRate', f32([1])), step: g.input('step', i32([1])) };
    const factor = clipNorm === undefined ? undefined : clipFactor(g, g.input('norm', f32([1])), clipNorm);
    for (const [i, [name, type]] of [...types].entries()) {
      const total = g.state(sumName(name), type);
      const mean = batches === 1 ? total : affine(total, { scale: 1 / batches });
      const gradient = factor ? mul(mean, factor) : mean;
      const trained = { name, weight: g.state(name, type), gradient, ...(!decays(name) && { weightDecay: 0 }) };
      const [next] = appendUpdates(g, [trained], optimizer, schedule);
      g.scope('update', () => {
        if (bf16Seed !== undefined) roundToBf16(next, schedule.step, { seed: bf16Seed, stream: weightStream + i });
        clear(g, total);
      });
    }
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
