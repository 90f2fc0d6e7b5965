// Which elements of a finite field are squares: what Paley's Hadamard matrices are made of.
//
// Method: GF(p^k) is the set of polynomials over GF(p) of degree below k, modulo a monic polynomial of degree k; an
// element is written as the number whose base-p digits are its coefficients. A polynomial modulo which the powers of x
// run through all q − 1 nonzero elements is found by trying; an element is a square when its power is even.
// Source: Lidl and Niederreiter, "Finite Fields", sections 2.1 and 3.1. It does not do: even q, where all are squares.

/** p and k with q = p^k for an odd prime p; undefined when there are none. */
export function oddPrimePower(q: number): { p: number; k: number } | undefined {
  if (!Number.isInteger(q) || q < 3 || q % 2 === 0) return undefined;
  let p = 3;
  while (p * p <= q && q % p !== 0) p += 2;
  if (q % p !== 0) return { p: q, k: 1 };
  let [rest, k] = [q, 0];
  for (; rest % p === 0; k++) rest /= p;
  return rest === 1 ? { p, k } : undefined;
}

/**
 * The matrix χ(i − j) of GF(q), row-major [q, q]: 0 on the diagonal, 1 where i − j is a square, −1 elsewhere.
 * Throws when q is no power of an odd prime.
 */
export function quadraticCharacterMatrix(q: number): Int8Array {
  const field = oddPrimePower(q);
  if (!field) throw new Error(`quadraticCharacterMatrix: ${q} is no power of an odd prime`);
  const { p, k } = field;
  const character = quadraticCharacter(p, k);
  const digits = Array.from({ length: q }, (_, i) => digitsOf(i, p, k));
  const out = new Int8Array(q * q);
  for (let i = 0; i < q; i++)
    for (let j = 0; j < q; j++) {
      let difference = 0;
      for (let d = k - 1; d >= 0; d--) difference = difference * p + ((digits[i][d] - digits[j][d] + p) % p);
      out[i * q + j] = character[difference];
    }
  return out;
}

/** χ of every element: the even powers of a generator are the squares. */
function quadraticCharacter(p: number, k: number): Int8Array {
  const q = p ** k;
  for (let polynomial = 0; polynomial < q; polynomial++) {
    const character = new Int8Array(q);
    let element = digitsOf(1, p, k);
    let power = 0;
    for (; character[numberOf(element, p)] === 0; power++) {
      character[numberOf(element, p)] = power % 2 === 0 ? 1 : -1;
      element = timesX(element, digitsOf(polynomial, p, k), p);
      if (element.every((d) => d === 0)) break;
    }
    if (power === q - 1) return character;
  }
  throw new Error(`quadraticCharacter: no primitive polynomial for ${p}^${k}`); // there always is one
}

/** a · x modulo x^k − Σ c_d x^d. */
function timesX(a: readonly number[], c: readonly number[], p: number): number[] {
  const top = a[a.length - 1];
  return c.map((coefficient, d) => ((d === 0 ? 0 : a[d - 1]) + top * coefficient) % p);
}

function digitsOf(n: number, p: number, k: number): number[] {
  return Array.from({ length: k }, (_, d) => Math.floor(n / p ** d) % p);
}

const numberOf = (digits: readonly number[], p: number) => digits.reduceRight((n, d) => n * p + d, 0);
