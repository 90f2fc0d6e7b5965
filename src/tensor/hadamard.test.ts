import { describe, expect, it } from 'vitest';
import {
  hadamardBlock,
  hadamardMatrix,
  hadamardOrder,
  largestPowerOfTwo,
  multiplyHadamard,
  randomSigns,
} from './hadamard.ts';
import { baseHadamard } from './hadamard-base.ts';
import { oddPrimePower, quadraticCharacterMatrix } from './quadratic-character.ts';

/** The rows with each element's sign as one bit. */
function signWords(h: Int8Array, n: number): Uint32Array[] {
  return Array.from({ length: n }, (_, i) => {
    const words = new Uint32Array(Math.ceil(n / 32));
    for (let j = 0; j < n; j++) if (h[i * n + j] < 0) words[j >> 5] |= 1 << (j & 31);
    return words;
  });
}

function popcount(v: number): number {
  const pairs = v - ((v >>> 1) & 0x55555555);
  const fours = (pairs & 0x33333333) + ((pairs >>> 2) & 0x33333333);
  return Math.imul((fours + (fours >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** The largest |entry| of H · Hᵀ − n · I, in whole numbers: rows a and b agree in n − popcount(a XOR b) places. */
function defect(h: Int8Array, n: number): number {
  const rows = signWords(h, n);
  let worst = 0;
  for (let a = 0; a < n; a++)
    for (let b = a + 1; b < n; b++) {
      let different = 0;
      for (let w = 0; w < rows[a].length; w++) different += popcount(rows[a][w] ^ rows[b][w]);
      worst = Math.max(worst, Math.abs(n - 2 * different));
    }
  return worst;
}

const claimed = Array.from({ length: 512 }, (_, i) => i + 1).filter((n) => hadamardOrder(n));

describe('Hadamard matrices', () => {
  it('are orthogonal for every order up to 512 that is claimed', () => {
    for (const n of claimed) {
      const h = hadamardMatrix(n);
      expect(
        h.every((v) => v === 1 || v === -1),
        `entries of ${n}`,
      ).toBe(true);
      expect(defect(h, n), `order ${n}`).toBe(0);
    }
  });

  it('exist for 1, 2 and all multiples of 4 up to 512 but those without a construction here', () => {
    const missing = Array.from({ length: 128 }, (_, i) => 4 * (i + 1)).filter((n) => !hadamardOrder(n));
    expect(missing).toEqual([188, 236, 260, 268, 292, 324, 356, 372, 376, 404, 412, 428, 436, 452, 472, 476, 508]);
    expect(claimed.filter((n) => n % 4 !== 0)).toEqual([1, 2]);
  });

  it('cover the sizes of published models with a small base', () => {
    const order = (n: number) => {
      const found = hadamardOrder(n);
      return found && [found.base, found.power];
    };
    // QuaRot's list, each with the widths it stands for
    for (const base of [172, 156, 140, 108, 60, 52, 36, 28, 40, 20, 12]) expect(hadamardOrder(base)).toBeDefined();
    expect(order(11008)).toEqual([172, 64]);
    expect(order(14336)).toEqual([28, 512]);
    expect(order(18944)).toEqual([148, 128]);
    expect(order(80)).toEqual([20, 4]);
    expect(order(4096)).toEqual([1, 4096]);
    expect(order(29568)).toBeUndefined(); // 231 · 128: the block rule
    expect(hadamardBlock(29568)).toBe(128);
    expect(hadamardBlock(11008)).toBe(11008);
    expect(largestPowerOfTwo(77)).toBe(1);
    for (const n of [0, -4, 2.5, 6, Number.NaN]) expect(hadamardOrder(n)).toBeUndefined();
  });

  it('of a power of two are Sylvester matrices', () => {
    const h = hadamardMatrix(16);
    for (let i = 0; i < 16; i++)
      for (let j = 0; j < 16; j++) {
        const ones = (i & j).toString(2).replaceAll('0', '').length;
        expect(h[i * 16 + j]).toBe(ones % 2 === 0 ? 1 : -1);
      }
  });

  it('of other orders are Kronecker products with their columns regrouped', () => {
    const [base, power] = [12, 4];
    const h = hadamardMatrix(48);
    const a = baseHadamard(base);
    const s = hadamardMatrix(power);
    for (let i = 0; i < 48; i++)
      for (let j = 0; j < 48; j++) {
        const [i1, i2] = [Math.floor(i / power), i % power];
        const [j2, j1] = [Math.floor(j / base), j % base];
        expect(h[i * 48 + j]).toBe(a[i1 * base + j1] * s[i2 * power + j2]);
      }
  });
});

describe('multiplyHadamard', () => {
  it('agrees with the dense product on every run', () => {
    for (const n of [1, 2, 8, 12, 28, 80, 384]) {
      const x = Float64Array.from({ length: 3 * n }, (_, i) => Math.sin(1 + i * i));
      const h = hadamardMatrix(n);
      const y = x.slice();
      multiplyHadamard(y, n);
      for (let r = 0; r < 3; r++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let i = 0; i < n; i++) sum += x[r * n + i] * h[i * n + j];
          expect(y[r * n + j]).toBeCloseTo(sum / Math.sqrt(n), 12);
        }
    }
  });

  it('refuses what is not a whole number of runs of a known order', () => {
    expect(() => multiplyHadamard(new Float64Array(10), 4)).toThrow(/order 4 for 10 values/);
    expect(() => multiplyHadamard(new Float64Array(12), 6)).toThrow(/order 6/);
  });
});

describe('the quadratic character', () => {
  it('marks the squares of prime fields', () => {
    for (const p of [3, 7, 13, 101]) {
      const squares = new Set(Array.from({ length: p - 1 }, (_, i) => ((i + 1) * (i + 1)) % p));
      const matrix = quadraticCharacterMatrix(p);
      for (let i = 1; i < p; i++) expect(matrix[i * p]).toBe(squares.has(i) ? 1 : -1);
    }
  });

  it('is symmetric for q ≡ 1 and skew for q ≡ 3 (mod 4), with as many squares as others', () => {
    for (const q of [9, 25, 27, 81, 125, 243]) {
      const matrix = quadraticCharacterMatrix(q);
      const sign = q % 4 === 1 ? 1 : -1;
      for (let i = 0; i < q; i++) {
        let sum = 0;
        let wrong = 0;
        for (let j = 0; j < q; j++) {
          sum += matrix[i * q + j];
          if (matrix[i * q + j] !== (i === j ? 0 : sign * matrix[j * q + i])) wrong++;
        }
        expect([sum, wrong]).toEqual([0, 0]);
      }
    }
  });

  it('knows prime powers', () => {
    expect(oddPrimePower(27)).toEqual({ p: 3, k: 3 });
    expect(oddPrimePower(121)).toEqual({ p: 11, k: 2 });
    for (const q of [1, 2, 8, 15, 45, 2.5]) expect(oddPrimePower(q)).toBeUndefined();
    expect(() => quadraticCharacterMatrix(15)).toThrow(/15 is no power/);
  });
});

describe('random signs', () => {
  it('depend on the seed alone and are balanced', () => {
    const signs = randomSigns(4096, 5);
    expect(randomSigns(100, 5)).toEqual(signs.slice(0, 100));
    expect(randomSigns(100, 6)).not.toEqual(signs.slice(0, 100));
    expect(Math.abs(signs.reduce((a, b) => a + b, 0))).toBeLessThan(4 * Math.sqrt(4096));
    expect(signs.every((s) => s === 1 || s === -1)).toBe(true);
  });
});
