// GPTQ (arXiv 2210.17323) for one weight: codes that make the layer's outputs on calibration data least wrong.
//
//   minimize ‖(W − Ŵ) X̃‖² = tr(D G Dᵀ), D = W − Ŵ, G = Σ x̃ᵀx̃, over the codes of a format whose scales are fixed
// Columns are rounded one after the other, each error is made good by the columns that are still free: e = (w − q)/U[c, c],
// w_j −= e U[c, j], (G + λI)⁻¹ = Uᵀ U. With `asymmetry` the target is the output on the original inputs (GPTAQ).
// The scales are those that the format stores, rounded. A tensor scale is fixed before anything else. Inputs that never
// occurred get weight zero. The result is kept only where it beats plain rounding.
// Other methods are options and formats of this one: GPTQ with static groups, activation order and MXFP4 or NVFP4 scales
// is MR-GPTQ (arXiv 2509.23202) on weights whose inputs were rotated before. Rotations and biases are not done here.

import type { ColumnSolve, Solver } from '../../backends/wasm/solver.ts';
import { bytesPerRow } from '../../backends/wasm/solver-columns.ts';
import type { Format, Quantized } from '../../formats/format.ts';
import { gridOf, refuseWithoutGrid, setScales, withCodes } from '../../formats/grid.ts';
import { nonFiniteValue } from '../../formats/quantize.ts';
import { type Fit, fitGroup } from './fit.ts';
import type { HessianFactor, PreparedHessian } from './hessian.ts';
import { layerErrors } from './layer-errors.ts';

export interface SolveTools {
  solver: Solver;
  fit: Fit;
  /** Bytes of the solver's memory for rows of weights; more rows are solved in turn. Default 512 MiB. */
  rowBytes?: number;
}

export interface SolvedLayer {
  quantized: Quantized;
  /** ‖(W − Ŵ) X̃‖² = tr(D G Dᵀ), without damping. */
  error: number;
  /** The same for plain rounding. */
  rtnError: number;
  /** ‖W X̃‖², which both are relative to. */
  energy: number;
  /** With asymmetry, what is compared instead: ‖W X − Ŵ X̃‖² − ‖W (X − X̃)‖², which may be negative. */
  objective?: number;
  rtnObjective?: number;
  /** Damping that was used, in units of the mean diagonal; 0 where nothing was solved. */
  damping: number;
  /** Why plain rounding was used. */
  fallback?: string;
  /** What else the user should know: a damping that had to be raised. */
  note?: string;
}

/**
 * Quantizes one weight by GPTQ.
 *
 * @param prepared statistics of the layer's inputs
 * @param weight [rows, cols], natural order; cols = features
 * @param name of the tensor, for messages
 * @throws user error for formats without a grid (refuseWithoutGrid); model error for NaN or infinity in the weight
 * @example
 * const tools = { solver: await createSolver(), fit: quantizerFit(await openQuantizer()) };
 * const { quantized, error, rtnError } = await solveLayer(prepared, weight, 1024, 4096, format, tools, 'up_proj');
 */
export async function solveLayer(
  prepared: PreparedHessian,
  weight: Float32Array,
  rows: number,
  cols: number,
  format: Format,
  tools: SolveTools,
  name: string,
): Promise<SolvedLayer> {
  refuseWithoutGrid(format, 'gptq', name);
  const { features } = prepared.statistics;
  if (cols !== features || weight.length !== rows * cols)
    throw new Error(`gptq: ${name} has ${weight.length} weights for ${rows} × ${cols} and ${features} features`);
  checkFinite(weight, cols, name);
  const rtn = await tools.fit(weight, rows, cols, format);
  const { span } = gridOf(rtn);
  const hessian = prepared.factorFor(span);
  const errors = layerErrors(prepared, weight, rows, tools.solver);
  try {
    const plain = errors.of(rtn);
    const asymmetric = prepared.options.asymmetry > 0;
    const rtnErrors = {
      rtnError: plain.error,
      energy: errors.energy(),
      ...(asymmetric && { rtnObjective: plain.objective }),
    };
    const roundPlainly = (fallback: string) => {
      const own = { error: plain.error, ...(asymmetric && { objective: plain.objective }) };
      return { quantized: rtn, damping: 0, ...own, ...rtnErrors, fallback };
    };
    if (typeof hessian === 'string') return roundPlainly(hessian);
    const solvable = withoutColumns(weight, cols, prepared.dead);
    const base = solvable === weight ? rtn : await tools.fit(solvable, rows, cols, format);
    const quantized = await solveCodes(prepared, hessian, solvable, base, tools);
    const { error, objective } = errors.of(quantized);
    if (!(objective <= plain.objective))
      return roundPlainly(`gptq leaves ${name} with a larger error than plain rounding: it is rounded plainly`);
    const { damping } = hessian;
    const asked = prepared.options.damping;
    const note = `the Hessian of ${name} is not positive definite with a damping of ${asked}: ${damping} was used`;
    return {
      quantized,
      damping,
      error,
      ...(asymmetric && { objective }),
      ...rtnErrors,
      ...(damping > asked && { note }),
    };
  } finally {
    errors.free();
  }
}

function checkFinite(weight: Float32Array, cols: number, name: string): void {
  for (let i = 0; i < weight.length; i++)
    if (weight[i] - weight[i] !== 0) throw nonFiniteValue(Math.floor(i / cols), i % cols, weight[i], name);
}

/** The weight with zeros in some columns; the weight itself where there are none. */
function withoutColumns(weight: Float32Array, cols: number, columns: readonly number[]): Float32Array {
  if (columns.length === 0) return weight;
  const copy = weight.slice();
  for (let r = 0; r < copy.length; r += cols) for (const c of columns) copy[r + c] = 0;
  return copy;
}

/** Whether groups are fitted one by one: only formats whose groups are independent of other rows and columns. */
const fitsOnTheWay = (prepared: PreparedHessian, { format, cols }: Quantized, span: number): boolean =>
  !prepared.options.staticGroups &&
  span < cols &&
  (format.kind === 'ggml' || (format.kind === 'quant' && format.granularity.kind === 'group'));

/** Rounds `weight` with error feedback under the scales of `base`, or of groups fitted on the way. */
async function solveCodes(
  prepared: PreparedHessian,
  { factor, order }: HessianFactor,
  weight: Float32Array,
  base: Quantized,
  { solver, fit, rowBytes = 512 << 20 }: SolveTools,
): Promise<Quantized> {
  const { rows, cols, format } = base;
  const grid = gridOf(base);
  const { span, run } = grid;
  const dynamic = fitsOnTheWay(prepared, base, span);
  const target = dynamic ? { ...base, codes: base.codes.slice(), scales: base.scales.slice() } : base;
  if (dynamic && base.zeroPoints) target.zeroPoints = base.zeroPoints.slice();
  const tensorAmax = dynamic ? weight.reduce((a, v) => Math.max(a, Math.abs(v)), 0) : 0;
  const codes = new Uint8Array(rows * cols);
  const chunk = Math.max(6, Math.floor(rowBytes / bytesPerRow(cols, run, factor.correction !== undefined)));
  for (let firstRow = 0; firstRow < rows; firstRow += chunk) {
    const count = Math.min(chunk, rows - firstRow);
    const solve = solver.columns({
      weight: weight.subarray(firstRow * cols, (firstRow + count) * cols),
      rows: count,
      cols,
      factor,
      order,
      values: grid.values,
      choice: grid.order,
      run,
      offsets: grid.offsets !== undefined,
    });
    try {
      if (dynamic) {
        const fitColumns = async (first: number) => {
          // groups keep together in every order that allows this
          const original = Math.floor((order ? order[first] : first) / span) * span;
          const values = solve.read(first, first + span);
          const natural = order ? inNaturalOrder(values, order.subarray(first, first + span), original) : values;
          const part = await fitGroup(fit, natural, count, span, format, tensorAmax);
          setScales(target, firstRow, original, part);
          const { steps, offsets } = gridOf(part);
          const kept = (count * span) / run;
          solve.setParameters(original / run, steps.subarray(0, kept), offsets?.subarray(0, kept));
        };
        await solveGroups(solve, cols, span, prepared.options.blockSize, fitColumns);
      } else {
        const runs = cols / run;
        const part = (x: Float32Array | undefined) => x?.subarray(firstRow * runs, (firstRow + count) * runs);
        solve.setParameters(0, part(grid.steps)!, part(grid.offsets));
        solveBlocks(solve, 0, cols, prepared.options.blockSize);
      }
      codes.set(solve.codes(), firstRow * cols);
    } finally {
      solve.free();
    }
  }
  return withCodes(target, codes);
}

/** Rounds columns first … last − 1 block by block; they have received the errors of all columns before `first`. */
function solveBlocks(solve: ColumnSolve, first: number, last: number, blockSize: number): void {
  for (let b = first; b < last; b += blockSize) {
    const end = Math.min(b + blockSize, last);
    solve.update(b, end, first, b);
    solve.round(b, end);
    solve.settle(b, end);
  }
}

/** The same for all columns, with a fit at the start of every group: blocks hold whole groups, or groups whole blocks. */
async function solveGroups(
  solve: ColumnSolve,
  cols: number,
  span: number,
  blockSize: number,
  fitColumns: (first: number) => Promise<void>,
): Promise<void> {
  const block = Math.max(span, blockSize - (blockSize % span));
  for (let b = 0; b < cols; b += block) {
    const end = Math.min(b + block, cols);
    solve.update(b, end, 0, b);
    for (let g = b; g < end; g += span) {
      solve.update(g, g + span, b, g);
      await fitColumns(g);
      if (span > blockSize) solveBlocks(solve, g, g + span, blockSize);
      else solve.round(g, g + span);
    }
    if (span <= blockSize) solve.settle(b, end);
  }
}

/** Columns of a group, values [rows, n] in processing order, back to their order in the matrix. */
function inNaturalOrder(values: Float32Array, order: Uint32Array, first: number): Float32Array {
  const n = order.length;
  const out = new Float32Array(values.length);
  for (let r = 0; r < values.length; r += n) for (let i = 0; i < n; i++) out[r + order[i] - first] = values[r + i];
  return out;
}
