// Hadamard matrices whose order is not a power of two: square ±1 matrices with H · Hᵀ = n · I.
//
//   Paley I     n = q + 1,     q ≡ 3 (mod 4) a prime power: I + [[0, 1], [−1, Q]],      Q[i, j] = χ(i − j) in GF(q)
//   Paley II    n = 2(q + 1),  q ≡ 1 (mod 4) a prime power: C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]],
//               C = [[0, 1], [1, Q]]
//   Williamson  n = 4t: blocks of symmetric circulant A, B, C, D with A² + B² + C² + D² = 4t · I; for the orders that
//               models need and Paley does not give (11008 = 172 · 64 is Llama-2's MLP)
// Sources: Paley, J. Math. Phys. 12 (1933); Williamson, Duke Math. J. 11 (1944). The four sequences of each Williamson
// order come from our own exhaustive search (for t = 43 among those that multiplication by 6 leaves alone).
// It does not do: orders that need yet other constructions, which up to 512 are 188, 236, 260, 268, 292, 324, 356, 372,
// 376, 404, 412, 428, 436, 452, 472, 476 and 508.

import { oddPrimePower, quadraticCharacterMatrix } from './quadratic-character.ts';

/** The first (t + 1)/2 entries of the sequences A, B, C, D, which are symmetric: a_i = a_(t−i). */
const williamson: Readonly<Record<number, readonly string[]>> = {
  92: ['++++-+---++-', '+-+-++----+-', '+--++-+--+++', '+-++++-+++--'],
  116: ['+--++----+-++++', '+-+++-+++--+-++', '+--+---+-+--+++', '++--++-+-++++--'],
  156: ['++------+--+-+--++-+', '++---+--++----+-+-++', '+-+-----+-+++--+++--', '++-++-++---+-----+-+'],
  172: ['++---++++-+--+--++----', '++-++++++----+-+--++-+', '+---++--++++-+-+++-++-', '+++-+-++--+-+-++++-+--'],
};

/** Whether a construction gives this order, a multiple of 4. */
export function hasBaseHadamard(order: number): boolean {
  return order % 4 === 0 && construction(order) !== undefined;
}

const known = new Map<number, Int8Array>();

/** The matrix of ±1, row-major [order, order]; order 1 is [1]. Throws for an order without a construction. */
export function baseHadamard(order: number): Int8Array {
  let matrix = known.get(order);
  if (!matrix) {
    const make = order === 1 ? () => Int8Array.of(1) : construction(order);
    if (!make) throw new Error(`baseHadamard: no construction for order ${order}`);
    matrix = make();
    known.set(order, matrix);
  }
  return matrix;
}

function construction(order: number): (() => Int8Array) | undefined {
  if (order % 4 !== 0) return undefined;
  if (oddPrimePower(order - 1)) return () => paleyI(order - 1); // order ≡ 0 (mod 4), so q ≡ 3
  const q = order / 2 - 1;
  if (q % 4 === 1 && oddPrimePower(q)) return () => paleyII(q);
  return order in williamson ? () => williamsonMatrix(williamson[order]) : undefined;
}

function paleyI(q: number): Int8Array {
  const h = bordered(q, -1);
  for (let i = 0; i <= q; i++) h[i * (q + 1) + i] = 1;
  return h;
}

function paleyII(q: number): Int8Array {
  const c = bordered(q, 1);
  const n = 2 * (q + 1);
  const h = new Int8Array(n * n);
  for (let i = 0; i <= q; i++)
    for (let j = 0; j <= q; j++) {
      const value = c[i * (q + 1) + j];
      const [a, b, d] = i === j ? [1, -1, -1] : [value, value, -value];
      const at = 2 * i * n + 2 * j;
      h[at] = a;
      h[at + 1] = b;
      h[at + n] = b;
      h[at + n + 1] = d;
    }
  return h;
}

/** [[0, 1 … 1], [column …, Q]], row-major [q + 1, q + 1]. */
function bordered(q: number, column: 1 | -1): Int8Array {
  const n = q + 1;
  const character = quadraticCharacterMatrix(q);
  const out = new Int8Array(n * n);
  for (let i = 1; i < n; i++) {
    out[i] = 1;
    out[i * n] = column;
    out.set(character.subarray((i - 1) * q, i * q), i * n + 1);
  }
  return out;
}

/** [[A, B, C, D], [−B, A, −D, C], [−C, D, A, −B], [−D, −C, B, A]] with circulant blocks. */
function williamsonMatrix(halves: readonly string[]): Int8Array {
  const t = 2 * halves[0].length - 1;
  const n = 4 * t;
  const entry = (block: number, i: number, j: number) => {
    const lag = (j - i + t) % t;
    return halves[block][Math.min(lag, t - lag)] === '+' ? 1 : -1;
  };
  const layout = [
    [0, 1, 2, 3],
    [-1, 0, -3, 2],
    [-2, 3, 0, -1],
    [-3, -2, 1, 0],
  ];
  const h = new Int8Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const block = layout[Math.floor(i / t)][Math.floor(j / t)];
      const sign = block < 0 ? -1 : 1;
      h[i * n + j] = sign * entry(Math.abs(block), i % t, j % t);
    }
  return h;
}
