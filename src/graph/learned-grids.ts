// Uniform grids whose step, and offset, are trained along with the weights.
//
//   lsq       rule of fakeQuantize: ds = g Σ dy · ∂y/∂s,  g = 1/√(N·Q_P)
//   lsqPlus   y = s · rne(clip((x − β)/s, low, high)) + β, with dβ = g Σ dy over what is clipped
//   seq       y = α · (rne(clip(w/α, −.99, .99)·n − ½) + ½)/n: levels that are symmetric and without zero
//
// Sources: LSQ, Esser et al. 2020 (arXiv:1902.08153), sections 2.1 and 2.2; LSQ+, Bhalgat et al. 2020
// (arXiv:2004.09576), section 3; SEQ, Liu et al. 2025 (arXiv:2502.02631, ParetoQ).
// It does not do: choosing initial steps, and ParetoQ's one-bit case, whose α has a gradient without residual.

import { elementCount } from '../tensor/shape.ts';
import { scaleGradient, withGradient } from './gradient-rules.ts';
import type { GradientRule, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { add, sub } from './ops/arithmetic.ts';
import { type FakeQuantizeAttributes, fakeQuantize, fakeQuantizeBackward, type Grid } from './ops/fake-quantize.ts';
import { sumTo } from './ops/reduce.ts';

export interface LsqOptions {
  /** N of the gradient scale; elements of x for each step when absent. Some implementations take all of x. */
  gradientScaleElements?: number;
  /** Q_P of the gradient scale; the highest level, at least 1, when absent. */
  gradientScaleLevel?: number;
}

/** g = 1/√(N·Q_P) */
function gradientScale(x: Value, step: Value, { high }: Grid, options: LsqOptions): number {
  const elements = options.gradientScaleElements ?? elementCount(x.type.shape) / elementCount(step.type.shape);
  return 1 / Math.sqrt(elements * (options.gradientScaleLevel ?? Math.max(high, 1)));
}

/**
 * For fakeQuantize: its own rule with the step's gradient multiplied by 1/√(N·Q_P), Q_P the highest level. It keeps the
 * relative size of the step's updates near that of the weights' under SGD; under Adam it changes nothing.
 *
 * @example withGradient(fakeQuantize(w, step, { low: -8, high: 7 }), lsq())
 */
export function lsq(options: LsqOptions = {}): GradientRule {
  return ({ inputs: [x, step], attributes }, [g]) => {
    if (!g) return [];
    const grid = attributes as unknown as FakeQuantizeAttributes;
    const [dx, shares] = fakeQuantizeBackward(x, step, g, grid);
    return [dx, affine(sumTo(shares, step.type.shape), { scale: gradientScale(x, step, grid, options) })];
  };
}

/**
 * x on a grid with a trained step and offset, which both broadcast to x. The offset's gradient has the scale of the
 * step's. For values that are not symmetric, such as those after SiLU: { low: 0, high: 15 } with a negative offset.
 *
 * @example lsqPlus(x, g.state('step', f32([1])), g.state('offset', f32([1])), { low: 0, high: 15 })
 */
export function lsqPlus(x: Value, step: Value, offset: Value, grid: Grid, options: LsqOptions = {}): Value {
  const beta = scaleGradient(offset, gradientScale(x, step, grid, options));
  return add(withGradient(fakeQuantize(sub(x, beta), step, grid), lsq(options)), beta);
}

export interface SeqOptions extends LsqOptions {
  /** See fakeQuantize: 1 is the derivative of what is computed; ParetoQ's code has 1.5 for ternary weights. */
  edge?: number;
}

/**
 * Stretched elastic quantization of a weight: two bits have the levels ±α/4 and ±3α/4, ternary ones 0 and ±2α/3.
 * alpha broadcasts to w, [N, 1] for one a row; it starts at the largest magnitude of the row. N of the gradient scale is
 * all of w, as in ParetoQ, although alpha has a number a row.
 *
 * @example seq(weight, g.state('alpha', f32([256, 1])), 2)
 */
export function seq(w: Value, alpha: Value, bits: number | 'ternary', options: SeqOptions = {}): Value {
  const [levels, shift] = bits === 'ternary' ? [1.5, 0] : [2 ** (bits - 1), 0.5]; // n and ½ of the formula
  const { edge = 1, gradientScaleElements = elementCount(w.type.shape) } = options;
  const gradientScaleLevel = options.gradientScaleLevel ?? Math.max(Math.floor(levels) - 1, 1);
  const grid = { low: -0.99 * levels, high: 0.99 * levels, shift, edge, epsilon: 1e-5 / levels };
  const rule = lsq({ gradientScaleElements, gradientScaleLevel });
  return withGradient(fakeQuantize(w, affine(alpha, { scale: 1 / levels }), grid), rule);
}
