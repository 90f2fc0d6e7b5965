// A step of a linear layer, or of experts' layers, under a recipe in float64 with rounded operands:
// dequantize(quantize(v)) by the reference codec, products and rotations as plain sums. Shares with the engine only the
// codecs and the random numbers.

import { clipBits } from '../../src/formats/clip-bits.ts';
import { dequantize, quantize } from '../../src/formats/quantize.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import type { LinearRecipe, Operand, Rotation } from '../../src/train/recipes/linear-recipe.ts';
import { drawSigns } from '../../src/train/recipes/products.ts';

export interface Matrix {
  rows: number;
  columns: number;
  data: Float64Array;
}

export const matrix = (rows: number, columns: number, data: ArrayLike<number>): Matrix => ({
  rows,
  columns,
  data: Float64Array.from(data),
});

export const transposed = ({ rows, columns, data }: Matrix): Matrix =>
  matrix(
    columns,
    rows,
    Float64Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]),
  );

/** Rows first … first + count − 1. */
export const rowsOf = ({ columns, data }: Matrix, first: number, count: number): Matrix =>
  matrix(count, columns, data.subarray(first * columns, (first + count) * columns));

export const stacked = (parts: readonly Matrix[]): Matrix =>
  matrix(
    parts.reduce((n, { rows }) => n + rows, 0),
    parts[0].columns,
    parts.flatMap(({ data }) => [...data]),
  );

/** a · bᵀ */
export function product(a: Matrix, b: Matrix): Matrix {
  const out = new Float64Array(a.rows * b.rows);
  for (let i = 0; i < a.rows; i++)
    for (let j = 0; j < b.rows; j++)
      for (let c = 0; c < a.columns; c++) out[i * b.rows + j] += a.data[i * a.columns + c] * b.data[j * b.columns + c];
  return matrix(a.rows, b.rows, out);
}

const bits = (i: number) => i.toString(2).replaceAll('0', '').length;
const mapped = (v: Matrix, f: (x: number, i: number) => number) => matrix(v.rows, v.columns, v.data.map(f));

/** Which random numbers a layer draws. */
export interface Draws {
  seed: number;
  batch: number;
  /** Layers of the model, and which of them this is. */
  layers: number;
  number: number;
  /** The layer whose signs and numbers its input has in the weight gradient: the first that takes this input (default: itself). */
  owner?: number;
  /** Longest block of random signs. */
  longest: number;
}

/** Rotation along the columns, or its inverse. */
function rotated(v: Matrix, rotation: Rotation | undefined, draws: Draws, back = false): Matrix {
  if (!rotation) return v;
  const { seed, batch, layers, number, longest } = draws;
  let block = rotation.block === 'whole' ? 1 : rotation.block;
  if (rotation.block === 'whole') while (v.columns % (2 * block) === 0) block *= 2;
  const all =
    rotation.signs === 'random'
      ? drawSigns(layers * longest, seed, batch).slice(number * longest)
      : drawSigns(block, seed, -1);
  const s = (i: number) => (rotation.signs === 'none' ? 1 : all[i]);
  const out = new Float64Array(v.data.length);
  for (let at = 0; at < out.length; at += block)
    for (let i = 0; i < block; i++)
      for (let j = 0; j < block; j++) {
        const h = (bits(i & j) % 2 === 0 ? 1 : -1) / Math.sqrt(block);
        // entry (i, j) of diag(s) H, or of H diag(s)
        const entry = h * (rotation.order === 'last' ? s(j) : s(i));
        if (back) out[at + i] += v.data[at + j] * entry;
        else out[at + j] += v.data[at + i] * entry;
      }
  return matrix(v.rows, v.columns, out);
}

function rounded(v: Matrix, { format, bound }: Operand, operand: number, { seed, batch, number }: Draws) {
  if (format === 'f32') return { values: v, kept: () => true };
  const stream = 0x10000000 + 8 * number + operand;
  const values = Float32Array.from(v.data);
  const q = quantize(values, v.rows, v.columns, parseFormat(format), { seed, stream, step: batch });
  const words = bound === undefined ? undefined : clipBits(values, q, bound);
  const kept = (i: number) => !words || ((words[i >> 5] >> (i & 31)) & 1) === 1;
  return { values: matrix(v.rows, v.columns, dequantize(q)), kept };
}

const sum = (a: Matrix, b: Matrix) => mapped(a, (v, i) => v + b.data[i]);

/** x clamped to the quantiles of its rows, and what was cut off. */
function cut(x: Matrix, quantile: number | undefined): { clamped: Matrix; residual: Matrix } {
  if (quantile === undefined) return { clamped: x, residual: mapped(x, () => 0) };
  const bounds = Array.from({ length: x.rows }, (_, r) => {
    const sorted = Float64Array.from(rowsOf(x, r, 1).data).sort();
    const at = (share: number) => sorted[Math.min(Math.floor(share * x.columns), x.columns - 1)];
    return [at(1 - quantile), at(quantile)];
  });
  const clamped = mapped(x, (v, i) => {
    const [low, high] = bounds[Math.floor(i / x.columns)];
    return Math.min(Math.max(v, low), high);
  });
  return { clamped, residual: mapped(x, (v, i) => v - clamped.data[i]) };
}

/** min(|2t/d − 1|^(1/k − 1) / k, cap) for E2M1 with one scale a row, t from the level below, d between levels. */
function dgeSlopes(w: Matrix, { slope }: Operand): Float64Array {
  const { k, cap } = slope as { k: number; cap: number };
  const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
  return w.data.map((v, i) => {
    const row = rowsOf(w, Math.floor(i / w.columns), 1).data;
    const scale = Math.fround(row.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 6);
    const z = Math.min(Math.abs(v / scale), 6);
    const at = Math.max(
      levels.findIndex((level) => level >= z),
      1,
    );
    const [low, high] = [levels[at - 1], levels[at]];
    return Math.min(Math.abs((2 * (z - low)) / (high - low) - 1) ** (1 / k - 1) / k, cap);
  });
}

/** How operands are multiplied: one weight, or one of several for each row. */
export interface Products {
  /** x, w → y */
  forward(a: Matrix, b: Matrix): Matrix;
  /** e, wᵀ → gx */
  gradInput(e: Matrix, wT: Matrix): Matrix;
  /** eᵀ, xᵀ → gw */
  gradWeight(eT: Matrix, xT: Matrix): Matrix;
  transposedWeight(w: Matrix): Matrix;
}

export const oneWeight: Products = {
  forward: product,
  gradInput: product,
  gradWeight: product,
  transposedWeight: transposed,
};

/** First stream of the operands of the weight gradient. */
const weightStream = 4;

/** y, gx and gw for x [T, k], w [n, k] and e [T, n]. */
export function recipeFormulas(
  recipe: LinearRecipe,
  { x, w, e }: { x: Matrix; w: Matrix; e: Matrix },
  draws: Draws,
  kind: Products = oneWeight,
): { y: Matrix; gx: Matrix; gw: Matrix } {
  const turn = (v: Matrix, operand: Operand, rotation: Rotation | undefined, by = draws) => {
    const along = rotated(v, rotation, by);
    return operand.outer ? transposed(rotated(transposed(along), operand.outer, by)) : along;
  };
  const { forward, gradInput, gradWeight } = recipe;
  const [tx, tw] = [turn(x, forward.a, forward.rotation), turn(w, forward.b, forward.rotation)];
  const { clamped, residual } = cut(tx, forward.a.outliers);
  const [qx, qw] = [rounded(clamped, forward.a, 0, draws), rounded(tw, forward.b, 1, draws)];
  const owned = { ...draws, number: draws.owner ?? draws.number };
  const backward = (p: LinearRecipe['gradInput'], a: Matrix, b: Matrix, first: number, times: typeof product) => {
    const by = first === weightStream ? owned : draws;
    const qa = rounded(turn(a, p.a, p.rotation, by), p.a, first, draws);
    const qb = rounded(turn(b, p.b, p.rotation, by), p.b, first + 1, by);
    const factor = (p.a.correction ?? 1) * (p.b.correction ?? 1);
    const y = mapped(times(qa.values, qb.values), (v) => factor * v);
    const undone = p.a.outer ? transposed(rotated(transposed(y), p.a.outer, by, true)) : y;
    return rotated(undone, p.b.outer, by, true);
  };
  const from = ({ from: source }: Operand, plain: Matrix, seen: Matrix) => (source === 'exact' ? plain : seen);
  const back = (g: Matrix, kept: (i: number) => boolean) =>
    rotated(
      mapped(g, (v, i) => (kept(i) ? v : 0)),
      forward.rotation,
      draws,
      true,
    );
  const wT = kind.transposedWeight(from(gradInput.b, tw, qw.values));
  const xT = transposed(from(gradWeight.b, clamped, qx.values));
  const rest = kind.gradWeight(transposed(e), transposed(residual));
  const slopes = forward.b.slope ? dgeSlopes(tw, forward.b) : undefined;
  return {
    y: sum(kind.forward(qx.values, qw.values), kind.forward(residual, tw)),
    gx: back(backward(gradInput, e, wT, 2, kind.gradInput), qx.kept),
    gw: sum(
      back(
        mapped(
          backward(gradWeight, transposed(e), xT, weightStream, kind.gradWeight),
          (v, i) => v * (slopes?.[i] ?? 1),
        ),
        qw.kept,
      ),
      rotated(rest, forward.rotation, draws, true),
    ),
  };
}

/** The largest difference, as a share of the largest magnitude expected. */
export function worstError(found: ArrayLike<number>, { data }: Matrix): number {
  const largest = data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  return data.reduce((most, v, i) => Math.max(most, Math.abs(v - found[i])), 0) / largest;
}
