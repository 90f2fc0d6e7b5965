// AWQ's clipping in front of a rounding method: the ranges of a layer's weights are narrowed on the second moments of its
// input. Methods that choose codes by an error take scales from the narrowed weights, and codes for the original ones.
//
// Queries and keys are left alone, as the original does: their product amplifies errors of the range. Layers of formats
// that cannot be clipped (scales over several rows) are refused by the search; layers that no token reached stay.

import type { Solver } from '../../backends/wasm/solver.ts';
import { denseF32 } from '../../models/stack.ts';
import type { LayerTask } from '../calibration/calibrate.ts';
import { quantizerFit } from '../gptq/fit.ts';
import { type ClipOptions, searchClip } from '../ranges/clip.ts';
import { matrixShape } from '../tensor-quantizer.ts';
import type { Rounding, RoundingTools } from './rounding.ts';

export function clippingFirst(
  rounding: Rounding,
  options: ClipOptions,
  solver: Solver,
  tools: RoundingTools,
): Rounding {
  const fit = quantizerFit(tools.quantizer, tools.seed);
  const clipped = async (task: LayerTask): Promise<LayerTask> => {
    const { name, weight, format, record } = task;
    if (/\.[qk]_proj\.weight$/.test(name) || !record.gram || record.tokens === 0) return task;
    const { rows, cols } = matrixShape(weight.shape);
    const values = denseF32(weight);
    const found = await searchClip(values, rows, cols, format, record.gram, { solver, fit }, name, options);
    return { ...task, clipped: found.weight };
  };
  return {
    ...rounding,
    needs: (site) => ({ ...rounding.needs(site), gram: true }),
    async round(site, tasks) {
      const narrowed: LayerTask[] = [];
      for (const task of tasks) narrowed.push(await tools.profile.time('clip', () => clipped(task)));
      return rounding.round(site, narrowed);
    },
  };
}
