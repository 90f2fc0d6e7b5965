import { describe, expect, test } from 'vitest';
import type { Format } from './format.ts';
import { bases } from './names.ts';
import { contradictionOf, effectiveBits, formatName, listFormats, parseFormat } from './registry.ts';

const message = (name: string): string => {
  try {
    parseFormat(name);
  } catch (e) {
    return (e as Error).message;
  }
  return 'no error';
};

test.each(listFormats().map((f) => f.name))('%s is printed as it is parsed', (name) => {
  expect(formatName(parseFormat(name))).toBe(name);
});

test('printing is the inverse of parsing for every combination of options that means something', () => {
  const granularities = ['', '-tensor', '-channel', '-token', '-g32', '-2d', '-tile1x128'];
  const zeros = ['', '-asym', '-asymf', '-half', '-signed'];
  const scales = ['', '-f32s', '-f16s', '-bf16s', '-e8m0s-floor', '-e4m3s-twolevel', '-ue5m3', '-onelevel', '-46'];
  const rules = ['', '-mse', '-rceil', '-fourthirds', '-ct', '-absmean'];
  const rest = ['', '-clip0.9', '-sr'];
  let count = 0;
  const wrong: string[] = [];
  for (const base of bases.keys())
    for (const g of granularities)
      for (const z of zeros)
        for (const s of scales)
          for (const r of rules)
            for (const o of rest) {
              let format: Format;
              try {
                format = parseFormat(base + g + z + s + r + o);
              } catch {
                continue;
              }
              count++;
              const printed = formatName(format);
              if (JSON.stringify(parseFormat(printed)) !== JSON.stringify(format)) wrong.push(base + g + z + s + r + o);
            }
  expect(wrong).toEqual([]);
  expect(count).toBeGreaterThan(5000);
});

test.each([
  ['int4', 'int4-channel'],
  ['INT4_G128_ASYM', 'int4-g128-asym'],
  ['int4-asym-g128', 'int4-g128-asym'],
  ['int4-g128-f16s', 'int4-g128'],
  ['mxfp8', 'mxfp8-e4m3'],
  ['e4m3-channel', 'fp8-e4m3-channel'],
  ['nvfp4-46-mse', 'nvfp4-46'],
  ['mxfp4-floor-rne', 'mxfp4'],
  ['Q4_K', 'q4_k'],
])('%s means %s', (name, canonical) => {
  expect(formatName(parseFormat(name))).toBe(canonical);
});

describe('errors name the nearest format, the option or the contradiction', () => {
  test.each([
    ['mxpf4', 'did you mean "mxfp4"?'],
    ['nvfp', 'did you mean "nvfp4"?'],
    ['q4_kk', 'did you mean "q4_k"?'],
    ['int4-q128', 'has an option that does not exist, got "q128"'],
    ['int4-g0', 'got "g0"'],
    ['mxfp4-asym', 'only integers have a zero point'],
    ['int4-g32-rceil', 'the scale rule rceil is for other scales'],
    ['mxint8-asym', 'it needs f32, f16 or bf16 scales'],
    ['int4-46', 'the choice needs NVFP4'],
    ['', 'there is no such format'],
    ['x'.repeat(10000), 'there is no such format'],
  ])('%s', (name, part) => {
    expect(message(name)).toContain(part);
  });
});

// bits per value that the specifications state
test.each([
  ['mxfp4', 4.25],
  ['mxfp6-e2m3', 6.25],
  ['mxfp8-e4m3', 8.25],
  ['hif4', 4.5],
  ['q4_k', 4.5],
  ['q6_k', 6.5625],
  ['int4-g128', 4.125],
  ['int4-g128-asym', 4.1875],
  ['bf16', 16],
])('%s takes %d bits a value', (name, bits) => {
  expect(effectiveBits(parseFormat(name), 4096, 4096)).toBe(bits);
});

test('listed formats have no contradictions and distinct names', () => {
  const list = listFormats();
  expect(new Set(list.map((f) => f.name)).size).toBe(list.length);
  for (const { name } of list) {
    const format = parseFormat(name);
    if (format.kind === 'quant') expect(contradictionOf(format)).toBeUndefined();
  }
});
