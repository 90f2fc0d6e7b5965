// Choosing the next token from logits.
//
// Method: divide by the temperature, keep the top k logits, keep the smallest set of the most likely tokens whose
// probabilities reach p (the token that crosses p is kept), renormalise, and take the token in which a uniform number
// falls. The order is that of transformers' generation. Temperature 0 takes the arg-max (lowest id on ties).

import { userError } from '../errors.ts';

export interface SamplingOptions {
  /** 0: the most likely token. */
  temperature?: number;
  /** Tokens that stay in the draw; 0: all. */
  topK?: number;
  /** Probability that stays in the draw; 1: all. */
  topP?: number;
}

/** Throws a user error for options outside their range. */
export function checkSampling({ temperature = 0, topK = 0, topP = 1 }: SamplingOptions): Required<SamplingOptions> {
  const wrong = (option: string, got: number, expected: string) =>
    userError({ code: 'sampling', op: 'generate', problem: `wrong ${option}`, got, expected });
  if (!(temperature >= 0 && temperature < Number.POSITIVE_INFINITY))
    throw wrong('temperature', temperature, '0 or more');
  if (!(Number.isInteger(topK) && topK >= 0)) throw wrong('top-k', topK, 'a whole number, 0 for all');
  if (!(topP > 0 && topP <= 1)) throw wrong('top-p', topP, 'more than 0, at most 1');
  return { temperature, topK, topP };
}

/** The next token id; `uniform` in [0, 1) decides the draw. */
export function sampleToken(logits: Float32Array, options: SamplingOptions, uniform: number): number {
  const { temperature, topK, topP } = checkSampling(options);
  if (temperature === 0) return firstMax(logits);
  // Only the kept tokens need an order; sorting all of a large vocabulary is the slow part of a draw.
  let order = Array.from(logits.keys());
  if (topK > 0 || topP < 1) {
    order.sort((a, b) => logits[b] - logits[a] || a - b);
    if (topK > 0) order = order.slice(0, topK);
  }
  const max = logits[firstMax(logits)];
  const weights = order.map((id) => Math.exp((logits[id] - max) / temperature));
  let total = weights.reduce((a, b) => a + b, 0);
  if (topP < 1) {
    let reached = 0;
    let kept = 0;
    while (kept < order.length && reached < topP * total) reached += weights[kept++];
    order.length = kept;
    total = reached;
  }
  let left = uniform * total;
  for (const [i, id] of order.entries()) {
    left -= weights[i];
    if (left < 0) return id;
  }
  return order[order.length - 1]; // rounding of the running difference
}

function firstMax(logits: Float32Array): number {
  let best = 0;
  for (let v = 1; v < logits.length; v++) if (logits[v] > logits[best]) best = v;
  return best;
}
