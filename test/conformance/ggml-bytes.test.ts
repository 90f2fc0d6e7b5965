// Every ggml block type against llama.cpp's own library: equal bytes on ordinary and degenerate rows, with and without
// importance weights, and bit-equal values decoded from random bytes.

import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createGgmlQuantizer, hasGgmlKernel } from '../../src/backends/wasm/ggml-quantizer.ts';
import type { GgmlTypeName } from '../../src/formats/format.ts';
import { dequantizeGgml, quantizeGgml } from '../../src/formats/ggml/quantize.ts';
import { ggmlRowBytes, ggmlType, ggmlTypeNames } from '../../src/formats/ggml/types.ts';
import { generator, importanceCases, matrixCases } from './ggml-cases.ts';
import { type Oracle, oracleLibrary, startOracle } from './ggml-oracle.ts';

const library = oracleLibrary();
const absent = library === undefined || !existsSync(library);
const rows = 2;
const cols = 1024;
const matrices = Object.entries(matrixCases(rows, cols));
const weightings = Object.entries(importanceCases(cols));

/** Index of the first differing block and its bytes on both sides, or undefined. */
function firstDifference(type: GgmlTypeName, ours: Uint8Array, theirs: Uint8Array) {
  const { bytes } = ggmlType(type);
  for (let at = 0; at < ours.length; at += bytes) {
    const a = Buffer.from(ours.subarray(at, at + bytes)).toString('hex');
    const b = Buffer.from(theirs.subarray(at, at + bytes)).toString('hex');
    if (a !== b) return { block: at / bytes, ours: a, theirs: b };
  }
  return undefined;
}

describe.skipIf(absent)(`ggml bytes${absent ? ' (no @node-llama-cpp/linux-x64 here)' : ''}`, () => {
  let oracle: Oracle;
  beforeAll(() => {
    oracle = startOracle();
  });
  afterAll(() => oracle.close());

  describe.each(ggmlTypeNames)('%s', (type) => {
    test('encodes what ggml encodes', async () => {
      for (const [matrix, x] of matrices) {
        for (const [weights, importance] of weightings) {
          const ours = quantizeGgml(type, x, rows, cols, importance);
          const theirs = await oracle.quantize(type, x, rows, importance);
          expect(firstDifference(type, ours, theirs), `${matrix}, importance ${weights}`).toBeUndefined();
        }
      }
    });

    test('decodes any bytes to the same values', async () => {
      const random = generator(99);
      const bytes = Uint8Array.from({ length: ggmlRowBytes(type, 16384) }, () => random() * 256);
      const ours = dequantizeGgml(type, bytes, 1, 16384);
      const theirs = await oracle.dequantize(type, bytes, 16384);
      // Object.is tells −0 from 0 and takes all NaNs as one, whose payload no consumer reads.
      const different = ours.findIndex((v, i) => !Object.is(v, theirs[i]));
      expect(different === -1 ? undefined : [different, ours[different], theirs[different]]).toBeUndefined();
    });
  });

  test('the kernels encode what ggml encodes, a hundred thousand weights of each type', async () => {
    const quantizer = await createGgmlQuantizer({ threads: 1, maximumBytes: 2 ** 28 });
    const [count, width] = [24, 4096];
    const x = matrixCases(count, width)['student t3'];
    const bytes = new Uint8Array(x.buffer);
    for (const type of ggmlTypeNames) {
      if (!hasGgmlKernel(type)) continue;
      for (const importance of [undefined, importanceCases(width).random]) {
        const ours = quantizer.quantize(type, { dtype: 'f32', bytes }, width, 0, count, importance);
        const theirs = await oracle.quantize(type, x, count, importance);
        expect(firstDifference(type, ours, theirs), `${type} ${importance ? 'weighted' : 'plain'}`).toBeUndefined();
      }
    }
    quantizer.dispose();
  });

  test('ggml-mxfp4 scale bytes follow the f32 logarithm around every power of two', async () => {
    const bits = new Int32Array(255 * 130 * 32);
    let at = 0;
    for (let exponent = 0; exponent < 255; exponent++) {
      for (let ulp = -65; ulp < 65; ulp++, at += 32) bits[at] = Math.max(0, (exponent << 23) + ulp);
    }
    const x = new Float32Array(bits.buffer);
    const theirs = await oracle.quantize('ggml-mxfp4', x, 1);
    expect(firstDifference('ggml-mxfp4', quantizeGgml('ggml-mxfp4', x, 1, x.length), theirs)).toBeUndefined();
  });

  test('ggml-nvfp4 scales round like ggml near every rounding boundary', async () => {
    const random = generator(5);
    const x = new Float32Array(16 * 65536);
    for (let i = 0; i < x.length; i += 16) {
      // Block maxima 6·(code + half a step) and their neighbours, from subnormal codes to clipped ones.
      const power = 2 ** (Math.floor(random() * 21) - 10);
      x[i] = 6 * power * (1 + (Math.floor(random() * 32) + (random() - 0.5) * 1e-6) / 16);
      for (let j = 1; j < 16; j++) x[i + j] = (x[i] * Math.floor(random() * 49 - 24)) / 24;
    }
    const theirs = await oracle.quantize('ggml-nvfp4', x, 1);
    expect(firstDifference('ggml-nvfp4', quantizeGgml('ggml-nvfp4', x, 1, x.length), theirs)).toBeUndefined();
  });
});
