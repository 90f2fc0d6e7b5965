// Products with orthonormal Hadamard matrices of many orders, in O(n · (base + log n)) a row.
//
// Problem: rotating a row of activations or weights by a Hadamard matrix spreads its outliers over all elements, but
// widths of models are rarely powers of two (14336 = 28 · 512, 11008 = 172 · 64).
// Method: for n = B · P with P a power of two and B the smallest base order that has a construction,
//   H[i₁·P + i₂, j₂·B + j₁] = A[i₁, j₁] · S[i₂, j₂],    y = x · H / √n
// A is the base matrix (hadamard-base.ts), S[i, j] = (−1)^popcount(i AND j) Sylvester's. It is the Kronecker product
// A ⊗ S with its columns in the order in which the product comes out of "S along the rows, then A along the columns",
// so that nothing has to be transposed at run time. For a power of two it is S itself, its own inverse.
// Source: QuaRot (arXiv:2404.00456, section 3) for the use; Sylvester 1867. It does not do: products of two bases
// (12 · 20), bases above 512.

import { uniformSource } from '../formats/random.ts';
import { baseHadamard, hasBaseHadamard } from './hadamard-base.ts';

/** n = base · power, base 1 or an order with a construction, power a power of two. */
export interface HadamardOrder {
  readonly base: number;
  readonly power: number;
}

/** A product with a larger base matrix costs as much as the layer that follows. */
const largestBase = 512;

/** How a Hadamard matrix of order n is made; undefined when no construction gives one. */
export function hadamardOrder(n: number): HadamardOrder | undefined {
  if (!Number.isSafeInteger(n) || n < 1) return undefined;
  const power = largestPowerOfTwo(n);
  const odd = n / power;
  if (odd === 1) return { base: 1, power };
  for (let base = 4 * odd; base <= Math.min(n, largestBase) && n % base === 0; base *= 2)
    if (hasBaseHadamard(base)) return { base, power: n / base };
  return undefined;
}

/** The largest power of two that divides n: the block to rotate by where n itself has no Hadamard matrix. */
export function largestPowerOfTwo(n: number): number {
  let power = 1;
  while (n % (2 * power) === 0) power *= 2;
  return power;
}

/** n where there is a Hadamard matrix of that order, otherwise the largest power of two that divides n. */
export function hadamardBlock(n: number): number {
  return hadamardOrder(n) ? n : largestPowerOfTwo(n);
}

/**
 * Multiplies every run of n values by H / √n, in place; values.length is a multiple of n. Arithmetic in float64.
 * Throws when there is no Hadamard matrix of order n.
 *
 * @example multiplyHadamard(Float64Array.of(1, 0, 0, 0), 4) // 0.5, 0.5, 0.5, 0.5
 */
export function multiplyHadamard(values: Float64Array, n: number): void {
  const order = hadamardOrder(n);
  if (!order || values.length % n !== 0)
    throw new Error(`multiplyHadamard: order ${n} for ${values.length} values is not possible`);
  const { base, power } = order;
  const factor = 1 / Math.sqrt(n);
  for (let first = 0; first < values.length; first += n) {
    const x = values.subarray(first, first + n);
    butterflies(x, power);
    if (base > 1) multiplyBase(x, base, power);
    for (let i = 0; i < n; i++) x[i] *= factor;
  }
}

/** Every run of `power` values times S. */
function butterflies(x: Float64Array, power: number): void {
  for (let half = 1; half < power; half *= 2)
    for (let from = 0; from < x.length; from += 2 * half)
      for (let i = from; i < from + half; i++) {
        const u = x[i];
        const v = x[i + half];
        x[i] = u + v;
        x[i + half] = u - v;
      }
}

/**
 * x [base, power] → [power, base] in place: y[j₂, j₁] = Σ A[i₁, j₁] · x[i₁, j₂]. Four rows of A at a time: up to a sign
 * they have 8 combinations, which are added up once for all columns (a quarter of the additions).
 */
function multiplyBase(x: Float64Array, base: number, power: number): void {
  const codes = combinationsOf(base);
  const table = new Float64Array(8 * power);
  const y = new Float64Array(x.length); // [base, power]
  for (let group = 0; group < base / 4; group++) {
    combine(x.subarray(4 * group * power, 4 * (group + 1) * power), power, table);
    for (let j = 0; j < base; j++) {
      const code = codes[group * base + j];
      const from = (code >> 1) * power;
      const to = j * power;
      if (code & 1) for (let i = 0; i < power; i++) y[to + i] -= table[from + i];
      else for (let i = 0; i < power; i++) y[to + i] += table[from + i];
    }
  }
  for (let j = 0; j < base; j++) for (let i = 0; i < power; i++) x[i * base + j] = y[j * power + i];
}

/** The sums a ± b ± c ± d of four rows: + + +, + − −, + + −, + − +, and the same with −b. */
function combine(rows: Float64Array, power: number, table: Float64Array): void {
  for (let i = 0; i < power; i++) {
    const u = rows[i] + rows[power + i];
    const v = rows[i] - rows[power + i];
    const w = rows[2 * power + i] + rows[3 * power + i];
    const z = rows[2 * power + i] - rows[3 * power + i];
    table[i] = u + w;
    table[power + i] = u - w;
    table[2 * power + i] = u + z;
    table[3 * power + i] = u - z;
    table[4 * power + i] = v + w;
    table[5 * power + i] = v - w;
    table[6 * power + i] = v + z;
    table[7 * power + i] = v - z;
  }
}

const combinations = new Map<number, Uint8Array>();

/** For each four rows and each column of the base matrix 2 · (index in the table) + (1 where it is subtracted). */
function combinationsOf(base: number): Uint8Array {
  const known = combinations.get(base);
  if (known) return known;
  const matrix = baseHadamard(base);
  const codes = new Uint8Array((base / 4) * base);
  for (let at = 0; at < codes.length; at++) {
    const entry = (row: number) => matrix[(4 * Math.floor(at / base) + row) * base + (at % base)];
    const sign = entry(0);
    const [b, c, d] = [1, 2, 3].map((row) => entry(row) * sign);
    const pair = c === d ? (c > 0 ? 0 : 1) : c > 0 ? 2 : 3;
    codes[at] = 2 * ((b > 0 ? 0 : 4) + pair) + (sign > 0 ? 0 : 1);
  }
  combinations.set(base, codes);
  return codes;
}

/** H of order n, ±1, row-major [n, n]. Throws when there is none. */
export function hadamardMatrix(n: number): Int8Array {
  const order = hadamardOrder(n);
  if (!order) throw new Error(`hadamardMatrix: no construction for order ${n}`);
  const { base, power } = order;
  const matrix = baseHadamard(base);
  const out = new Int8Array(n * n);
  for (let i1 = 0; i1 < base; i1++)
    for (let i2 = 0; i2 < power; i2++)
      for (let j2 = 0; j2 < power; j2++) {
        let sign = 1;
        for (let common = i2 & j2; common !== 0; common &= common - 1) sign = -sign; // one for each common bit
        const at = (i1 * power + i2) * n + j2 * base;
        for (let j1 = 0; j1 < base; j1++) out[at + j1] = sign * matrix[i1 * base + j1];
      }
  return out;
}

/** Stream of the generator that signs are drawn from: "sign" in ASCII. */
const signStream = 0x7369676e;

/** n random signs ±1 of a seed (a 32-bit integer): the diagonal D of a randomized Hadamard matrix D · H. */
export function randomSigns(n: number, seed: number): Float32Array {
  const uniform = uniformSource(seed, signStream);
  return Float32Array.from({ length: n }, (_, i) => (uniform.at(i) < 0.5 ? 1 : -1));
}
