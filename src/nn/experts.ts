// Sparse mixture of experts: each token passes through k of E gated MLPs.
//
// Method: p = softmax(x · Wᵣᵀ) over all E experts; the k largest p are the experts and their weights, divided by
// their sum where the family does so (for Mixtral this equals the softmax over the k largest logits); a shared expert,
// where there is one, is added with weight sigmoid(x · w_s).
//   y = Σ_j p_j · down_e(j)(silu(gate_e(j) x) · up_e(j) x)  (+ sigmoid(x · w_s) · shared(x))
// Source: Mixtral (arXiv:2401.04088, section 2.1), Qwen2-MoE and Qwen3-MoE as transformers runs them.
// It does not do: capacity limits, jitter and the auxiliary loss, which belong to training.

import type { Value } from '../graph/graph.ts';
import { add, div, mul } from '../graph/ops/arithmetic.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { expertMatmul } from '../graph/ops/expert-matmul.ts';
import { reshape } from '../graph/ops/layout.ts';
import { sum } from '../graph/ops/reduce.ts';
import { softmax } from '../graph/ops/softmax.ts';
import { swiglu } from '../graph/ops/swiglu.ts';
import { topK } from '../graph/ops/top-k.ts';
import { sigmoid } from '../graph/ops/unary.ts';
import type { Rotation } from './hadamard.ts';
import { type Activation, type LinearParams, linear, type Product, quantizeInput, rotatedInput } from './linear.ts';
import { gatedMlp, type MlpParams } from './mlp.ts';

/** The same matrix of all experts. */
export interface ExpertParams {
  /** [E, M, K] */
  readonly weight: Value;
  /** [E, 1] second-level scales of formats that have one a tensor; the product is multiplied by them. */
  readonly tensorScales?: Value;
  /** Applied to the input, before it is quantized. */
  readonly rotation?: Rotation;
  readonly activation?: Activation;
  /** In place of the plain product and of `activation`: low-precision training. */
  readonly product?: Product;
}

/** An expert that every token takes, behind a gate [1, C]. */
export interface SharedExpertParams {
  readonly mlp: MlpParams;
  readonly gate: LinearParams;
}

export interface SparseParams {
  /** [E, C] */
  readonly router: LinearParams;
  readonly gate: ExpertParams;
  readonly up: ExpertParams;
  readonly down: ExpertParams;
  readonly shared?: SharedExpertParams;
  readonly perToken: number;
  readonly normalize: boolean;
}

/** Which experts a token takes and how much each counts. */
export interface Routing {
  /** i32 [N, k] */
  readonly experts: Value;
  /** [N, k] */
  readonly weights: Value;
}

/** x [N, C] → [N, C]. */
export function sparseMlp(x: Value, p: SparseParams): Value {
  const routing = route(x, p);
  const routed = combineExperts(expertHidden(x, p, routing), p, routing);
  return p.shared ? add(routed, sharedExpert(x, gatedMlp(x, p.shared.mlp), p.shared)) : routed;
}

/** The k experts of each row of x [N, C]. */
export function route(x: Value, p: Pick<SparseParams, 'router' | 'perToken' | 'normalize'>): Routing {
  const { values: top, indices: experts } = topK(softmax(linear(x, p.router)), p.perToken);
  return { experts, weights: p.normalize ? div(top, sum(top, { axes: [1], keepDims: true })) : top };
}

/** What goes into the experts' last product: x [N, C] → [N, k, I]. */
export function expertHidden(x: Value, p: Pick<SparseParams, 'gate' | 'up'>, { experts }: Routing): Value {
  return swiglu(expertLinear(x, p.gate, experts), expertLinear(x, p.up, experts));
}

/** The experts' last product and their weighted sum: hidden [N, k, I] → [N, C]. */
export function combineExperts(hidden: Value, p: Pick<SparseParams, 'down'>, { experts, weights }: Routing): Value {
  const each = expertLinear(hidden, p.down, experts); // [N, k, C]
  return sum(mul(each, reshape(weights, [...weights.type.shape, 1])), { axes: [1] });
}

/** What the shared expert adds: its result y [N, C] times the gate of each row of x. */
export function sharedExpert(x: Value, y: Value, { gate }: Pick<SharedExpertParams, 'gate'>): Value {
  return mul(y, sigmoid(linear(x, gate)));
}

/** x [N, K] or [N, k, K] through each token's experts [N, k] → [N, k, M]. */
function expertLinear(x: Value, p: ExpertParams, experts: Value): Value {
  const turned = rotatedInput(x, p);
  if (p.product) return p.product(turned, p.weight, experts);
  const input = p.activation ? quantizeInput(turned, p.activation, false) : turned;
  const y = expertMatmul(input, p.weight, experts);
  return p.tensorScales ? mul(y, embedding(p.tensorScales, experts)) : y;
}
