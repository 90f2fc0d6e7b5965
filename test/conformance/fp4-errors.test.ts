// How much of a signal the 4-bit formats lose: acceptance table K of the method card (ptq-core section 7), measured there
// with NumPy. NMSE of 1024 × 2048 independent draws; INT4 with absmax/7.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dequantize } from '../../src/formats/quantize.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { gaussianMatrix } from '../../src/quantize/gaussian.ts';
import { type Fit, quantizerFit } from '../../src/quantize/gptq/fit.ts';
import { studentMatrix } from '../../src/quantize/gptq/testing.ts';
import { openQuantizer } from '../../src/quantize/tensor-quantizer.ts';

const [rows, cols] = [1024, 2048];
let roundPlainly: Fit;
let close: () => void;
beforeAll(async () => {
  const quantizer = await openQuantizer({ threads: 1 });
  roundPlainly = quantizerFit(quantizer);
  close = () => quantizer.dispose();
});
afterAll(() => close());

async function nmse(x: Float32Array, name: string): Promise<number> {
  const y = dequantize(await roundPlainly(x, rows, cols, parseFormat(name)));
  let error = 0;
  let signal = 0;
  for (let i = 0; i < x.length; i++) {
    error += (x[i]! - y[i]!) ** 2;
    signal += x[i]! ** 2;
  }
  return error / signal;
}

/** Orthonormal Walsh-Hadamard transform of every 128 values. */
function hadamard(x: Float32Array): Float32Array {
  let from = Float64Array.from(x);
  for (let h = 1; h < 128; h *= 2) {
    const to = new Float64Array(from.length);
    for (let i = 0; i < from.length; i++) to[i] = i & h ? from[i - h]! - from[i]! : from[i]! + from[i + h]!;
    from = to;
  }
  return Float32Array.from(from, (v) => v / Math.sqrt(128));
}

describe('Gaussian', () => {
  const targets = {
    mxfp4: 0.0132,
    'mxfp4-fourthirds': 0.0139,
    nvfp4: 0.009,
    'nvfp4-46': 0.0075,
    'int4-g16': 0.0073,
    'int4-g32': 0.0094,
  };
  test('within 5 % of the table, in its order', async () => {
    const x = gaussianMatrix(rows, cols, 1);
    const found: Record<string, number> = {};
    for (const [name, target] of Object.entries(targets)) {
      found[name] = await nmse(x, name);
      expect(Math.abs(found[name]! / target - 1), `${name} ${found[name]}`).toBeLessThan(0.05);
    }
    const order = ['int4-g16', 'nvfp4-46', 'nvfp4', 'int4-g32', 'mxfp4', 'mxfp4-fourthirds'];
    expect(Object.keys(found).sort((a, b) => found[a]! - found[b]!)).toEqual(order);
  });
});

describe('Student-t with 3 degrees of freedom', () => {
  // without and with a Hadamard transform of 128 values: it helps MXFP4, and NVFP4 is better off without
  test.each([
    ['mxfp4', 0.0199, 0.0132],
    ['nvfp4', 0.0082, 0.0093],
    ['nvfp4-46', 0.0075, 0.0076],
  ])('%s', async (name, plainTarget, rotatedTarget) => {
    const x = studentMatrix(rows, cols, 3, 2);
    const plain = await nmse(x, name);
    const rotated = await nmse(hadamard(x), name);
    expect(Math.abs(plain / plainTarget - 1)).toBeLessThan(0.1);
    expect(Math.abs(rotated / rotatedTarget - 1)).toBeLessThan(0.1);
    if (name === 'mxfp4') expect(rotated).toBeLessThan(plain);
    else expect(rotated).toBeGreaterThan(plain);
  });
});
