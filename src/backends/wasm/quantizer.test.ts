// The kernels against the reference codec, byte for byte, on one thread and on two.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bf16ToF32, f32ToBf16, f32ToF16 } from '../../formats/bits.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { uniformSource } from '../../formats/random.ts';
import { parseFormat } from '../../formats/registry.ts';
import { qtensor, tensorF32 } from '../../tensor/tensor.ts';
import { createWasmQuantizer, type StoredMatrix, storedMatrix, type WasmQuantizer } from './quantizer.ts';
import { hasQuantizeKernel } from './quantizer-plan.ts';

const cols = 256;
const rows = 37;
const u = uniformSource(2026, 1);
let drawn = 0;
const uniform = () => u.at(drawn++);
const gaussian = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

// one kind of row after another: Gaussian, heavy-tailed, grid points and ties, tiny, huge, constant, zeros, one-sided
function value(row: number, c: number): number {
  switch (row % 12) {
    case 0:
      return gaussian() * 0.02;
    case 1:
      return gaussian() ** 5;
    case 2:
      return Math.floor(uniform() * 65 - 32) / 8;
    case 3:
      return gaussian() * 2 ** -130;
    case 4:
      return gaussian() * 2 ** 120;
    case 5:
      return row % 24 === 5 ? 0.3 : -0.3;
    case 6:
      return c % 3 === 0 ? -0 : 0;
    case 7:
      return Math.abs(gaussian()) + 3;
    case 8:
      return -Math.abs(gaussian()) - 1e-3;
    case 9:
      return c === 100 ? 1000 : gaussian() * 1e-6;
    case 10:
      return c % 2 === 0 ? 6 - 2 ** -20 * (c % 5) : gaussian();
    default:
      return c % 16 === 0 ? 127.5 : Math.floor(uniform() * 255) / 2;
  }
}

const f32 = Float32Array.from({ length: rows * cols }, (_, i) => value(Math.floor(i / cols), i % cols));

function stored(values: Float32Array, dtype: StoredMatrix['dtype'], r = rows, c = cols): [StoredMatrix, Float32Array] {
  if (dtype === 'f32') return [{ bytes: new Uint8Array(values.buffer), dtype, rows: r, cols: c }, values];
  const finite = dtype === 'f16' ? values.map((x) => Math.min(Math.max(x, -60000), 60000)) : values;
  const words = dtype === 'f16' ? f32ToF16(finite) : f32ToBf16(finite);
  const bytes = new Uint8Array(words.buffer);
  const format = parseFormat(dtype);
  const q = {
    format,
    rows: r,
    cols: c,
    codes: bytes,
    scales: new Uint8Array(0),
    zeroPoints: undefined,
    tensorScale: 1,
  };
  return [{ bytes, dtype, rows: r, cols: c }, dequantize(q)];
}

const inputs = (['f32', 'bf16', 'f16'] as const).map((dtype) => stored(f32, dtype));

const names = [
  ...['int4', 'int8', 'int3', 'int6', 'int2'].flatMap((e) =>
    [
      'channel',
      'token',
      'g32',
      'g128',
      'g128-asym',
      'g64-asymf',
      'channel-asym',
      'g32-half',
      'g32-f32s',
      'g16-bf16s',
    ].map((g) => `${e}-${g}`),
  ),
  ...[
    'int8-tensor',
    'int4-g64-asym-f32s',
    'int4-g64-asymf-bf16s',
    'int4-tile16x32',
    'int4-g32-clip0.8',
    'int8-asym-clip0.9',
    'int8-g32-clip0.9-f32s',
    'int8-g32-asymf-clip0.7-f32s',
    'nvfp4-onelevel-clip0.85',
  ],
  ...['mxfp4', 'mxfp6-e2m3', 'mxfp6-e3m2', 'mxfp8-e4m3', 'mxfp8-e5m2', 'mxint8', 'mxint4'].flatMap((e) =>
    ['', '-ceil', '-even', '-rceil', '-g16'].map((r) => e + r),
  ),
  ...['nvfp4', 'nvfp4-onelevel', 'nvfp4-2d', 'nvfp4-ue5m3', 'nvint4'],
  ...['e4m3', 'e5m2', 'e3m4'].flatMap((e) =>
    ['tensor', 'channel', 'token', 'tile128x128', 'tile1x128', 'tile16x32', 'g64-f16s'].map((g) => `fp8-${e}-${g}`),
  ),
  ...['fp4-e1m2-g32-f16s', 'fp8-e4m3ieee-channel'],
  ...['int4', 'int2'].flatMap((e) =>
    ['g128', 'channel', 'g16', 'g64-asym', 'g32-asymf', 'channel-asym', 'g32-half', 'g32-f32s', 'g32-asym-clip0.9'].map(
      (g) => `${e}-${g}-mse`,
    ),
  ),
  ...['mxfp4', 'mxfp6-e2m3', 'mxfp6-e3m2', 'mxfp8-e4m3', 'mxfp8-e5m2', 'mxint8', 'mxint4', 'mxfp4-g16'].map(
    (e) => `${e}-mse`,
  ),
  ...[
    'nvfp4',
    'nvfp4-onelevel',
    'nvfp4-ue5m3',
    'nvint4',
    'fp8-e4m3-channel',
    'fp8-e5m2-g64-bf16s',
    'fp4-e2m1-g64-f16s',
  ].map((e) => `${e}-mse`),
  ...['int8-g128-mse', 'int8-channel-asym-mse', 'int3-g64-asymf-mse', 'int6-g32-half-mse'],
  'fp8-e4m3-tile1x48-mse',
  ...['nvfp4-46', 'nvfp4-46-mae', 'nvfp4-46-absmax', 'nvfp4-46-g32'],
];

describe.each([1, 2])('%d threads', (threads) => {
  let quantizer: WasmQuantizer;
  beforeAll(async () => {
    quantizer = await createWasmQuantizer({ threads });
  });
  afterAll(() => quantizer.dispose());

  test.each(threads === 2 ? names : names.filter((_, i) => i % 6 === 0))('%s: bytes of the reference', (name) => {
    const format = parseFormat(name);
    expect(hasQuantizeKernel(format, cols)).toBe(true);
    for (const [matrix, values] of inputs) {
      const ours = quantizer.quantize(matrix, format);
      const theirs = quantize(values, rows, cols, format);
      expect(ours.tensorScale).toBe(theirs.tensorScale);
      for (const part of ['scales', 'zeroPoints', 'codes'] as const) {
        const different = theirs[part]?.findIndex((b, i) => b !== ours[part]![i]);
        expect([matrix.dtype, part, different, ours[part]?.length]).toEqual([
          matrix.dtype,
          part,
          theirs[part] && -1,
          theirs[part]?.length,
        ]);
      }
    }
  });
});

// whole tensors of one kind, since the tensor scale follows from the largest value of all
const tensors: Record<string, (i: number) => number> = {
  Gaussian: () => gaussian() * 0.02,
  'heavy-tailed': () => gaussian() ** 7,
  'zero blocks': (i) => (Math.floor(i / 16) % 3 === 0 ? (i % 2 === 0 ? 0 : -0) : gaussian()),
  zero: (i) => (i % 5 === 0 ? -0 : 0),
  'tiny blocks': (i) => gaussian() * 2 ** -((Math.floor(i / 16) * 7) % 40),
  tiny: () => gaussian() * 2 ** -126,
  subnormal: (i) => (i % 31 === 0 ? -(2 ** -149) : gaussian() * 2 ** -146),
  huge: () => gaussian() * 2 ** 124,
  'huge and tiny': (i) => (i === 999 ? 3.3e38 : gaussian() * 2 ** (-(Math.floor(i / 16) % 200) + 50)),
  // tensor scale 1 and blocks of maximum 6 · 2^k: every quotient is a code or a midpoint, or one place beside it
  midpoints: (i) => {
    if (i === 0) return 2688;
    const halves = i % 16 === 0 ? 24 : Math.floor(uniform() * 49) - 24;
    const beside = 1 + (Math.floor(uniform() * 3) - 1) * 2 ** -23;
    return (halves / 4) * beside * 2 ** (Math.floor(i / 16) % 9);
  },
  // quotients by the block's own scale: x = midpoint · s · g, rounded to float32
  'near midpoints': (i) => (i % 16 === 0 ? 6 : Math.floor(uniform() * 25) / 4) * (1 + (Math.floor(i / 16) % 61) / 61),
};

describe.each(['nvfp4', 'nvfp4-ct', 'nvfp4-transformerengine', 'nvfp4-modelopt', 'nvfp4-2d-ct'])(
  '%s of whole tensors',
  (name) => {
    let quantizer: WasmQuantizer;
    beforeAll(async () => {
      quantizer = await createWasmQuantizer({ threads: 1 });
    });
    afterAll(() => quantizer.dispose());

    test.each(Object.keys(tensors))('%s: bytes of the reference', (kind) => {
      const format = parseFormat(name);
      const source = Float32Array.from({ length: rows * cols }, (_, i) => tensors[kind]!(i));
      for (const dtype of ['f32', 'bf16'] as const) {
        const [matrix, values] = stored(source, dtype);
        const ours = quantizer.quantize(matrix, format);
        const theirs = quantize(values, rows, cols, format);
        expect(ours.tensorScale).toBe(theirs.tensorScale);
        expect(ours.scales).toEqual(theirs.scales);
        expect(ours.codes).toEqual(theirs.codes);
      }
    });
  },
);

test.each(['nvfp4', 'nvfp4-ct', 'nvfp4-transformerengine', 'nvfp4-2d-ct', 'mxfp4', 'int4-g32', 'fp4-e2m1-g32-f16s'])(
  '%s: bf16 values on and beside the thresholds of their blocks',
  async (name) => {
    const format = parseFormat(name);
    const first = f32ToBf16(Float32Array.from({ length: rows * cols }, () => gaussian()));
    const steps = dequantize(quantize(bf16ToF32(first), rows, cols, format));
    const values = bf16ToF32(first);
    const near = first.map((word, i) => {
      // a decoded value between two codes of its block, then 0 or 1 places away; the block's largest stays
      const between = f32ToBf16(Float32Array.of((steps[i]! + steps[i ^ 1]!) / 2))[0]!;
      const moved = between + Math.floor(uniform() * 3) - 1;
      return Math.abs(values[i]!) > 1 || (between & 0x7fff) < 2 ? word : moved;
    });
    const quantizer = await createWasmQuantizer({ threads: 1 });
    const bytes = new Uint8Array(near.buffer);
    const ours = quantizer.quantize({ bytes, dtype: 'bf16', rows, cols }, format);
    const theirs = quantize(bf16ToF32(near), rows, cols, format);
    quantizer.dispose();
    expect(ours.scales).toEqual(theirs.scales);
    expect(ours.codes).toEqual(theirs.codes);
  },
);

test('tensors as stored matrices: f32 and 16-bit floats, leading dimensions as rows', () => {
  const data = Float32Array.from({ length: 64 }, (_, i) => i);
  expect(storedMatrix(tensorF32([2, 2, 16], data))).toMatchObject({ dtype: 'f32', rows: 4, cols: 16 });
  const half = quantize(data, 4, 16, parseFormat('bf16'));
  expect(storedMatrix(qtensor([2, 2, 16], half))).toEqual({ bytes: half.codes, dtype: 'bf16', rows: 4, cols: 16 });
  expect(storedMatrix(qtensor([4, 16], quantize(data, 4, 16, parseFormat('int8'))))).toBeUndefined();
});

describe('limits', () => {
  let quantizer: WasmQuantizer;
  beforeAll(async () => {
    quantizer = await createWasmQuantizer({ threads: 1 });
  });
  afterAll(() => quantizer.dispose());

  test('a matrix of many strips', () => {
    const big = Float32Array.from({ length: 300 * 16384 }, (_, i) => Math.sin(i * i * 0.001));
    const [matrix, values] = stored(big, 'f32', 300, 16384);
    for (const name of ['int4-g128', 'fp8-e4m3-tile128x128']) {
      const format = parseFormat(name);
      const ours = quantizer.quantize(matrix, format);
      const piece = quantize(values.subarray(256 * 16384), 44, 16384, format);
      expect(ours.codes.subarray((256 * ours.codes.length) / 300)).toEqual(piece.codes);
      expect(ours.scales.subarray(ours.scales.length - piece.scales.length)).toEqual(piece.scales);
    }
  });

  test('four-over-six of tiny tensors and of blocks that round to zero', () => {
    const format = parseFormat('nvfp4-46');
    for (const size of [2 ** -110, 2 ** -140, 2 ** -99, 1]) {
      const x = Float32Array.from({ length: 256 }, (_, i) => size * (i < 16 ? 1 : 2 ** -20) * Math.sin(i * 1.7));
      const ours = quantizer.quantize(stored(x, 'f32', 2, 128)[0], format);
      expect(ours).toEqual(quantize(x, 2, 128, format));
    }
  });

  test.each(['mxfp4', 'fp8-e4m3-tensor', 'fp8-e4m3-tile128x128', 'int4-g64-asym'])(
    '%s: NaN and infinity are found',
    (name) => {
      for (const bad of [Number.NaN, -Infinity]) {
        for (const dtype of ['f32', 'bf16', 'f16'] as const) {
          const [matrix] = stored(f32, dtype);
          const copy = matrix.bytes.slice();
          const word = f32ToF16(Float32Array.of(bad))[0]!;
          if (dtype === 'f32') new Float32Array(copy.buffer)[20 * cols + 7] = bad;
          else
            new Uint16Array(copy.buffer)[20 * cols + 7] = dtype === 'f16' ? word : f32ToBf16(Float32Array.of(bad))[0]!;
          expect(() => quantizer.quantize({ ...matrix, bytes: copy }, parseFormat(name), 'w')).toThrow(
            `the value at row 20, column 7 is not finite, got ${bad}, expected finite numbers (tensor w)`,
          );
        }
      }
    },
  );

  test.each([
    'nf4-g64',
    'mxfp4-mae',
    'int4-tensor-mse',
    'nvfp4-2d-mse',
    'mxfp4-sr',
    'int4-g32-signed',
    'nvfp4-2d-46',
    'if4',
    'q4_0',
    'int4-g8',
    'hif4',
    'f16',
  ])('%s has no kernel and says so', (name) => {
    const [matrix] = inputs[0]!;
    expect(() => quantizer.quantize(matrix, parseFormat(name))).toThrow('no WASM kernel encodes');
  });
});
