// Counter-based random numbers: Threefry-2x32 with 20 rounds, 13 for stochastic rounding (Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC 2011).
//
// A number depends on (seed, stream, step, index) alone, so that every backend draws the same ones, in any order, and a
// resumed run continues exactly. key = (seed, stream), counter = (index >> 1) + step · 2^32, word index & 1: the steps of
// a stream are apart for indices below 2^33.

const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

/** One block: two 32-bit words from a key and a counter, written to `out`. */
export function threefry2x32(k0: number, k1: number, c0: number, c1: number, out: Uint32Array, rounds = 20): void {
  const k2 = 0x1bd11bda ^ k0 ^ k1;
  const keys = [k0, k1, k2];
  let x0 = (c0 + k0) | 0;
  let x1 = (c1 + k1) | 0;
  for (let round = 0; round < rounds; round++) {
    x0 = (x0 + x1) | 0;
    const r = rotations[round & 7]!;
    x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    if ((round & 3) === 3) {
      const s = (round >> 2) + 1;
      x0 = (x0 + keys[s % 3]!) | 0;
      x1 = (x1 + keys[(s + 1) % 3]! + s) | 0;
    }
  }
  out[0] = x0;
  out[1] = x1;
}

/** A source of numbers in [0, 1) addressed by element, exact in float32. Consecutive indices are cheapest. */
export interface UniformSource {
  at(index: number): number;
}

/**
 * Uniform numbers of 24 bits for a seed, a stream and a step, all 32-bit integers. A stream names one use, such as an
 * operand of a layer; the step sets apart its uses in time.
 *
 * @example uniformSource(1, 0).at(5) // always the same number
 */
export function uniformSource(seed: number, stream: number, step = 0): UniformSource {
  const word = wordSource(seed, stream, step, 20);
  return { at: (index) => (word(index) >>> 8) * 2 ** -24 };
}

/** Rounds of Threefry for stochastic rounding. */
const roundingRounds = 13;

/**
 * Numbers that decide stochastic rounding: (h + 1/2) · 2^-16 of 16 random bits h, four from a block of 13 rounds (the
 * fewest that pass BigCrush, Salmon et al., table 2), since the generator is what stochastic rounding takes longest for.
 * Their mean is 1/2, so that rounding has no bias, and a probability is off by 2^-17 at most. Number i is half i & 1, the
 * lower first, of word i >> 1 of the stream.
 */
export function roundingSource(seed: number, stream: number, step = 0): UniformSource {
  const word = wordSource(seed, stream, step, roundingRounds);
  return { at: (index) => (((word(Math.floor(index / 2)) >>> (16 * (index % 2))) & 0xffff) + 0.5) * 2 ** -16 };
}

/** The words of a stream, 32 random bits each. */
function wordSource(seed: number, stream: number, step: number, rounds: number): (index: number) => number {
  const words = new Uint32Array(2);
  let block = -1;
  return (index) => {
    const wanted = Math.floor(index / 2);
    if (wanted !== block) {
      threefry2x32(seed | 0, stream | 0, wanted | 0, (Math.floor(wanted / 2 ** 32) + step) | 0, words, rounds);
      block = wanted;
    }
    return words[index % 2]!;
  };
}
