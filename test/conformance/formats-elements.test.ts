// Element formats against ml_dtypes 0.6.0 (codes, values, exhaustive hashes) and torch 2.13 (saturating E4M3).
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { bf16Bits, bf16Value, f16Bits, f16Value, f32Bits, f32FromBits } from '../../src/formats/bits.ts';
import type { MinifloatElement, Rounding } from '../../src/formats/format.ts';
import { decodeMinifloat, encodeMinifloat } from '../../src/formats/minifloat.ts';
import { dequantize, quantize } from '../../src/formats/quantize.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { e8m0Value, encodeNearestE8m0 } from '../../src/formats/scale-format.ts';
import { minifloats } from '../../src/formats/table.ts';
import { hash, hex, sha256, streamX, streamY } from './streams.ts';

interface Vectors {
  x_bits: number[];
  formats: Record<string, { codes: number[]; values?: (number | string | null)[] }>;
  mx_input_bits: number[];
  mx_shape: [number, number];
  mx: Record<string, number[]>;
}
const vectors: Vectors = JSON.parse(
  gunzipSync(readFileSync(new URL('ml-dtypes-and-mx.json.gz', import.meta.url))).toString(),
);

const names: Record<string, MinifloatElement> = {
  float4_e2m1fn: 'e2m1',
  float6_e2m3fn: 'e2m3',
  float6_e3m2fn: 'e3m2',
  float8_e3m4: 'e3m4',
  float8_e4m3: 'e4m3ieee',
  float8_e4m3b11fnuz: 'e4m3b11fnuz',
  float8_e4m3fn: 'e4m3',
  float8_e4m3fnuz: 'e4m3fnuz',
  float8_e5m2: 'e5m2',
  float8_e5m2fnuz: 'e5m2fnuz',
};

/** ml_dtypes' cast of a float32 given as bits, so that the sign of a NaN is kept. */
const cast = (element: MinifloatElement, bits: number) =>
  encodeMinifloat(minifloats[element], f32FromBits(bits), 'nonsaturating', 'nearest-even', 0, bits >>> 31 === 1);

describe('ml_dtypes vectors', () => {
  test.each(Object.entries(names))('%s: every code of 4068 inputs', (name, element) => {
    const wrong = vectors.x_bits.filter((bits, i) => cast(element, bits) !== vectors.formats[name]!.codes[i]);
    expect(wrong).toEqual([]);
  });

  test.each(Object.entries(names))('%s: the value of every code', (name, element) => {
    const p = minifloats[element];
    const values = vectors.formats[name]!.values!.slice(0, 2 ** p.bits);
    for (const [code, value] of values.entries()) {
      const ours = decodeMinifloat(p, code);
      expect(ours).toBe(
        value === null ? Number.NaN : value === 'inf' ? Infinity : value === '-inf' ? -Infinity : value,
      );
    }
  });

  test('bfloat16: every code', () => {
    const isNan = (bits: number) => (bits & 0x7fffffff) > 0x7f800000;
    const wrong = vectors.x_bits.filter(
      (bits, i) => !isNan(bits) && bf16Bits(f32FromBits(bits)) !== vectors.formats.bfloat16!.codes[i],
    );
    expect(wrong).toEqual([]);
  });

  test('E8M0: every code and value', () => {
    const { codes, values } = vectors.formats.float8_e8m0fnu!;
    const wrong = vectors.x_bits.filter((bits, i) => encodeNearestE8m0(f32FromBits(bits)) !== codes[i]);
    expect(wrong).toEqual([]);
    for (const [code, value] of values!.entries()) expect(e8m0Value(code)).toBe(value ?? Number.NaN);
  });
});

describe('microxcaling', () => {
  const [rows, cols] = vectors.mx_shape;
  const input = new Float32Array(Uint32Array.from(vectors.mx_input_bits).buffer);
  const elements: Record<string, string> = {
    fp4_e2m1: 'mxfp4',
    fp6_e2m3: 'mxfp6-e2m3',
    fp6_e3m2: 'mxfp6-e3m2',
    fp8_e4m3: 'mxfp8-e4m3',
    fp8_e5m2: 'mxfp8-e5m2',
    int8: 'mxint8',
    int4: 'mxint4',
  };
  test.each(Object.keys(vectors.mx))('%s: every dequantized value', (key) => {
    const [element, rounding] = key.split('/') as [string, string];
    const q = quantize(input, rows, cols, parseFormat(elements[element]! + (rounding === 'nearest' ? '-away' : '')));
    const ours = dequantize(q);
    const theirs = new Float32Array(Uint32Array.from(vectors.mx[key]!).buffer);
    const wrong: string[] = [];
    // their zeros have no reliable sign
    for (let i = 0; i < ours.length; i++) if (ours[i] !== theirs[i]) wrong.push(`${i}: ${ours[i]} ${theirs[i]}`);
    expect(wrong).toEqual([]);
  });
});

describe('all 65536 16-bit inputs, ml_dtypes hashes', () => {
  const bf16Input = (word: number) => (word << 16) >>> 0;
  const f16Input = (word: number) => {
    const value = f16Value(word);
    // a JS number loses the sign of a NaN
    return Number.isNaN(value) ? (((word & 0x8000) << 16) | 0x7fc00000) >>> 0 : f32Bits(value);
  };
  test.each([
    ['e4m3', bf16Input, 'ecbb201b2182a3e8e84f521d57c51ff379e8e5ec61141119005be7d672db0d98'],
    ['e5m2', bf16Input, '090ec74f2f7cc325aefd5b24d8a7db182ffbf980e5b9178e583b42669f409a76'],
    ['e4m3fnuz', bf16Input, 'b5a02ccdb033ad9271d82bfc03ae5dbfd2d1eb881ac6e35a81be5b08cb0bd97d'],
    ['e5m2fnuz', bf16Input, 'fbc7c46b2110bf77ea64283fb71a081f5612b13a074321a544c4332c91709f43'],
    ['e2m1', bf16Input, 'e6c3b75330483770fdfc694be5b28fbe504cefa84954b599b89f39aa6d146d11'],
    ['e2m1', f16Input, 'ea005962482517711362bd72613887eb027b5684fcb14226e97c21717a5b5f5b'],
    ['e2m3', bf16Input, 'd63e159adac8ff0f6bd4fd9e4c8a365994d3f6d21c1571c47d6d5136db6c134a'],
    ['e3m2', bf16Input, '6d3180d36297ebbd887b0bcfe07e7d8291da6d71c985b22314485a01166a1d70'],
  ] as const)('%s', (element, input, expected) => {
    expect(sha256(Uint8Array.from({ length: 65536 }, (_, word) => cast(element, input(word))))).toBe(expected);
  });

  test.each([
    [bf16Input, '343796de6d9808b459d121b22e35694eb4a0a861ffd8da045fc2ac6506cd9ee7'],
    [f16Input, '512cf5ae1719419904c0513e7732929627fd53b44eb6225b8215e09d51f49c46'],
  ] as const)('E8M0 %#', (input, expected) => {
    const codes = Uint8Array.from({ length: 65536 }, (_, word) => encodeNearestE8m0(f32FromBits(input(word))));
    expect(sha256(codes)).toBe(expected);
  });

  test('bf16 and f16 decode and encode back', () => {
    const words = Array.from({ length: 65536 }, (_, word) => word);
    expect(words.filter((w) => (w & 0x7fff) <= 0x7f80 && bf16Bits(bf16Value(w)) !== w)).toEqual([]);
    expect(words.filter((w) => (w & 0x7fff) <= 0x7c00 && f16Bits(f16Value(w)) !== w)).toEqual([]);
    expect(words.filter((w) => (w & 0x7fff) > 0x7f80 && !Number.isNaN(bf16Value(w)))).toEqual([]);
    expect(words.filter((w) => (w & 0x7fff) > 0x7c00 && !Number.isNaN(f16Value(w)))).toEqual([]);
  });

  test('saturating casts differ only where the value overflows', () => {
    for (const element of ['e4m3', 'e5m2', 'e4m3fnuz', 'e5m2fnuz'] as const) {
      const p = minifloats[element];
      const changed = Array.from({ length: 65536 }, (_, word) => word).filter(
        (word) =>
          cast(element, bf16Input(word)) !== encodeMinifloat(p, bf16Value(word)) && !Number.isNaN(bf16Value(word)),
      );
      for (const word of changed) {
        expect(Math.abs(bf16Value(word))).toBeGreaterThan(p.max);
        const code = encodeMinifloat(p, bf16Value(word));
        expect(Math.abs(decodeMinifloat(p, code))).toBe(p.max);
      }
      expect(changed.length).toBeGreaterThan(0);
    }
  });
});

// X, Y and 64·Y cast element by element, one code a byte, then the first 8 bytes of X
const casts: [string, string, string, string, string][] = [
  ['e4m3', '37fd112baac61701', '01d14345837ae704', '06301c13c44bf4bc', 'b8b00935beb03926'],
  ['e5m2', '2f1cbd8a3be7cb6c', 'eb2ea3946471d05b', '76b118f9441d0852', 'bcb8243bbfb83c33'],
  ['e4m3fnuz', 'f5b072c6cd468b5f', 'bf655a33dcd0bb62', '4bf789c54fd5ba4f', 'c0b8113dc6b8412e'],
  ['e5m2fnuz', 'f820db79bd5a65bf', 'ad412a0a1e74ed98', 'e876ef999cf7fc14', 'c0bc283fc3bc4037'],
  ['e2m3', 'c5b7a685bb76f030', '676dcf6c200e44e1', '68f5879d2d2ab07e', '282400072e240902'],
  ['e3m2', '9e5658e725567eeb', '1689743139f68365', '9dec750183104efe', '2c28000b2f280c04'],
  ['e2m1', '951ba3a5da2df851', 'ee4a86780aa4a139', '1d1360d208d99e8c', '0a0900020c090200'],
  ['e3m4', 'b88824405aa95b23', 'dde1e097d075d950', '39f5fad62e112425', 'b1a1012abda1320e'],
  ['e4m3ieee', '37fd112baac61701', '01d14345837ae704', 'c97bbf26ce6e7c7a', 'b8b00935beb03926'],
  ['e4m3b11fnuz', 'cd275fa9f0e4b624', 'b8a1568bb8085f48', '782e5b3cdda8b5b6', 'd8d02955ded05946'],
  ['bf16', '68330f29bd2d5d2f', '71f1e4637beda123', '60d5a3e38ba33537', '87bf06bf8b3c523f'],
  ['f16', 'ec51fc1631731ead', '66dfd2f620777135', 'c2133e6cc9175d45', '37bc2fb858248e3a'],
];

test.each(casts)('casts of the streams to %s: ml_dtypes hashes', (name, x, y, y64, start) => {
  const convert = (values: Float32Array): Uint8Array => {
    if (name === 'bf16' || name === 'f16') return quantize(values, 1, values.length, parseFormat(name)).codes;
    const p = minifloats[name as MinifloatElement];
    return Uint8Array.from(values, (v) => encodeMinifloat(p, v, 'nonsaturating'));
  };
  expect(hex(convert(streamX()), 8)).toBe(start);
  expect(hash(convert(streamX()))).toBe(x);
  expect(hash(convert(streamY()))).toBe(y);
  expect(hash(convert(streamY().map((v) => v * 64)))).toBe(y64);
});

// input bits; codes of E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, E2M3, E3M2, E2M1, E8M0 (ml_dtypes); torch 2.13 saturating E4M3
const adversarial = [
  '00000000 00 00 00 00 00 00 00 ff 00',
  '80000000 80 80 00 00 20 20 08 ff 80',
  '00000001 00 00 00 00 00 00 00 00 00',
  '00400000 00 00 00 00 00 00 00 00 00',
  '00600000 00 00 00 00 00 00 00 01 00',
  '3a800000 00 14 01 18 00 00 00 75 00',
  '3a800001 01 14 01 18 00 00 00 75 01',
  '3b000000 01 18 02 1c 00 00 00 76 01',
  '37000000 00 00 00 01 00 00 00 6e 00',
  '37000001 00 01 00 01 00 00 00 6e 00',
  '3d800000 18 2c 20 30 00 01 00 7b 18',
  '3e800000 28 34 30 38 02 04 00 7d 28',
  '3e800001 28 34 30 38 02 04 01 7d 28',
  '3f400000 34 3a 3c 3e 06 0a 02 7f 34',
  '3f3fffff 34 3a 3c 3e 06 0a 01 7e 34',
  '3f880000 38 3c 40 40 08 0c 02 7f 38',
  '3f980000 3a 3d 42 41 0a 0d 02 7f 3a',
  '3fa00000 3a 3d 42 41 0a 0d 02 7f 3a',
  '3fc00000 3c 3e 44 42 0c 0e 03 80 3c',
  '3fe00000 3e 3f 46 43 0e 0f 04 80 3e',
  '40200000 42 41 4a 45 12 11 04 80 42',
  '40600000 46 43 4e 47 16 13 06 81 46',
  '40a00000 4a 45 52 49 1a 15 06 81 4a',
  '40a00001 4a 45 52 49 1a 15 07 81 4a',
  '40d00000 4d 46 55 4a 1d 16 07 82 4d',
  '40f80000 50 48 58 4c 1f 18 07 82 50',
  '41f00000 5f 50 67 54 1f 1f 07 84 5f',
  '43780000 78 5c 80 60 1f 1f 07 87 78',
  '4377ffff 77 5c 7f 60 1f 1f 07 87 77',
  '43e00000 7e 5f 80 63 1f 1f 07 88 7e',
  '43e80000 7e 5f 80 63 1f 1f 07 88 7e',
  '43e80001 7f 5f 80 63 1f 1f 07 88 7e',
  '47600000 7f 7b 80 7f 1f 1f 07 8f 7e',
  '476fffff 7f 7b 80 7f 1f 1f 07 8f 7e',
  '47700000 7f 7c 80 80 1f 1f 07 8f 7e',
  '7f7fffff 7f 7c 80 80 1f 1f 07 ff 7e',
  '7f400000 7f 7c 80 80 1f 1f 07 ff 7e',
  'bf800000 b8 bc c0 c0 28 2c 0a ff b8',
  'bdcccccd 9d ae a5 b2 21 22 08 ff 9d',
  '7f800000 7f 7c 80 80 1f 1f 07 ff 7e',
  'ff800000 ff fc 80 80 3f 3f 0f ff fe',
  '7fc00000 7f 7e 80 80 20 20 08 ff 7f',
  'ffc00000 ff fe 80 80 00 00 00 ff ff',
];
test.each(adversarial)('edge case %s', (line) => {
  const [bits, ...codes] = line.split(' ').map((h) => Number.parseInt(h, 16)) as [number, ...number[]];
  const elements = ['e4m3', 'e5m2', 'e4m3fnuz', 'e5m2fnuz', 'e2m3', 'e3m2', 'e2m1'] as const;
  const ours = elements.map((e) => cast(e, bits));
  ours.push(encodeNearestE8m0(f32FromBits(bits)));
  ours.push(encodeMinifloat(minifloats.e4m3, f32FromBits(bits), 'saturating', 'nearest-even', 0, bits >>> 31 === 1));
  expect(ours).toEqual(codes);
});

describe('facts of the formats', () => {
  // finite codes, sum of the positive finite values, code of 1
  test.each([
    ['e4m3', 254, 5407.875, 0x38],
    ['e5m2', 248, 360447.9997558594, 0x3c],
    ['e4m3fnuz', 255, 2943.9375, 0x40],
    ['e5m2fnuz', 255, 360447.9998779297, 0x40],
    ['e3m4', 224, 372, 0x30],
    ['e4m3ieee', 240, 2943.875, undefined],
    ['e4m3b11fnuz', 255, 367.9921875, 0x58],
  ] as const)('%s: %d finite codes', (element, count, sum, one) => {
    const p = minifloats[element];
    const values = Array.from({ length: 256 }, (_, code) => decodeMinifloat(p, code)).filter(Number.isFinite);
    expect(values.length).toBe(count);
    expect(values.reduce((s, v) => s + Math.max(v, 0), 0)).toBeCloseTo(sum, 6);
    if (one !== undefined) expect(decodeMinifloat(p, one)).toBe(1);
  });

  test('values of the small formats that have no library', () => {
    const positive = (e: MinifloatElement) => Array.from({ length: 8 }, (_, c) => decodeMinifloat(minifloats[e], c));
    expect(positive('e2m1')).toEqual([0, 0.5, 1, 1.5, 2, 3, 4, 6]);
    expect(positive('e1m2')).toEqual([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]);
    expect(positive('e3m0')).toEqual([0, 0.25, 0.5, 1, 2, 4, 8, 16]);
  });

  const every = Object.keys(minifloats) as MinifloatElement[];
  test.each(every)('%s: a code decodes and encodes to itself', (element) => {
    const p = minifloats[element];
    for (let code = 0; code < 2 ** p.bits; code++) {
      const value = decodeMinifloat(p, code);
      if (Number.isFinite(value)) expect(encodeMinifloat(p, value)).toBe(code);
    }
  });

  // brute force: every midpoint and its float32 neighbours, in each rounding mode, against a search in the value table
  const modes: Rounding[] = ['nearest-even', 'half-away', 'half-up', 'half-to-zero', 'floor'];
  test.each(every)('%s: midpoints and their neighbours, every rounding mode', (element) => {
    const p = minifloats[element];
    const codes = Array.from({ length: 2 ** (p.bits - 1) }, (_, c) => c).filter((c) => decodeMinifloat(p, c) <= p.max);
    const wrong: string[] = [];
    for (let i = 0; i + 1 < codes.length; i++) {
      const low = decodeMinifloat(p, codes[i]!);
      const high = decodeMinifloat(p, codes[i + 1]!);
      const middle = f32Bits((low + high) / 2);
      for (const bits of [middle - 1, middle, middle + 1]) {
        for (const sign of [1, -1]) {
          const x = sign * f32FromBits(bits);
          const a = Math.abs(x);
          for (const mode of modes) {
            const tie =
              { 'nearest-even': i % 2 === 1, 'half-away': true, 'half-up': sign > 0 }[mode as string] ?? false;
            const up = mode === 'floor' ? false : a - low === high - a ? tie : a - low > high - a;
            const value = Math.abs(decodeMinifloat(p, encodeMinifloat(p, x, 'saturating', mode)));
            if (value !== (up ? high : low)) wrong.push(`${mode} ${x} ${value}`);
          }
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test('float64 input beside a float32 midpoint is rounded to float32 first', () => {
    expect(encodeMinifloat(minifloats.e4m3, 1.0625 + 2 ** -30)).toBe(0x38);
    expect(bf16Bits(1 + 2 ** -8 + 2 ** -30)).toBe(0x3f80);
  });
});
