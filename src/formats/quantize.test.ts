import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SubbyteError } from '../errors.ts';
import { type Quantized, type QuantSpec, quantizedBytes } from './format.ts';
import { packCodes, packedRowBytes, unpackRows } from './packing.ts';
import { dequantize, dequantizeRows, quantize } from './quantize.ts';
import { effectiveBits, formatBytes, listFormats, parseFormat } from './registry.ts';

const blockOf = (name: string) => (/_k|_xs|tq/.test(name) ? 256 : 128);
const names = listFormats().map((f) => f.name);

/** Heavy-tailed finite values with zeros, as weights have them. */
const values = (n: number) =>
  fc
    .array(fc.tuple(fc.double({ min: -1, max: 1, noNaN: true }), fc.integer({ min: -12, max: 6 })), {
      minLength: n,
      maxLength: n,
    })
    .map((pairs) => Float32Array.from(pairs, ([m, e]) => m * 2 ** e));

describe('every listed format', () => {
  test.each(names)('%s: bytes as announced, rows decode alone, zeros stay zeros', (name) => {
    const format = parseFormat(name);
    const cols = blockOf(name);
    const x = Float32Array.from({ length: 3 * cols }, (_, i) => Math.sin(i * 0.7) * (1 + (i % 7)));
    const q = quantize(x, 3, cols, format);
    expect(quantizedBytes(q)).toBe(formatBytes(format, 3, cols));
    expect(effectiveBits(format, 3, cols)).toBe((8 * quantizedBytes(q)) / (3 * cols));
    const all = dequantize(q);
    expect(all.every(Number.isFinite)).toBe(true);
    expect(dequantizeRows(q, 1, 2, new Float32Array(2 * cols))).toEqual(all.slice(cols));
    const zeros = dequantize(quantize(new Float32Array(3 * cols), 3, cols, format));
    expect(zeros.every((v) => v === 0)).toBe(true);
  });
});

const powerInvariant = ['mxfp4', 'mxfp6-e3m2-even', 'mxfp8-e4m3-rceil', 'mxint8', 'int4-g32-f32s', 'int8-channel-f32s'];

describe('properties', () => {
  test.each(powerInvariant)('%s: scaling the input by 2^k scales the values by 2^k', (name) => {
    fc.assert(
      fc.property(values(64), fc.integer({ min: -20, max: 20 }), (any, k) => {
        // multiplying by a power of two is exact among normal numbers only
        const x = any.map((v) => (Math.abs(v) < 2 ** -60 ? 0 : v));
        const plain = dequantize(quantize(x, 1, 64, parseFormat(name)));
        const scaled = dequantize(
          quantize(
            x.map((v) => v * 2 ** k),
            1,
            64,
            parseFormat(name),
          ),
        );
        expect(scaled).toEqual(plain.map((v) => v * 2 ** k));
      }),
      { numRuns: 50 },
    );
  });

  test.each(['int4-g32', 'int8-channel', 'mxfp4', 'mxint8', 'mxfp8-e5m2', 'nf4-g64'])(
    '%s: quantizing the quantized values changes nothing',
    (name) => {
      fc.assert(
        fc.property(values(64), (x) => {
          // a scale that is subnormal in f16 is so coarse that the largest code may be below 127
          fc.pre(x.some((v) => Math.abs(v) >= 127 * 2 ** -14) || x.every((v) => v === 0));
          const once = dequantize(quantize(x, 1, 64, parseFormat(name)));
          expect(dequantize(quantize(once, 1, 64, parseFormat(name)))).toEqual(once);
        }),
        { numRuns: 50 },
      );
    },
  );

  test.each(['int4-g32', 'int4-g32-asym', 'mxfp4-ceil', 'nvfp4', 'fp8-e4m3-channel', 'nf4-g64'])(
    '%s: order is kept within a block',
    (name) => {
      const size = name === 'nvfp4' ? 16 : name === 'nf4-g64' ? 64 : 32;
      fc.assert(
        fc.property(values(size), (x) => {
          const y = dequantize(quantize(x, 1, size, parseFormat(name)));
          const order = [...x.keys()].sort((a, b) => x[a]! - x[b]!);
          for (let i = 1; i < size; i++) expect(y[order[i]!]!).toBeGreaterThanOrEqual(y[order[i - 1]!]!);
        }),
        { numRuns: 50 },
      );
    },
  );

  test.each([
    ['int8-g32-f32s', 127],
    ['int4-g32-f32s', 7],
    ['int2-g32-f32s', 1],
    ['int4-g32-half-f32s', 7.5],
  ])('%s: the error is at most half a step', (name, max) => {
    fc.assert(
      fc.property(values(32), (x) => {
        const y = dequantize(quantize(x, 1, 32, parseFormat(name as string)));
        const step = x.reduce((a, v) => Math.max(a, Math.abs(v)), 0) / (max as number);
        // plus the float32 rounding of scale and value, each 2^-24 of at most max steps; 1e-44 for subnormal scales
        const bound = step * (0.5 + (max as number) * 2 ** -23) * (1 + 2 ** -23) + 1e-44 * (max as number);
        for (let i = 0; i < 32; i++) expect(Math.abs(x[i]! - y[i]!)).toBeLessThanOrEqual(bound);
      }),
      { numRuns: 50 },
    );
  });

  test('every code is the nearest one: brute force over all 16 values of 4-bit formats', () => {
    fc.assert(
      fc.property(
        values(32),
        fc.constantFrom('mxfp4', 'int4-g32', 'nvfp4-onelevel', 'fp4-e1m2-g32-f16s'),
        (x, name) => {
          const format = parseFormat(name) as QuantSpec;
          const q = quantize(x, 1, 32, format);
          const y = dequantize(q);
          // values reachable with the scale of each block, by decoding a row of all codes
          for (let i = 0; i < 32; i++) {
            for (let code = 0; code < 16; code++) {
              if (name === 'int4-g32' && code === 8) continue;
              const row = unpackRows(q.codes, 32, 4, 0, 1);
              row[i] = code;
              const other = dequantize({ ...q, codes: packCodes(row, 1, 32, 4) })[i]!;
              expect(Math.abs(x[i]! - y[i]!)).toBeLessThanOrEqual(Math.abs(x[i]! - other));
            }
          }
        },
      ),
      { numRuns: 10 },
    );
  });

  test('a search is never worse than the rule that it starts from', () => {
    fc.assert(
      fc.property(
        values(64),
        fc.constantFrom(['int4-g32', 'int4-g32-mse'], ['mxfp4', 'mxfp4-mse'], ['int3-g32-asym', 'int3-g32-asym-mse']),
        (x, [plain, searched]) => {
          const error = (name: string) =>
            dequantize(quantize(x, 1, 64, parseFormat(name))).reduce((s, y, i) => s + (x[i]! - y) ** 2, 0);
          expect(error(searched!)).toBeLessThanOrEqual(error(plain!));
        },
      ),
      { numRuns: 50 },
    );
  });

  test('packing any width and back', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 40 }),
        fc.infiniteStream(fc.nat()),
        (bits, cols, s) => {
          const codes = Uint8Array.from({ length: 3 * cols }, () => s.next().value! & (2 ** bits - 1));
          const packed = packCodes(codes, 3, cols, bits);
          expect(packed.length).toBe(3 * packedRowBytes(bits, cols));
          expect(unpackRows(packed, cols, bits, 0, 3)).toEqual(codes);
          expect(unpackRows(packed, cols, bits, 2, 1)).toEqual(codes.slice(2 * cols));
        },
      ),
    );
    // the six-bit order of ONNX
    expect([...packCodes(Uint8Array.of(1, 2, 3, 4), 1, 4, 6)]).toEqual([
      1 | ((2 << 6) & 255),
      (2 >> 2) | (3 << 4),
      4 << 2,
    ]);
  });
});

describe('stochastic rounding', () => {
  const bits = 2 ** 16;
  test('draws go up with the right probability: chi-square over 32 positions between neighbours', () => {
    // 448 pins the scale of every group to 1; the second value lies k/32 of the way from 4 to 6
    const groups = bits / 32;
    let chi = 0;
    for (let k = 1; k < 32; k++) {
      const x = new Float32Array(bits).fill(4 + k / 16);
      for (let g = 0; g < groups; g++) x[32 * g] = 6;
      const y = dequantize(quantize(x, 1, bits, parseFormat('mxfp4-sr'), { seed: k, stream: 9 }));
      let up = -groups;
      for (const v of y) if (v === 6) up++;
      const n = bits - groups;
      const p = k / 32;
      chi += (up - n * p) ** 2 / (n * p * (1 - p));
    }
    // 31 degrees of freedom: P(chi > 87) < 1e-6
    expect(chi).toBeLessThan(87);
    expect(chi).toBeGreaterThan(8);
  });

  test('the same seed gives the same codes, in pieces too; another stream gives others', () => {
    const x = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i));
    const format = parseFormat('int4-g32-sr');
    const whole = quantize(x, 8, 64, format, { seed: 3, stream: 1 });
    expect(quantize(x, 8, 64, format, { seed: 3, stream: 1 }).codes).toEqual(whole.codes);
    const half = quantize(x.subarray(256), 4, 64, format, { seed: 3, stream: 1, firstElement: 256 });
    expect(half.codes).toEqual(whole.codes.slice(128));
    expect(quantize(x, 8, 64, format, { seed: 3, stream: 2 }).codes).not.toEqual(whole.codes);
  });

  test('representable values never move', () => {
    const x = Float32Array.from(
      { length: 32 },
      (_, i) => [0, 0.5, 1, 1.5, 2, 3, 4, 6][i % 8]! * (i % 3 === 0 ? -1 : 1),
    );
    expect(dequantize(quantize(x, 1, 32, parseFormat('mxfp4-sr'), { seed: 1 }))).toEqual(x);
  });
});

describe('conventions', () => {
  const one = (x: number[], name: string): Quantized => quantize(Float32Array.from(x), 1, x.length, parseFormat(name));

  test('zero points: the range includes zero, and a constant group is exact', () => {
    const q = one([3, 3, 3, 3], 'int4-g4-asym');
    expect([...q.zeroPoints!]).toEqual([0]);
    expect([...dequantize(one([3, 3, 3, 3], 'int4-g4-asymf'))]).toEqual([3, 3, 3, 3]);
    expect([...one([-15, 0, 0, 0], 'int4-g4-asym').zeroPoints!]).toEqual([15]);
  });

  test('signed maximum: the first value of largest magnitude maps to −8 exactly', () => {
    const q = one([8, -8, 4, 0], 'int4-g4-signed');
    expect([...unpackRows(q.codes, 4, 4, 0, 1)]).toEqual([8, 7, 12, 0]);
    expect([...dequantize(q)]).toEqual([8, -7, 4, -0]);
  });

  test('partial tiles use their own values only', () => {
    const x = new Float32Array(3 * 5).fill(1);
    x[14] = 448;
    const q = quantize(x, 3, 5, parseFormat('fp8-e4m3-tile2x4'));
    expect([...new Float32Array(q.scales.buffer)]).toEqual([1 / 448, 1 / 448, 1 / 448, 1].map(Math.fround));
  });

  test('tiny blocks keep a positive scale', () => {
    const q = one([1e-10, -2e-10, 0, 0], 'int8-g4');
    expect(q.scales[0]).toBe(1);
    expect(dequantize(q).every((v) => v === 0)).toBe(true);
  });

  test('log2: powers of two, negatives and the tail are zero', () => {
    const y = dequantize(one([1, 0.5, 0.26, 2 ** -20, -1, 0.7072, 0.7071, 0], 'log2-4-tensor'));
    expect([...y]).toEqual([1, 0.5, 0.25, 0, 0, 1, 0.5, 0]);
  });

  test('ternary: scale is the mean magnitude', () => {
    const q = one([1, -1, 0.1, 0], 'ternary-tensor');
    expect(new Float32Array(q.scales.buffer)[0]).toBeCloseTo(0.525, 6);
    expect([...unpackRows(q.codes, 4, 2, 0, 1)]).toEqual([2, 0, 1, 1]);
  });
});

describe('bad input', () => {
  const message = (run: () => unknown): string => {
    try {
      run();
    } catch (e) {
      if (e instanceof SubbyteError) return `${e.exitCode} ${e.message}`;
      throw e;
    }
    return 'no error';
  };

  test.each([Number.NaN, Infinity, -Infinity])('%d names its position and the tensor', (bad) => {
    const x = new Float32Array(64);
    x[40] = bad;
    const text = message(() => quantize(x, 2, 32, parseFormat('mxfp4'), { tensor: 'layers.0.up_proj' }));
    expect(text).toContain('2 quantize: the value at row 1, column 8 is not finite');
    expect(text).toContain('layers.0.up_proj');
    const y = dequantize(quantize(x, 2, 32, parseFormat('f32')));
    expect(y[40]).toBe(bad);
    const clamped = dequantize(quantize(x, 2, 32, parseFormat('fp8-e4m3-channel'), { nonFinite: 'clamp' }));
    expect(clamped.every(Number.isFinite)).toBe(true);
  });

  test('a group that does not divide K says what would', () => {
    expect(message(() => quantize(new Float32Array(96), 1, 96, parseFormat('int4-g64')))).toBe(
      '1 quantize: the group size does not divide the reduction dimension K, got K = 96 with groups of 64; ' +
        'use a group of 8 or 16 or 32, or leave this tensor out',
    );
  });
});
