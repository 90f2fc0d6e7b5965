import { describe, expect, it } from 'vitest';
import { hadamardMatrix } from '../../tensor/hadamard.ts';
import { mapBias, mapMatrix } from './map-matrix.ts';
import { denseRotation, hadamardRotation, type Orthogonal, offlineRotation, randomOrthogonal } from './orthogonal.ts';

/** Q itself, from its action on the unit rows. */
function matrixOf(q: Orthogonal): Float64Array {
  const n = q.size;
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n; i++) rows[i * n + i] = 1;
  q.multiply(rows);
  return rows;
}

/** max |Q · Qᵀ − I| */
function defect(m: Float64Array, n: number): number {
  let worst = 0;
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let sum = i === j ? -1 : 0;
      for (let k = 0; k < n; k++) sum += m[i * n + k] * m[j * n + k];
      worst = Math.max(worst, Math.abs(sum));
    }
  return worst;
}

describe('orthogonal matrices', () => {
  it('are orthogonal, whatever they are made of', () => {
    for (const n of [50, 63]) expect(defect(randomOrthogonal(n, 1), n)).toBeLessThan(1e-14);
    for (const q of [
      offlineRotation(50, true, 3),
      offlineRotation(48, true, 3),
      offlineRotation(48, false, 3),
      hadamardRotation({ size: 12, stride: 5, seed: 9 }),
    ])
      expect(defect(matrixOf(q), q.size)).toBeLessThan(1e-14);
  });

  it('have entries of the same variance everywhere when drawn at random', () => {
    const n = 128;
    const q = randomOrthogonal(n, 5);
    const fourth = q.reduce((sum, v) => sum + (v * v * n) ** 2, 0) / q.length;
    expect(fourth).toBeCloseTo(3, 0); // of a Gaussian, in the limit
    expect(randomOrthogonal(n, 5)).toEqual(q);
    expect(randomOrthogonal(n, 6)).not.toEqual(q);
  });

  it('rotate both sides of a matrix, gains first', () => {
    const [rows, cols] = [12, 8];
    const w = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(3 * i));
    const gain = Float32Array.from({ length: cols }, (_, i) => 1 + i / 8);
    const output = hadamardRotation({ size: 4 });
    const q = randomOrthogonal(cols, 2);
    const mapped = mapMatrix(w, rows, cols, { gain, inputs: [denseRotation(q, cols)], output });
    const h = hadamardMatrix(4);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) {
        let sum = 0;
        const first = r - (r % 4);
        for (let i = 0; i < 4; i++)
          for (let k = 0; k < cols; k++)
            sum += (h[i * 4 + (r % 4)] / 2) * w[(first + i) * cols + k] * gain[k] * q[k * cols + c];
        expect(mapped[r * cols + c]).toBeCloseTo(sum, 6);
      }
    const bias = mapBias(Float32Array.of(1, 0, 0, 0, 0, 0, 0, 2), output);
    expect([...bias]).toEqual([0.5, 0.5, 0.5, 0.5, 1, -1, -1, 1]);
  });
});
