import { describe, expect, it } from 'vitest';
import type { Buffer } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import type { Format } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { gradients } from './differentiate.ts';
import { straightThrough, withGradient } from './gradient-rules.ts';
import type { GradientRule } from './graph.ts';
import { dequantize, quantize } from './ops/quantize.ts';
import { sum } from './ops/reduce.ts';
import { clipMasked, dge } from './rounding-rules.ts';
import { type GraphBuilder, trace } from './trace.ts';
import { f32 } from './value-type.ts';

const backend = createReferenceBackend({ precision: 'f64' });
const none = { params: new Map<string, Buffer>() };

describe('clip-masked quantization', () => {
  const x = Float64Array.from({ length: 64 }, (_, i) => (i < 32 ? 1 : 10) * ((i % 32) - 16));

  async function masked(format: Format, rule: (g: GraphBuilder) => GradientRule) {
    const graph = trace((g) => {
      const v = g.input('x', f32([2, 32]));
      const y = dequantize(withGradient(quantize(v, format), rule(g)));
      g.output('dx', gradients(g, sum(y), [v])[0]);
    });
    const run = await backend.compile(graph, none);
    run.write('x', x);
    run.run();
    return [...(await run.read('dx')).data];
  }

  it('stops the gradient beyond clip × the largest magnitude of each row', async () => {
    const format = parseFormat('int4-channel');
    if (format.kind !== 'quant') throw new Error('int4-channel has codes');
    const expected = [...x].map((v, i) => (Math.abs(v) <= (i < 32 ? 8 : 80) ? 1 : 0));
    expect(await masked({ ...format, clip: 0.5 }, () => clipMasked())).toEqual(expected);
    expect(await masked(format, () => clipMasked())).toEqual(expected.map(() => 1));
  });

  it('takes a bound, and asks for one where the format does not tell', async () => {
    const format = parseFormat('q4_0');
    const bound = (g: GraphBuilder) => g.constant(tensorF32([2, 1], Float32Array.of(3, 70)));
    const expected = [...x].map((v, i) => (Math.abs(v) <= (i < 32 ? 3 : 70) ? 1 : 0));
    expect(await masked(format, (g) => clipMasked(bound(g)))).toEqual(expected);
    await expect(masked(format, () => clipMasked())).rejects.toThrow(
      'clipMasked: the range of x does not follow from a group, row or tensor; pass the bound',
    );
  });
});

describe('differentiable gradient estimator', () => {
  const fp4 = parseFormat('fp4-e2m1-channel');
  const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6].flatMap((v) => (v ? [-v, v] : [v])).sort((a, b) => a - b);

  /** Slopes at z, in units of the levels: a 6 in the row makes its scale 1. */
  async function slopes(z: ArrayLike<number>, rule: GradientRule, format = fp4) {
    const graph = trace((g) => {
      const v = g.input('x', f32([1, z.length + 1]));
      g.output('dx', gradients(g, sum(dequantize(withGradient(quantize(v, format), rule))), [v])[0]);
    });
    const run = await backend.compile(graph, none);
    run.write('x', Float64Array.of(...Array.from(z), 6));
    run.run();
    return [...(await run.read('dx')).data].slice(0, -1);
  }

  it('has the slopes of k 5, cap 3 at twenty points from −6 to 6', async () => {
    const half = [0.2, 0.4446, 0.5819, 0.2186, 2.1088, 0.2709, 0.3097, 0.2709, 0.2416, 0.5819];
    const points = Array.from({ length: 20 }, (_, i) => -6 + (12 * i) / 19);
    const found = await slopes(points, dge());
    for (const [i, slope] of [...half, ...half.toReversed()].entries())
      expect(Math.abs(found[i] - slope), `at ${points[i]}`).toBeLessThan(1e-4);
  });

  it('is the slope of a function that rises from level to level', async () => {
    // f(t) = d/2 (1 + sign(2t/d − 1) |2t/d − 1|^(1/k)), written as the paper has it.
    const f = (z: number, k: number) => {
      const j = levels.findLastIndex((level, i) => level <= z && i < levels.length - 1);
      const d = levels[j + 1] - levels[j];
      const t = (2 * (z - levels[j])) / d - 1;
      return levels[j] + (d / 2) * (1 + Math.sign(t) * Math.abs(t) ** (1 / k));
    };
    const points = Array.from({ length: 59 }, (_, i) => -5.9 + 0.2 * i + 0.013);
    for (const k of [2, 5, 10]) {
      const found = await slopes(points, dge({ k, cap: 1e9 }));
      const h = 1e-6;
      for (const [i, z] of points.entries()) {
        const numeric = (f(z + h, k) - f(z - h, k)) / (2 * h);
        expect(Math.abs(found[i] / numeric - 1), `k ${k} at ${z}`).toBeLessThan(1e-4);
      }
    }
  });

  it.each([
    { k: 3, cap: 3, mean: 0.778 },
    { k: 5, cap: 3, mean: 0.593 },
    { k: 10, cap: 3, mean: 0.383 },
    { k: 3, cap: 1e15, mean: 1 },
  ])('has a mean slope of $mean with k $k and cap $cap', async ({ k, cap, mean }) => {
    // Midpoints in v = u^(1/k), which removes the pole: ∫ f′ du = ∫ f′ k v^(k−1) dv.
    const v = Array.from({ length: 2000 }, (_, i) => (i + 0.5) / 2000);
    const found = await slopes(
      v.map((x) => 0.25 * (1 + x ** k)), // between the levels 0 and 1/2
      dge({ k, cap }),
    );
    const integral = found.reduce((sum, slope, i) => sum + slope * k * v[i] ** (k - 1), 0) / v.length;
    expect(integral).toBeCloseTo(mean, 3);
  });

  it('with k 1 is straight through, and 0 where the format clips', async () => {
    const points = Array.from({ length: 101 }, (_, i) => -6 + 0.12 * i);
    expect(await slopes(points, dge({ k: 1 }))).toEqual(await slopes(points, straightThrough));
    // mxfp4 has the scale 1 here: 6.5 and −7.9 are rounded to the largest level.
    const clipped = await slopes([6.5, -7.9, 6, ...new Array(28).fill(1)], dge({ k: 1 }), parseFormat('mxfp4'));
    expect(clipped.slice(0, 3)).toEqual([0, 0, 1]);
  });

  it('treats a block of zeros as rounded to 0, and refuses formats without levels', async () => {
    const graph = trace((g) => {
      const v = g.input('x', f32([1, 32]));
      g.output('dx', gradients(g, sum(dequantize(withGradient(quantize(v, parseFormat('nvfp4')), dge()))), [v])[0]);
      const y = withGradient(quantize(v, parseFormat('q4_0')), dge());
      expect(() => gradients(g, sum(dequantize(y)), [v])).toThrow(
        'dgeBackward: y has no scaled levels, got q4_0[1, 32]',
      );
    });
    const run = await backend.compile(graph, none);
    run.run();
    for (const slope of (await run.read('dx')).data) expect(slope).toBeCloseTo(0.2, 12);
  });
});
