// The order in which the windows of a token file are seen.
//
// Sequence p of a run is window permutation_e(p mod N) of N, in epoch e = ⌊p / N⌋. Every epoch has a permutation of its
// own, a Fisher–Yates shuffle whose numbers come from the counter-based generator keyed by the seed and indexed by epoch
// and element: a run that resumes at sequence p sees exactly what it would have seen.

import { threefry2x32 } from '../../formats/random.ts';

/** Second half of the key, apart from the streams of weights and rounding. */
const orderStream = 0x6f726472;

/** The windows 0 … count − 1 in the order of an epoch; 4 bytes each. count < 2³². */
export function permutation(count: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const words = new Uint32Array(2);
  for (let i = count - 1; i > 0; i--) {
    threefry2x32(seed, orderStream, i, epoch, words);
    // 53 random bits, so that the bias is below 2^-21 for any count
    const uniform = (words[0] * 2 ** 21 + (words[1] >>> 11)) * 2 ** -53;
    const j = Math.floor(uniform * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** The window of each sequence of a run, by its position from 0. Consecutive positions are cheapest. */
export function windowOrder(count: number, seed: number, shuffle: boolean): (sequence: number) => number {
  let epoch = -1;
  let order: Uint32Array = new Uint32Array(0);
  return (sequence) => {
    const at = sequence % count;
    if (!shuffle) return at;
    const wanted = Math.floor(sequence / count);
    if (wanted !== epoch) {
      order = permutation(count, seed, wanted);
      epoch = wanted;
    }
    return order[at];
  };
}
