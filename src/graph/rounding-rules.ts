// Gradient rules for rounding to a format (the op quantize), besides straightThrough.
//
//   clipMasked   dx = dy · 1[|x| ≤ bound]
//   dge          dx = dy · f′(x / scale), the slope of a smooth staircase        (Wang et al. 2025, arXiv:2501.17116)

import { userError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { elementCount } from '../tensor/shape.ts';
import type { GradientRule, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { type DgeAttributes, dgeBackward } from './ops/dge.ts';
import { fakeQuantizeBackward } from './ops/fake-quantize.ts';
import { concat, reshape } from './ops/layout.ts';
import type { QuantizeAttributes } from './ops/quantize.ts';
import { max } from './ops/reduce.ts';
import { negate } from './ops/unary.ts';

/**
 * For quantize: straight through where |x| ≤ bound, zero where the format clips.
 *
 * `bound` broadcasts to x. Without it, it follows from the format: clip × the largest magnitude of the group, row or
 * tensor that shares a scale; a format that does not clip gets every gradient. Throws a SubbyteError, when the graph is
 * differentiated, for formats whose range is not of this kind (tiles, ggml blocks).
 */
export function clipMasked(bound?: Value): GradientRule {
  return ({ inputs: [x], attributes }, [g]) => {
    if (!g) return [];
    const grid = { low: -1, high: 1, epsilon: Number.MIN_VALUE };
    if (bound) return [fakeQuantizeBackward(x, bound, g, grid)[0]];
    const range = clipRange(x, (attributes as Partial<QuantizeAttributes>).format);
    if (!range) return [g];
    const blocks = (v: Value) => reshape(v, range.blocks);
    return [reshape(fakeQuantizeBackward(blocks(x), range.bound, blocks(g), grid)[0], x.type.shape)];
  };
}

/** The bound of each run of values that share a scale, for x seen as `blocks`; undefined: nothing is clipped. */
function clipRange(x: Value, format: Format | undefined): { blocks: readonly number[]; bound: Value } | undefined {
  if (format?.kind === 'float' || (format?.kind === 'quant' && format.clip === 1)) return undefined;
  if (format?.kind !== 'quant' || format.granularity.kind === 'tile')
    throw userError({
      code: 'gradient-clip',
      op: 'clipMasked',
      problem: `the range of ${x.name} does not follow from a group, row or tensor`,
      fix: 'pass the bound',
    });
  const { shape } = x.type;
  const { granularity, clip } = format;
  const runs = { tensor: elementCount(shape), channel: shape.at(-1) ?? 1, token: shape.at(-1) ?? 1 };
  const run = granularity.kind === 'group' ? granularity.size : runs[granularity.kind];
  const blocks = [elementCount(shape) / run, run];
  const values = reshape(x, blocks);
  const largest = (v: Value) => max(v, { axes: [1], keepDims: true });
  const magnitude = largest(concat([largest(values), largest(negate(values))], 1));
  return { blocks, bound: affine(magnitude, { scale: clip }) };
}

/**
 * For quantize: the differentiable gradient estimator. Every gradient is multiplied by the slope of a power function
 * that rises from level to level, steep midway between two and flat at the levels, at most `cap`; beyond the outermost
 * levels it is 0. With k 5 and cap 3 the mean slope is 0.593, which AdamW does not see but gradient norms and plain
 * descent do. Formats need scaled levels: no zero points, no ggml blocks.
 *
 * @example dequantize(withGradient(quantize(w, parseFormat('fp4-channel')), dge()))
 */
export function dge({ k = 5, cap = 3 }: Partial<DgeAttributes> = {}): GradientRule {
  return ({ inputs: [x], outputs: [y] }, [g]) => (g ? [dgeBackward(x, y, g, { k, cap })] : []);
}
