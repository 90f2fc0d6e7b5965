import { describe, expect, it } from 'vitest';
import { everyRow, outlierLayer, productError } from '../../test/support/ptq-recipes.ts';
import { dequantize, quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { inputStatistics } from './input-statistics.ts';
import { hadamardRotation } from './rotate/orthogonal.ts';
import { smoothScales } from './smooth.ts';
import { tensorStatistics } from './statistics.ts';

describe('smoothScales', () => {
  it('is the published formula over all layers that share the input', () => {
    const weights = [
      { name: 'a', values: Float32Array.of(1, -2, 0, 0.5, 1, 0), rows: 2 },
      { name: 'b', values: Float32Array.of(-4, 0, 0), rows: 1 },
    ];
    const scales = smoothScales({ absMax: Float32Array.of(16, 0, 3) }, weights, 0.75);
    const expected = [16 ** 0.75 / 4 ** 0.25, 1e-5 ** 0.75 / 2 ** 0.25, 3 ** 0.75 / 1e-5 ** 0.25];
    for (const [j, s] of expected.entries()) expect(scales[j] / s).toBeCloseTo(1, 6);
    expect([...smoothScales({ absMax: Float32Array.of(2, 3, 4) }, weights, 1)]).toEqual([2, 3, 4]);
    expect(() => smoothScales({ absMax: Float32Array.of(1, 1) }, weights, 1)).toThrow(/a has 6 values, not 2·2/);
  });
});

// The recipe's ten channel gains decide much, so the targets of our notes are for the median of three draws; ±30 %.
describe('layers with ten channels ×40 (X 2048×1024, W 1024×1024), three draws', () => {
  const round = (values: Float32Array, n: number, format: string) =>
    dequantize(quantize(values, values.length / n, n, parseFormat(format)));

  // Outputs are alike, so the error is that of every 8th token and every 16th output.
  const draws = [10, 20, 30].map((seed) => {
    const { cols: n, inputs: x, weight: w } = outlierLayer(seed);
    const [tokens, outputs] = [(v: Float32Array) => everyRow(v, n, 8), (v: Float32Array) => everyRow(v, n, 16)];
    const [wanted, rows] = [tokens(x), outputs(w)];
    const stats = inputStatistics(x, n);
    const smoothed = (alpha: number) => {
      const s = smoothScales(stats, [{ name: 'w', values: w, rows: n }], alpha);
      return [x.map((v, i) => v / s[i % n]), rows.map((v, i) => v * s[i % n])];
    };
    const rotated = [x, rows].map((values) => {
      const wide = Float64Array.from(values);
      hadamardRotation({ size: n }).multiply(wide);
      return Float32Array.from(wide);
    });
    const choices = [[x, rows], ...[0.5, 0.7, 1].map(smoothed), rotated];
    // one scale for all activations, one for each row of the weight
    const w8a8 = choices.slice(0, 4).map(([a, b]) => {
      const rounded = tokens(round(a, n, 'int8-tensor-f32s'));
      return productError(rounded, round(b, n, 'int8-channel-f32s'), wanted, rows, n);
    });
    // one scale for each token
    const w4a4 = [0, 1, 4].map((i) => {
      const rounded = round(tokens(choices[i][0]), n, 'int4-channel-f32s');
      return productError(rounded, round(choices[i][1], n, 'int4-channel-f32s'), wanted, rows, n);
    });
    return { w8a8, w4a4, kurtosis: [x, rotated[0]].map((values) => tensorStatistics(values).kurtosis) };
  });

  const near = (what: 'w8a8' | 'w4a4' | 'kurtosis', targets: number[]) => {
    for (const [i, target] of targets.entries()) {
      const median = draws.map((draw) => draw[what][i]).sort((a, b) => a - b)[1];
      expect(Math.abs(median / target - 1), `${what} ${i}: ${median}`).toBeLessThan(0.3);
    }
  };

  it('W8A8: the error is a U over α', () => {
    near('w8a8', [0.0162, 0.00045, 0.00039, 0.0023]);
    for (const {
      w8a8: [none, half, most, all],
    } of draws) {
      expect(most).toBeLessThan(half);
      expect(half).toBeLessThan(all);
      expect(all).toBeLessThan(none);
    }
  });

  it('W4A4: rotation is better than smoothing, and smoothing than nothing', () => {
    near('w4a4', [0.11, 0.047, 0.033]);
    for (const {
      w4a4: [none, smooth, hadamard],
    } of draws) {
      expect(hadamard).toBeLessThan(smooth);
      expect(smooth).toBeLessThan(none);
    }
  });

  it('rotated inputs have the kurtosis of Gaussian values', () => {
    near('kurtosis', [328, 3]);
    for (const { kurtosis } of draws) expect(kurtosis[1]).toBeCloseTo(3, 1);
  });
});
