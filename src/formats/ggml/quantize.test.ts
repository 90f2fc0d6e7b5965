import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SubbyteError } from '../../errors.ts';
import { decodeGgmlRows, dequantizeGgml, encodeGgmlRows, quantizeGgml } from './quantize.ts';
import { ggmlRowBytes, ggmlType, ggmlTypeById, ggmlTypeNames, ggmlTypes } from './types.ts';

const typeName = fc.constantFrom(...ggmlTypeNames);

describe('types', () => {
  test('ids and names are unique and found again', () => {
    expect(new Set(ggmlTypes.map((t) => t.id)).size).toBe(ggmlTypes.length);
    for (const entry of ggmlTypes) expect(ggmlTypeById(entry.id)).toBe(entry);
    for (const removed of [4, 5, 31, 32, 33, 36, 37, 38, 99]) expect(ggmlTypeById(removed)).toBeUndefined();
  });

  test('effective bits of a few types', () => {
    const bits = (name: (typeof ggmlTypeNames)[number]) => (8 * ggmlType(name).bytes) / ggmlType(name).block;
    expect([bits('q4_0'), bits('q4_k'), bits('q6_k'), bits('tq1_0'), bits('ggml-nvfp4')]).toEqual([
      4.5, 4.5, 6.5625, 1.6875, 4.5,
    ]);
  });
});

describe('hostile lengths end in one sentence, never in a wrong result', () => {
  test('columns', () => {
    fc.assert(
      fc.property(typeName, fc.oneof(fc.integer(), fc.double()), (type, cols) => {
        const { block } = ggmlType(type);
        if (Number.isSafeInteger(cols) && cols > 0 && cols % block === 0) {
          expect(ggmlRowBytes(type, cols) % ggmlType(type).bytes).toBe(0);
        } else {
          expect(() => ggmlRowBytes(type, cols)).toThrow(SubbyteError);
        }
      }),
    );
  });

  test('buffers that do not fit', () => {
    const small = fc.integer({ min: 0, max: 700 });
    fc.assert(
      fc.property(typeName, small, small, fc.integer({ min: -1, max: 3 }), (type, length, cols, rows) => {
        const fits = cols > 0 && cols % ggmlType(type).block === 0 && rows >= 0 && length === rows * cols;
        const encode = () => quantizeGgml(type, new Float32Array(length), rows, cols);
        if (fits) expect(encode().length).toBe(rows * ggmlRowBytes(type, cols));
        else expect(encode).toThrow(SubbyteError);
        const decode = () => dequantizeGgml(type, new Uint8Array(length), rows, cols);
        const { block } = ggmlType(type);
        const wanted = cols > 0 && cols % block === 0 && rows >= 0 ? rows * ggmlRowBytes(type, cols) : -1;
        if (wanted === length) expect(decode().length).toBe(rows * cols);
        else expect(decode).toThrow(SubbyteError);
      }),
    );
  });

  test('row ranges outside the matrix, short outputs, wrong importance', () => {
    const x = new Float32Array(512);
    expect(() => encodeGgmlRows('q4_0', x, 256, 1, 2, new Uint8Array(999))).toThrow(/does not fit/);
    expect(() => encodeGgmlRows('q4_0', x, 256, 0, 2, new Uint8Array(287))).toThrow(/output/);
    expect(() => encodeGgmlRows('q4_0', x, 256, 0, 1.5, new Uint8Array(999))).toThrow(/rows/);
    expect(() => quantizeGgml('q4_k', x, 2, 256, new Float32Array(512))).toThrow(/importance/);
    expect(() => decodeGgmlRows('q4_0', new Uint8Array(288), 256, -1, 1, x)).toThrow(/rows/);
    expect(() => decodeGgmlRows('q4_0', new Uint8Array(288), 256, 0, 2, new Float32Array(511))).toThrow(/output/);
    expect(() => quantizeGgml('q9_9' as 'q4_0', x, 1, 512)).toThrow(/q4_0, q4_1/);
  });
});

test('a row range gives the bytes of those rows', () => {
  const rows = 5;
  const cols = 256;
  const x = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * 0.7) * (1 + (i % 5)));
  for (const type of ggmlTypeNames) {
    const whole = quantizeGgml(type, x, rows, cols);
    const rowBytes = ggmlRowBytes(type, cols);
    const part = new Uint8Array(2 * rowBytes);
    encodeGgmlRows(type, x, cols, 2, 2, part);
    expect(part).toEqual(whole.slice(2 * rowBytes, 4 * rowBytes));
    const values = new Float32Array(2 * cols);
    decodeGgmlRows(type, whole, cols, 2, 2, values);
    expect(values).toEqual(dequantizeGgml(type, whole, rows, cols).slice(2 * cols, 4 * cols));
  }
});
