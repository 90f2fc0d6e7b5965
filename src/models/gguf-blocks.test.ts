import { describe, expect, it } from 'vitest';
import type { GgmlTypeName, Quantized, QuantSpec } from '../formats/format.ts';
import { dequantizeGgml } from '../formats/ggml/quantize.ts';
import { dequantize, quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { exactBlockType, fromFp4Blocks, toBlocks } from './gguf-blocks.ts';

const spec = (name: string) => parseFormat(name) as QuantSpec;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** Seeded values with heavy tails. */
function values(n: number, seed = 1): Float32Array {
  let s = seed;
  return Float32Array.from({ length: n }, () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    const x = (s >>> 8) / 2 ** 22 - 2;
    return x * x * x;
  });
}

function packed(name: string, cols: number, codes: number[], scales: number[]): Quantized {
  const bytes = (list: number[]) => Uint8Array.from(list);
  const format = spec(name);
  return { format, rows: 1, cols, codes: bytes(codes), scales: bytes(scales), zeroPoints: undefined, tensorScale: 1 };
}

describe('toBlocks', () => {
  it('lays Q4_0 out as ggml does: codes 0 … 15, 0 … 15 with offset 8 and scale 1', () => {
    const consecutive = [0x98, 0xba, 0xdc, 0xfe, 0x10, 0x32, 0x54, 0x76]; // −8 … 7 in two's complement
    const q = packed('int4-g32', 32, [...consecutive, ...consecutive], [0x00, 0x3c]);
    expect(hex(toBlocks(q, spec('int4-g32'), 'q4_0', 'w'))).toBe('003c00112233445566778899aabbccddeeff');
  });

  it('lays MXFP4 out in halves of 16 behind the scale byte', () => {
    const q = packed('mxfp4', 32, [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, ...Array(8).fill(0)], [0x7f]);
    expect(hex(toBlocks(q, spec('mxfp4'), 'ggml-mxfp4', 'w'))).toBe('7f000102030405060708090a0b0c0d0e0f');
  });

  it('lays NVFP4 out as four scales and four halves of 8', () => {
    const block = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe];
    const q = packed('nvfp4', 64, [...block, ...block, ...block, ...block], [0x38, 0x40, 0x01, 0x80]);
    const codes = '8091a2b3c4d5e6f7';
    expect(hex(toBlocks(q, spec('nvfp4'), 'ggml-nvfp4', 'w'))).toBe(`38400100${codes}${codes}${codes}${codes}`);
  });

  const exact: [string, GgmlTypeName][] = [
    ['mxfp4', 'ggml-mxfp4'],
    ['mxfp4-fourthirds', 'ggml-mxfp4'],
    ['nvfp4', 'ggml-nvfp4'],
    ['nvfp4-46', 'ggml-nvfp4'],
    ['nvfp4-2d', 'ggml-nvfp4'],
    ['int4-g32', 'q4_0'],
    ['int4-g128-half', 'q4_0'],
    ['int8-channel', 'q8_0'],
    ['int8-tile32x64-f16s', 'q8_0'],
  ];
  it.each(exact)('%s keeps every value in %s blocks', (name, type) => {
    const [rows, cols] = [32, 256];
    const format = spec(name);
    expect(exactBlockType(format)).toBe(type);
    const q = quantize(values(rows * cols), rows, cols, format);
    const blocks = toBlocks(q, format, type, 'w');
    const decoded = dequantizeGgml(type, blocks, rows, cols).map((x) => Math.fround(x * q.tensorScale));
    const expected = dequantize(q);
    expect(expected.some((x) => x !== 0)).toBe(true);
    expect(decoded.every((x, i) => x === expected[i])).toBe(true);
    if (type.startsWith('ggml') && name !== 'nvfp4-2d') {
      const back = fromFp4Blocks(type as 'ggml-mxfp4', blocks);
      expect(hex(back?.codes ?? q.scales)).toBe(hex(q.codes));
      expect(hex(back?.scales ?? q.codes)).toBe(hex(q.scales));
    }
  });

  it.each([
    'int4-g128-asym',
    'int3-g32',
    'int4-g16',
    'if4',
    'nvint4',
    'nf4-g64',
    'mxfp8',
    'nvfp4-ue5m3',
    'fp8-e4m3-channel',
  ])('no block type holds %s', (name) => expect(exactBlockType(spec(name))).toBeUndefined());

  it('refuses a scale that f16 would round, by tensor', () => {
    const format = spec('int4-g32-f32s');
    const q = quantize(values(32), 1, 32, format);
    expect(() => toBlocks(q, format, 'q4_0', 'blk.0.attn_q.weight')).toThrow(
      /without rounding.*blk\.0\.attn_q\.weight/,
    );
  });
});
