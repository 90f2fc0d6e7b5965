// The kernels against the definition in src/formats/ggml, byte for byte: ordinary and degenerate matrices, all three
// source types, importance weights, row ranges and odd block counts. (The definition is compared with ggml itself.)

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { importanceCases, matrixCases } from '../../../test/conformance/ggml-cases.ts';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../../formats/bits.ts';
import type { GgmlTypeName } from '../../formats/format.ts';
import { encodeGgmlRows, quantizeGgml } from '../../formats/ggml/quantize.ts';
import { ggmlType, ggmlTypeNames } from '../../formats/ggml/types.ts';
import { createGgmlQuantizer, type GgmlQuantizer } from './ggml-quantizer.ts';

const rows = 2;
const cols = 1024;
const matrices = Object.entries(matrixCases(rows, cols));
const weightings = Object.entries(importanceCases(cols));
const bytesOf = (x: ArrayBufferView) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

function firstDifference(type: GgmlTypeName, kernel: Uint8Array, definition: Uint8Array) {
  const { bytes } = ggmlType(type);
  for (let at = 0; at < definition.length; at += bytes) {
    const a = Buffer.from(kernel.subarray(at, at + bytes)).toString('hex');
    const b = Buffer.from(definition.subarray(at, at + bytes)).toString('hex');
    if (a !== b) return { block: at / bytes, kernel: a, definition: b };
  }
  return undefined;
}

let quantizer: GgmlQuantizer;
beforeAll(async () => {
  quantizer = await createGgmlQuantizer({ threads: 2, maximumBytes: 2 ** 28 });
});
afterAll(() => quantizer.dispose());

describe.each(ggmlTypeNames)('%s', (type) => {
  test('bytes of the definition', () => {
    for (const [matrix, x] of matrices) {
      for (const [weights, importance] of weightings) {
        const kernel = quantizer.quantize(type, { dtype: 'f32', bytes: bytesOf(x) }, cols, 0, rows, importance);
        const definition = quantizeGgml(type, x, rows, cols, importance);
        expect(firstDifference(type, kernel, definition), `${matrix}, importance ${weights}`).toBeUndefined();
      }
    }
  });

  test('bf16 and f16 sources, part of the rows, a number of blocks that fills no group', () => {
    const x = matrixCases(5, 768)['student t3'];
    const half = f32ToF16(x);
    const brain = f32ToBf16(x);
    const sources = [
      { dtype: 'f16', bytes: bytesOf(half), values: f16ToF32(half) },
      { dtype: 'bf16', bytes: bytesOf(brain), values: bf16ToF32(brain) },
      { dtype: 'f32', bytes: bytesOf(x), values: x },
    ] as const;
    for (const source of sources) {
      const kernel = quantizer.quantize(type, source, 768, 1, 3);
      const definition = new Uint8Array(kernel.length);
      encodeGgmlRows(type, source.values, 768, 1, 3, definition);
      expect(firstDifference(type, kernel, definition), source.dtype).toBeUndefined();
    }
  });
});

test('importance over rows longer than a run, from every source type, with rows that a kernel declines', () => {
  const [count, width] = [6, 2048 + 1280];
  const x = matrixCases(count, width)['student t3'];
  x.fill(1e20, 3 * width, 3 * width + 40);
  const importance = importanceCases(width)['with zeros'];
  const brain = f32ToBf16(x);
  const half = f32ToF16(x.map((v) => Math.min(v, 6e4)));
  const sources = [
    { dtype: 'f16', bytes: bytesOf(half), values: f16ToF32(half) },
    { dtype: 'bf16', bytes: bytesOf(brain), values: bf16ToF32(brain) },
    { dtype: 'f32', bytes: bytesOf(x), values: x },
  ] as const;
  for (const type of ggmlTypeNames) {
    for (const source of sources) {
      const kernel = quantizer.quantize(type, source, width, 1, 4, importance);
      const definition = new Uint8Array(kernel.length);
      encodeGgmlRows(type, source.values, width, 1, 4, definition, importance);
      expect(firstDifference(type, kernel, definition), `${type} from ${source.dtype}`).toBeUndefined();
    }
  }
});

test('every bf16 and every finite f16 value is widened exactly', () => {
  const codes = Uint16Array.from({ length: 65536 }, (_, i) => i);
  for (const dtype of ['bf16', 'f16'] as const) {
    const finite = dtype === 'bf16' ? 0x7f80 : 0x7c00;
    const kept = codes.filter((c) => (c & 0x7fff) < finite);
    const padded = new Uint16Array(Math.ceil(kept.length / 32) * 32);
    padded.set(kept);
    const values = dtype === 'bf16' ? bf16ToF32(padded) : f16ToF32(padded);
    for (const type of ['q4_0', 'q8_0', 'ggml-mxfp4'] as const) {
      const kernel = quantizer.quantize(type, { dtype, bytes: bytesOf(padded) }, padded.length, 0, 1);
      expect(firstDifference(type, kernel, quantizeGgml(type, values, 1, padded.length)), type).toBeUndefined();
    }
  }
});

test('lengths that do not fit', () => {
  const bytes = new Uint8Array(1024);
  expect(() => quantizer.quantize('q4_0', { dtype: 'f32', bytes }, 100, 0, 1)).toThrow(/multiple of 32/);
  expect(() => quantizer.quantize('q4_0', { dtype: 'f32', bytes }, 256, 0, 2)).toThrow(/number of bytes/);
  expect(() => quantizer.quantize('q4_0', { dtype: 'f32', bytes }, 256, -1, 1)).toThrow(/row range/);
  expect(() => quantizer.quantize('q4_0', { dtype: 'f32', bytes }, 256, 0, 1, new Float32Array(3))).toThrow(/weights/);
});
