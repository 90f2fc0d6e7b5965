import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Grid, gridOf } from '../../formats/grid.ts';
import { quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussianMatrix } from '../../quantize/gaussian.ts';
import {
  correctionReference,
  dampedHessian,
  factorReference,
  nearestCode,
  solveReference,
} from '../../quantize/gptq/reference.ts';
import { correlatedInputs, moments, outputError } from '../../quantize/gptq/testing.ts';
import { createPool } from './pool.ts';
import { createSolver, type Solver } from './solver.ts';
import { type ColumnRequest, choiceThresholds, solveColumns } from './solver-columns.ts';
import { errorForms } from './solver-errors.ts';
import { type Factor, factorHessian, type Triangle, triangleEntry } from './solver-factor.ts';

let solver: Solver;
let threads: Solver;
beforeAll(async () => {
  solver = await createSolver({ threads: 1 });
  threads = await createSolver({ threads: 3 });
});
afterAll(() => {
  solver.dispose();
  threads.dispose();
});

/** A permutation that mixes near and far columns. */
const shuffled = (n: number): Uint32Array =>
  Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => ((a * 7919) % 104729) - ((b * 7919) % 104729) || a - b);

const dense = (t: Triangle): Float64Array =>
  Float64Array.from({ length: t.size ** 2 }, (_, i) => triangleEntry(t, Math.floor(i / t.size), i % t.size));

const factorOf = (s: Solver, ...[request]: Parameters<Solver['factor']>): Factor => {
  const factor = s.factor(request);
  if ('pivot' in factor) throw new Error(`pivot ${factor.pivot}`);
  return factor;
};

const largest = (x: ArrayLike<number>): number => Array.from(x).reduce((a, v) => Math.max(a, Math.abs(v)), 0);

describe('factor', () => {
  test.each([1, 2, 5, 8, 17, 127, 128, 133, 260, 391])('%d features: U as published, and Uᵀ U H = I', (n) => {
    const gram = moments(correlatedInputs(3 * n + 5, n, n), correlatedInputs(3 * n + 5, n, n), n);
    for (const order of [undefined, shuffled(n)]) {
      const request = { gram, size: n, damping: 0.01, order };
      const factor = factorOf(solver, request);
      expect(factorOf(threads, request).upper.panels).toEqual(factor.upper.panels);
      const u = dense(factor.upper);
      const expected = factorReference(gram, n, 0.01, order) as Float64Array;
      const top = largest(expected);
      u.forEach((v, i) => {
        if (Math.abs(v - expected[i]) > 1e-6 * top) throw new Error(`${i}: ${v}, expected ${expected[i]}`);
      });
      const h = dampedHessian(gram, n, 0.01, order);
      const uh = new Float64Array(n * n);
      for (let i = 0; i < n; i++)
        for (let k = i; k < n; k++) for (let j = 0; j < n; j++) uh[i * n + j] += u[i * n + k] * h[k * n + j];
      // U H Uᵀ = I
      for (let i = 0; i < n; i += 3) {
        for (let j = 0; j < n; j += 5) {
          let sum = 0;
          for (let k = j; k < n; k++) sum += uh[i * n + k] * u[j * n + k];
          expect(Math.abs(sum - (i === j ? 1 : 0))).toBeLessThan(1e-4);
        }
      }
    }
  });

  test('what is not positive definite is reported with its column', () => {
    for (const [size, bad] of [
      [6, 2],
      [300, 270],
      [300, 3],
    ]) {
      const gram = new Float32Array(size * size);
      for (let i = 0; i < size; i++) gram[i * size + i] = 1;
      gram[bad * size + bad] = -0.5;
      expect(solver.factor({ gram, size, damping: 0.1 })).toEqual({ pivot: bad });
      expect(threads.factor({ gram, size, damping: 0.1, order: shuffled(size) })).toEqual({ pivot: bad });
      expect('pivot' in solver.factor({ gram, size, damping: 0.9 })).toBe(false);
    }
    const singular = new Float32Array(9).fill(1);
    expect('pivot' in solver.factor({ gram: singular, size: 3, damping: 0 })).toBe(true);
    expect('pivot' in solver.factor({ gram: singular, size: 3, damping: 0.01 })).toBe(false);
  });

  test('features that never occur stand alone', () => {
    const n = 20;
    const x = correlatedInputs(100, n, 4).map((v, i) => (i % n === 7 ? 0 : v));
    const gram = moments(x, x, n);
    const u = dense(factorOf(solver, { gram, size: n, damping: 0.01 }).upper);
    for (let j = 0; j < n; j++) {
      if (j !== 7) expect(Math.abs(u[7 * n + j]!) + Math.abs(u[j * n + 7]!)).toBe(0);
    }
    expect(u[7 * n + 7]).toBeCloseTo(1 / Math.sqrt(1.01), 6);
  });

  test.each([9, 129, 300])('%d features: the correction of GPTAQ as its formula', (n) => {
    const x = correlatedInputs(2 * n, n, 1);
    const noise = gaussianMatrix(2 * n, n, 9);
    const quantized = x.map((v, i) => v + 0.2 * noise[i]);
    const gram = moments(quantized, quantized, n);
    const difference = x.map((v, i) => v - quantized[i]);
    const cross = moments(difference, quantized, n, true);
    const order = shuffled(n);
    const request = { gram, size: n, damping: 0.02, order, asymmetry: { cross, strength: 0.5 } };
    const factor = factorOf(solver, request);
    expect(factorOf(threads, request).correction).toEqual(factor.correction);
    const upper = factorReference(gram, n, 0.02, order) as Float64Array;
    const expected = correctionReference(cross, gram, upper, n, 0.5, order);
    const top = largest(expected);
    dense(factor.correction!).forEach((v, i) => {
      if (Math.abs(v - expected[i]) > 1e-6 * top) throw new Error(`${i}: ${v}, expected ${expected[i]}`);
    });
  });

  test('too many features say how many fit', async () => {
    const small = await createSolver({ threads: 1, maximumBytes: 64 << 20 });
    const size = 4096;
    expect(() => small.factor({ gram: new Float32Array(size * size), size, damping: 0.01 })).toThrow(
      /does not fit the memory of 67108864 bytes, got 4096 features, expected at most \d+;/,
    );
    small.dispose();
  });
});

test.each(['int4-g32', 'int8-channel', 'int2-g32-asym', 'mxfp4', 'fp8-e4m3-channel', 'nf4-g64', 'q6_k', 'iq4_xs'])(
  '%s: thresholds decide in float32 as the reference does',
  (name) => {
    const { values, order } = gridOf(quantize(gaussianMatrix(1, 256, 1), 1, 256, parseFormat(name)));
    const thresholds = choiceThresholds(values, order);
    const f32 = new Float32Array(1);
    const bits = new Int32Array(f32.buffer);
    for (let i = 0; i + 1 < order.length; i++) {
      f32[0] = (values[order[i]]! + values[order[i + 1]]!) / 2;
      const center = bits[0];
      for (let d = -2; d <= 2; d++) {
        bits[0] = center + d;
        // around zero the bits below are those of another sign
        if (center === 0 && d < 0) f32[0] = d * 1e-45;
        const code = order[thresholds.findLastIndex((t) => f32[0] > t) + 1];
        expect(code).toBe(nearestCode(values, order, f32[0]));
      }
    }
  },
);

describe('columns', () => {
  interface Problem {
    weight: Float32Array;
    grid: Grid;
    gram: Float32Array;
    cross: Float32Array;
  }

  function problem(name: string, rows: number, cols: number): Problem {
    const weight = gaussianMatrix(rows, cols, cols + rows).map((v, i) => (i % 13 === 0 ? 3 * v : v) * 0.02);
    const x = correlatedInputs(cols + 40, cols, 3);
    const shifted = x.map((v, i) => v + 0.1 * Math.sin(i));
    const difference = x.map((v, i) => v - shifted[i]!);
    return {
      weight,
      grid: gridOf(quantize(weight, rows, cols, parseFormat(name))),
      gram: moments(shifted, shifted, cols),
      cross: moments(difference, shifted, cols, true),
    };
  }

  /** Rounds with ranges that end at multiples of `piece` and of blocks of 128. */
  function round(s: Solver, p: Problem, factor: Factor, order: Uint32Array | undefined, piece: number): Uint8Array {
    const { rows, cols, values, order: choice, run, steps, offsets } = p.grid;
    const weight = p.weight;
    const request = { weight, rows, cols, factor, order, values, choice, run, offsets: offsets !== undefined };
    const solve = s.columns(request);
    solve.setParameters(0, steps, offsets);
    for (let b = 0; b < cols; b += 128) {
      const end = Math.min(b + 128, cols);
      solve.update(b, end, 0, b);
      for (let c = b; c < end; c += piece) {
        const last = Math.min(c + piece, end);
        solve.update(c, last, b, c);
        solve.round(c, last);
      }
      solve.settle(b, end);
    }
    const codes = solve.codes();
    solve.free();
    return codes;
  }

  const cases = [
    ['int4-g32', 7, 160],
    ['int4-g128-asym', 6, 384],
    ['int4-channel', 13, 203],
    ['int3-tensor-asym', 1, 77],
    ['int8-g64-asymf', 12, 192],
    ['int4-g32-signed', 5, 96],
    ['mxfp4', 19, 320],
    ['nvfp4', 6, 272],
    ['fp8-e4m3-tile2x48', 9, 200],
    ['nf4-g64', 4, 128],
    ['ternary-tensor', 6, 130],
    ['q4_k', 6, 512],
    ['q6_k', 3, 256],
    ['iq4_nl', 8, 160],
  ] as const;

  /**
   * The rule: a code differs from the float64 reference only where the number to be rounded lies within this many steps
   * of the middle of two values; what follows in its row may then differ. Weights of up to some hundred steps in float32
   * explain 1e-4. In these cases no code differs at all.
   */
  const tolerance = 1e-4;

  test.each(cases)('%s, %d × %d: every code is the nearest one given the codes before it', (name, rows, cols) => {
    const p = problem(name, rows, cols);
    for (const order of [undefined, shuffled(cols)]) {
      for (const strength of [0, 1]) {
        const asymmetry = strength ? { cross: p.cross, strength } : undefined;
        const request = { gram: p.gram, size: cols, damping: 0.01, order, asymmetry };
        const factor = factorOf(solver, request);
        const codes = round(solver, p, factor, order, 128);
        expect(round(threads, p, factor, order, 128)).toEqual(codes);
        const upper = factorReference(p.gram, cols, 0.01, order) as Float64Array;
        const correction = strength ? correctionReference(p.cross, p.gram, upper, cols, strength, order) : undefined;
        const place = (i: number) => (order ? order[i]! : i);
        const permute = <T extends Float32Array | Uint8Array>(x: T): T =>
          x.map((_, i) => x[Math.floor(i / cols) * cols + place(i % cols)]!) as T;
        const runOf = (i: number) => Math.floor(place(i) / p.grid.run);
        const weight = permute(p.weight);
        const pieces = round(threads, p, factor, order, 20);
        for (const result of [codes, pieces]) {
          const replayed = solveReference(weight, p.grid, runOf, upper, correction, 128, permute(result));
          expect(Math.max(...replayed.excess)).toBeLessThan(tolerance);
        }
        // without a tie within float32 the whole row is the same
        const free = solveReference(weight, p.grid, runOf, upper, correction, 128);
        const processed = permute(codes);
        let different = 0;
        for (let r = 0; r < rows; r++) {
          const at = free.codes.subarray(r * cols, (r + 1) * cols).findIndex((c, i) => c !== processed[r * cols + i]);
          if (at < 0) continue;
          different++;
          expect(Math.abs(free.excess[r * cols + at]!)).toBeLessThan(tolerance);
        }
        expect(different).toBeLessThanOrEqual(1);
      }
    }
  });

  test('a zero step takes the code of zero and passes its error on', () => {
    const p = problem('int4-g32', 3, 64);
    p.grid.steps.fill(0, 0, 1);
    const factor = factorOf(solver, { gram: p.gram, size: 64, damping: 0.01 });
    const codes = round(solver, p, factor, undefined, 128);
    expect([...codes.subarray(0, 32)].every((c) => c === 0)).toBe(true);
    const upper = factorReference(p.gram, 64, 0.01) as Float64Array;
    const runOf = (i: number) => Math.floor(i / 32);
    const replayed = solveReference(p.weight, p.grid, runOf, upper, undefined, 128, codes);
    expect(Math.max(...replayed.excess.subarray(32))).toBeLessThan(tolerance);
  });

  test('the rounding errors are the damped error: Σ e² = tr(D (H + λ) Dᵀ)', () => {
    const [rows, cols] = [5, 96];
    const p = problem('int4-g32', rows, cols);
    const upper = factorReference(p.gram, cols, 0.01) as Float64Array;
    const { codes, loss } = solveReference(p.weight, p.grid, (i) => Math.floor(i / 32), upper, undefined, 128);
    const h = dampedHessian(p.gram, cols, 0.01);
    let expected = 0;
    for (let r = 0; r < rows; r++) {
      const d = Array.from({ length: cols }, (_, c) => {
        const i = r * cols + c;
        return p.weight[i]! - p.grid.values[codes[i]!]! * p.grid.steps[Math.floor(i / 32)]!;
      });
      for (let i = 0; i < cols; i++) for (let j = 0; j < cols; j++) expected += d[i]! * h[i * cols + j]! * d[j]!;
    }
    expect(loss / expected).toBeCloseTo(1, 6);
  });
});

test.each([
  [1, 5],
  [7, 40],
  [400, 72],
  [13, 600],
])('errors of %d rows and %d features are those of the outputs', (rows, cols) => {
  const x = correlatedInputs(50, cols, 6);
  const other = x.map((v, i) => v + 0.1 * Math.cos(i));
  const difference = x.map((v, i) => v - other[i]!);
  const gram = moments(other, other, cols);
  const cross = moments(difference, other, cols, true);
  const d = gaussianMatrix(rows, cols, 2);
  const w = gaussianMatrix(rows, cols, 3);
  const forms = threads.errors(gram, cross, cols);
  const quadratic = forms.quadratic(d, rows);
  expect(quadratic / outputError(d, other, cols)).toBeCloseTo(1, 5);
  // ‖w (x − x̃) + d x̃‖² = ‖w (x − x̃)‖² + 2 ⟨…⟩ + ‖d x̃‖²
  let sum = 0;
  for (let r = 0; r < rows; r++) {
    for (let t = 0; t < x.length; t += cols) {
      let y = 0;
      for (let j = 0; j < cols; j++) y += w[r * cols + j]! * difference[t + j]! + d[r * cols + j]! * other[t + j]!;
      sum += y * y;
    }
  }
  const both = outputError(w, difference, cols) + 2 * forms.cross(w, d, rows) + quadratic;
  expect(both / sum).toBeCloseTo(1, 4);
  const single = solver.errors(gram, cross, cols);
  expect([single.quadratic(d, rows), single.cross(w, d, rows)]).toEqual([quadratic, forms.cross(w, d, rows)]);
  single.free();
  forms.free();
});

test.each([
  [7, 64, 16],
  [5, 640, 128],
  [400, 96, 32],
  [3, 1100, 1100],
  [6, 1280, 640],
])('errors of %d rows of %d features in blocks of %d', (rows, cols, span) => {
  const x = correlatedInputs(30, cols, 2);
  const gram = moments(x, x, cols);
  const d = gaussianMatrix(rows, cols, 4);
  const forms = threads.errors(gram, undefined, cols);
  const blocks = forms.blocks(d, rows, span);
  forms.free();
  const single = solver.errors(gram, undefined, cols);
  expect(single.blocks(d, rows, span)).toEqual(blocks);
  expect(() => single.blocks(d, rows, 12)).toThrow('blocks of 12');
  single.free();
  for (let i = 0; i < blocks.length; i += 7) {
    const [r, b] = [Math.floor((i * span) / cols), i % (cols / span)];
    const inBlock = (m: Float32Array, n: number) =>
      Float32Array.from({ length: n * span }, (_, k) => m[Math.floor(k / span) * cols + b * span + (k % span)]!);
    const expected = outputError(inBlock(d.subarray(r * cols), 1), inBlock(x, 30), span);
    expect(blocks[i]! / expected).toBeCloseTo(1, 4);
  }
});

test('addresses beyond 2 GiB', async () => {
  const pool = await createPool('solve', { threads: 2 });
  pool.allocator.allocate(2.2e9, 'nothing');
  const [rows, cols] = [7, 160];
  const x = correlatedInputs(200, cols, 1);
  const gram = moments(x, x, cols);
  const cross = moments(x, x, cols, true);
  const request = { gram, size: cols, damping: 0.01, asymmetry: { cross, strength: 0.1 } };
  const factor = factorOf(solver, request);
  expect(factorHessian(pool, 2 ** 32, request)).toEqual(factor);
  const weight = gaussianMatrix(rows, cols, 3);
  const {
    values,
    order: choice,
    run,
    steps,
    offsets,
  } = gridOf(quantize(weight, rows, cols, parseFormat('int4-g32-asym')));
  const codes = [solver.columns, (r: ColumnRequest) => solveColumns(pool, r)].map((columns) => {
    const solve = columns({ weight, rows, cols, factor, values, choice, run, offsets: true });
    solve.setParameters(0, steps, offsets);
    solve.round(0, 128);
    solve.settle(0, 128);
    solve.update(128, cols, 0, 128);
    solve.round(128, cols);
    return solve.codes();
  });
  expect(codes[1]).toEqual(codes[0]);
  const forms = [solver.errors(gram, cross, cols), errorForms(pool, gram, cross, cols)];
  const [low, high] = forms.map((f) => [f.quadratic(weight, rows), f.cross(weight, weight, rows)]);
  expect(high).toEqual(low);
  pool.dispose();
});
