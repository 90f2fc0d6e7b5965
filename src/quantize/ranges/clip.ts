// AWQ's clip search (arXiv 2306.00978; ptq-core 3.1): how far to cut the extremes of each group of weights.
//
// For p = 1 − i/20, i = 0 … 9 (grid 20, at most half of the range cut off): clamp every group of every row to p times its range, quantize, and measure the error that
// the group alone causes in the outputs, ‖(w − ŵ) X_group‖² = d G_gg dᵀ with d the difference to the weight before
// clamping and G = Σ xᵀx. Every (row, group) takes its best p, of equal ones the largest; the clamped weight is what is
// to be quantized afterwards. Symmetric formats get the bounds ± p · max|w|, formats with offsets p · min and p · max:
// bounds of the other kind cost accuracy at few bits (LLMC). The published program samples 512 tokens; second moments
// of all tokens say the same more precisely and cost less. Scaling by input magnitudes, AWQ's other half, is not here.

import type { Solver } from '../../backends/wasm/solver.ts';
import { userError } from '../../errors.ts';
import type { Format } from '../../formats/format.ts';
import { gridOf, refuseWithoutGrid } from '../../formats/grid.ts';
import { dequantizeRows } from '../../formats/quantize.ts';
import { formatName } from '../../formats/registry.ts';
import type { Fit } from '../gptq/fit.ts';

export interface ClippedWeight {
  /** [rows, cols], to be quantized in place of the original. */
  weight: Float32Array;
  /** [rows, cols / span]: the p of each group. */
  shrink: Float32Array;
  /** Columns of a group. */
  span: number;
  /** Σ over rows and groups of ‖(w − ŵ) X_group‖² after the search and without clipping. */
  error: number;
  plainError: number;
}

export interface ClipOptions {
  /** Steps from the whole range to none. */
  grid: number;
  /** Share of the range that may be cut off. */
  maxShrink: number;
}

export const defaultClipOptions: Readonly<ClipOptions> = { grid: 20, maxShrink: 0.5 };

const rowsAtOnce = 384;

/**
 * Searches the clipping of a weight [rows, cols].
 *
 * @param gram Σ xᵀx [cols, cols] of the layer's inputs, upper triangle
 * @param name of the tensor, for messages
 * @throws user error for formats whose scales cover more than one row, or without fixed groups
 * @example const { weight } = await searchClip(w, 1024, 4096, format, gram, { solver, fit }, 'up_proj');
 */
export async function searchClip(
  weight: Float32Array,
  rows: number,
  cols: number,
  format: Format,
  gram: Float32Array,
  tools: { solver: Solver; fit: Fit },
  name: string,
  { grid, maxShrink }: ClipOptions = defaultClipOptions,
): Promise<ClippedWeight> {
  refuseWithoutGrid(format, 'clip', name);
  checkGranularity(format, name);
  const plain = await tools.fit(weight, rows, cols, format);
  const { span, offsets } = gridOf(plain);
  checkSpan(format, span, cols, name);
  const groups = cols / span;
  const ranges = rangesOf(weight, rows * groups, span, offsets === undefined);
  const best = new Float64Array(rows * groups).fill(Infinity);
  const shrink = new Float32Array(rows * groups).fill(1);
  const d = new Float32Array(Math.min(rows, rowsAtOnce) * cols);
  let plainError = 0;
  const forms = tools.solver.errors(gram, undefined, cols);
  try {
    for (let i = 0; i < Math.max(1, grid * maxShrink); i++) {
      const p = 1 - i / grid;
      const clamp = () => clampGroups(weight, ranges, span, () => p);
      const quantized = i === 0 ? plain : await tools.fit(clamp(), rows, cols, format);
      for (let first = 0; first < rows; first += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, rows - first);
        dequantizeRows(quantized, first, count, d);
        for (let k = 0; k < count * cols; k++) d[k] = weight[first * cols + k] - d[k];
        const errors = forms.blocks(d, count, span);
        for (let k = 0; k < errors.length; k++) {
          const at = first * groups + k;
          if (!(errors[k] < best[at])) continue;
          best[at] = errors[k];
          shrink[at] = p;
        }
      }
      if (i === 0) plainError = best.reduce((a, b) => a + b, 0);
    }
  } finally {
    forms.free();
  }
  const error = best.reduce((a, b) => a + b, 0);
  return { weight: clampGroups(weight, ranges, span, (g) => shrink[g]), shrink, span, error, plainError };
}

function checkGranularity(format: Format, name: string): void {
  if (format.kind !== 'quant') return;
  const { kind } = format.granularity;
  if (kind !== 'tensor' && kind !== 'tile') return;
  throw userError({
    code: 'clip-needs-groups',
    op: 'clip',
    problem: 'rows share scales, so that no row can be clipped for itself',
    got: formatName(format),
    expected: 'scales per channel or group',
    tensor: name,
  });
}

function checkSpan(format: Format, span: number, cols: number, name: string): void {
  if (span === cols || span % 8 === 0) return;
  throw userError({
    code: 'clip-group-size',
    op: 'clip',
    problem: 'the group size does not suit the search',
    got: `${formatName(format)}: ${span} columns`,
    expected: 'a multiple of 8',
    tensor: name,
  });
}

/** Smallest and largest value of each run of `span` values, by turns; symmetric: ± the largest magnitude. */
function rangesOf(weight: Float32Array, count: number, span: number, symmetric: boolean): Float32Array {
  const ranges = new Float32Array(2 * count);
  for (let g = 0; g < count; g++) {
    let min = Infinity;
    let max = -Infinity;
    for (let i = g * span; i < (g + 1) * span; i++) {
      if (weight[i] < min) min = weight[i];
      if (weight[i] > max) max = weight[i];
    }
    const amax = Math.max(-min, max);
    ranges[2 * g] = symmetric ? -amax : min;
    ranges[2 * g + 1] = symmetric ? amax : max;
  }
  return ranges;
}

/** The weight with each group clamped to `shrinkOf(group)` times its range. */
function clampGroups(
  weight: Float32Array,
  ranges: Float32Array,
  span: number,
  shrinkOf: (group: number) => number,
): Float32Array {
  const out = new Float32Array(weight.length);
  for (let g = 0; g < ranges.length / 2; g++) {
    const p = shrinkOf(g);
    const low = Math.fround(p * ranges[2 * g]);
    const high = Math.fround(p * ranges[2 * g + 1]);
    for (let i = g * span; i < (g + 1) * span; i++) {
      const v = weight[i];
      out[i] = v < low ? low : v > high ? high : v;
    }
  }
  return out;
}
