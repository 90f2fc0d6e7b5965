// The loss of a decoder in a graph whose weights are states, and which weights it used.
//
//   loss = Σ nll / max(1, number of targets ≥ 0)

import type { Value, ValueType } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { div } from '../graph/ops/arithmetic.ts';
import { crossEntropy } from '../graph/ops/cross-entropy.ts';
import { sum } from '../graph/ops/reduce.ts';
import { targetMask } from '../graph/ops/target-mask.ts';
import { relu } from '../graph/ops/unary.ts';
import type { GraphBuilder } from '../graph/trace.ts';
import { i32 } from '../graph/value-type.ts';
import type { ActivationOf, BlockOptions, ParamSource } from '../models/block.ts';
import type { DecoderConfig } from '../models/config.ts';
import { decoderBody } from '../models/decoder.ts';

export interface LossOptions {
  /** B */
  readonly batch: number;
  /** T */
  readonly tokens: number;
  /** Computes the blocks again for the backward pass instead of keeping what is inside them. */
  readonly recompute?: boolean;
  /** Formats of the layers' inputs; those of the model's own file when absent. */
  readonly activation?: ActivationOf;
  /** What the model computes with in place of a weight, such as its rounding to a format; the weight itself by default. */
  readonly forward?: (name: string, weight: Value) => Value;
  /** The product of a linear layer by its name, in place of the plain one. */
  readonly product?: BlockOptions['product'];
}

/** Inputs `ids` i32 [B, T] and `targets` i32 [B·T] (below 0: ignored); weights as states of the graph, by name. */
export function traceLoss(
  g: GraphBuilder,
  config: DecoderConfig,
  types: ReadonlyMap<string, ValueType>,
  options: LossOptions,
): { nll: Value; loss: Value; weights: ReadonlyMap<string, Value> } {
  const { batch, tokens, forward, recompute, activation, product } = options;
  const ids = g.input('ids', i32([batch, tokens]));
  const targets = g.input('targets', i32([batch * tokens]));
  const { source, weights } = trainedSource(g, types, forward);
  const body = { batch, tokens, mode: 'nll', activation, recompute, product } as const;
  const { hidden, head } = decoderBody(g, config, source, ids, body);
  const nll = crossEntropy(hidden, head, targets);
  return { nll, loss: meanLoss(nll, targets), weights };
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
