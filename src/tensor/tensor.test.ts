import { describe, expect, it } from 'vitest';
import { quantize } from '../formats/quantize.ts';
import { formatBytes, parseFormat } from '../formats/registry.ts';
import { elementCount, printShape, sameShape } from './shape.ts';
import { qtensor, tensorBytes, tensorF32, tensorI32 } from './tensor.ts';

describe('shape', () => {
  it('counts elements; a scalar has one', () => {
    expect(elementCount([])).toBe(1);
    expect(elementCount([2, 3, 5])).toBe(30);
    expect(elementCount([4, 0])).toBe(0);
  });

  it('compares and prints', () => {
    expect(sameShape([2, 3], [2, 3])).toBe(true);
    expect(sameShape([2, 3], [3, 2])).toBe(false);
    expect(sameShape([2], [2, 1])).toBe(false);
    expect(printShape([2, 3])).toBe('[2, 3]');
  });
});

describe('tensor', () => {
  it('checks that data and shape agree', () => {
    expect(() => tensorF32([2, 2], new Float32Array(3))).toThrow('tensorF32: 3 values for shape [2, 2]');
    expect(() => tensorI32([2], new Int32Array(3))).toThrow('tensorI32: 3 values for shape [2]');
    const q = quantize(new Float32Array(64), 2, 32, parseFormat('mxfp4'));
    expect(() => qtensor([3, 32], q)).toThrow('qtensor: 2×32 quantized values for shape [3, 32]');
  });

  it('counts bytes of storage', () => {
    expect(tensorBytes(tensorF32([3], new Float32Array(3)))).toBe(12);
    for (const name of ['mxfp4', 'nvfp4', 'int4-g32-asym', 'q4_0', 'bf16', 'int8-channel']) {
      const format = parseFormat(name);
      const q = qtensor([2, 2, 32], quantize(new Float32Array(128), 4, 32, format));
      expect(tensorBytes(q), name).toBe(formatBytes(format, 4, 32));
    }
    const mxfp4 = qtensor([4, 32], quantize(new Float32Array(128), 4, 32, parseFormat('mxfp4')));
    expect(tensorBytes(mxfp4)).toBe(4 * (16 + 1));
  });
});
