import { describe, expect, it } from 'vitest';
import { uniformSource } from '../formats/random.ts';
import { type SamplingOptions, sampleToken } from './sampling.ts';

const probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
const logits = Float32Array.from(probabilities, (p) => Math.log(p) + 3);

/** Shares of 20,000 draws. */
function draw(options: SamplingOptions): number[] {
  const uniform = uniformSource(5, 0);
  const counts = new Array<number>(5).fill(0);
  for (let i = 0; i < 20_000; i++) counts[sampleToken(logits, options, uniform.at(i))] += 1 / 20_000;
  return counts;
}

/** Four standard deviations of a share of 20,000 draws. */
const near = (share: number, p: number) =>
  expect(Math.abs(share - p)).toBeLessThan(4 * Math.sqrt((p * (1 - p)) / 20_000));

describe('sampleToken', () => {
  it('takes the most likely token at temperature 0, the lower id on ties', () => {
    expect(sampleToken(logits, {}, 0.99)).toBe(1);
    expect(sampleToken(Float32Array.of(1, 2, 2), { temperature: 0 }, 0.99)).toBe(1);
  });

  it('draws with the softmax probabilities', () => {
    for (const [i, share] of draw({ temperature: 1 }).entries()) near(share, probabilities[i]);
  });

  it('sharpens with temperature', () => {
    const squares = probabilities.map((p) => p * p);
    const total = squares.reduce((a, b) => a + b);
    for (const [i, share] of draw({ temperature: 0.5 }).entries()) near(share, squares[i] / total);
  });

  it('keeps the top k', () => {
    const shares = draw({ temperature: 1, topK: 2 });
    near(shares[1], 4 / 7);
    near(shares[3], 3 / 7);
    expect(shares[0] + shares[2] + shares[4]).toBe(0);
  });

  it('keeps the token that crosses p, and no more', () => {
    const shares = draw({ temperature: 1, topP: 0.75 });
    near(shares[1], 0.4 / 0.85);
    near(shares[3], 0.3 / 0.85);
    near(shares[4], 0.15 / 0.85);
    expect(shares[0] + shares[2]).toBe(0);
  });

  it('stays inside the draw at the ends of the interval', () => {
    expect(sampleToken(logits, { temperature: 1, topK: 1 }, 1 - 2 ** -24)).toBe(1);
    expect(sampleToken(logits, { temperature: 1 }, 0)).toBe(0);
    expect(sampleToken(Float32Array.of(0, -1e4), { temperature: 1 }, 1 - 2 ** -24)).toBe(0);
  });

  it('names options out of range', () => {
    expect(() => sampleToken(logits, { temperature: -1 }, 0)).toThrow(/wrong temperature, got -1/);
    expect(() => sampleToken(logits, { temperature: Number.NaN }, 0)).toThrow(/wrong temperature/);
    expect(() => sampleToken(logits, { temperature: 1, topK: 1.5 }, 0)).toThrow(/wrong top-k, got 1.5/);
    expect(() => sampleToken(logits, { temperature: 1, topP: 0 }, 0)).toThrow(/wrong top-p, got 0/);
  });
});
