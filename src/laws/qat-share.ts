// How much of a training budget should be quantization-aware: f = exp(−a/ln S), S = D/(N·b/8) tokens per parameter
// byte, b bits per weight, a = 6.7297 (arXiv 2509.22935: 757 runs, 86M to 2.2B, weights of 1 to 6 bits, full precision
// first, then QAT; mean absolute error of the share 0.091).
//
// The often quoted 10 % is right for small budgets only. The loss law of the same paper is not here: its constants
// could not be confirmed.

import { userError } from '../errors.ts';
import { checkPoint } from './law.ts';

export const qatShareConstant = 6.7297;

/**
 * The loss-optimal fraction (0 to 1) of all tokens to train quantization-aware.
 *
 * @example optimalQatShare(1e9, 1e11, 4); // ≈ 0.281
 * @throws SubbyteError for wrong units, bits outside 1 to 6, or so few tokens that the law says nothing (S ≤ e).
 */
export function optimalQatShare(n: number, d: number, bits: number): number {
  checkPoint({ n, d }, [], 'qat-share');
  if (!(bits >= 1 && bits <= 6))
    throw userError({
      code: 'law-point',
      op: 'qat-share',
      problem: 'the law was fitted for weights of 1 to 6 bits',
      got: bits,
    });
  const perByte = d / ((n * bits) / 8);
  if (perByte <= Math.E)
    throw userError({
      code: 'law-point',
      op: 'qat-share',
      problem: 'too few tokens per parameter byte for the law',
      got: perByte.toPrecision(3),
      expected: 'more than e',
    });
  return Math.exp(-qatShareConstant / Math.log(perByte));
}
