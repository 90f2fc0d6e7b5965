// The text form of a quantized key/value cache: what it means, that it prints back, what is refused, what it costs.

import { describe, expect, it, test } from 'vitest';
import { formatName } from '../formats/registry.ts';
import { Fields } from './fields.ts';
import { checkKvScheme, kvBytes, parseKvScheme, printKvScheme } from './kv-scheme.ts';
import { parseRuntime, printRuntime } from './runtime-scheme.ts';

const canonical = [
  'k=int2-channel-g32,v=int2-g32,residual=128',
  'k=int4-channel-g64,v=int4,residual=64,sink=4',
  'k=int8,v=int8,residual=0',
  'k=int3-channel-g8,v=int3-g16,residual=0',
  'k=fp8-e4m3,v=fp8-e5m2,residual=32',
  'k=mxfp4-channel,v=mxfp4,residual=128',
  'k=int4-g32-asym,v=int4-g128-half,residual=1',
  'k=int4-channel-g32-restricted,v=int8-restricted,residual=64',
  'k=f16,v=bf16,residual=0',
  'k=q8_0,v=q4_0,residual=16',
  'k=fp8-e4m3-channel-g32,v=fp8-e4m3-g32,residual=128',
];

describe('the text of a scheme', () => {
  it.each(canonical)('prints what it parses: %s', (text) => {
    expect(printKvScheme(parseKvScheme(text))).toBe(text);
    expect(printRuntime(parseRuntime(new Fields({ subbyte: { kv: text } }, { file: 'c', path: '' })))).toEqual({
      kv: text,
    });
  });

  it('says what it stands for', () => {
    const { keys, values, residual, sinks } = parseKvScheme(' v=INT4-g32 , k = int2-channel-g32');
    expect([keys.per, formatName(keys.format), formatName(values)]).toEqual([
      'channel',
      'int2-g32-asymf',
      'int4-g32-asymf',
    ]);
    expect([residual, sinks]).toEqual([128, 0]);
    const rows = parseKvScheme('k=int8,v=fp8,residual=0');
    expect([rows.keys.per, formatName(rows.keys.format), formatName(rows.values)]).toEqual([
      'token',
      'int8-channel-asymf',
      'fp8-e4m3-token',
    ]);
  });

  test.each([
    ['', /a part of the scheme has no meaning, got ""/],
    ['int4', /no meaning, got "int4", expected k, v, residual and sink as in k=int2-channel-g32/],
    ['k=int4,v=int4,window=3', /no meaning, got "window=3"/],
    ['k=int4', /v is missing/],
    ['k=int4,v=int4,k=int2', /k is given twice/],
    ['k=int4,v=int4-channel-g32', /values are rounded per token, got v=int4-channel-g32/],
    ['k=int4-channel,v=int4', /keys per channel need a group of tokens/],
    ['k=int2-channel-g8192,v=int2,residual=0', /a group has at most 4096 tokens/],
    ['k=int3-channel-g4,v=int4,residual=4', /a group must fill whole bytes/],
    ['k=int2-channel-g32,v=int2,residual=48', /whole groups of keys, got residual=48, expected a multiple of 32/],
    ['k=int4,v=int4,residual=-1', /residual is no number of tokens, got "-1"/],
    ['k=int4,v=int4,sink=1e9', /sink is no number of tokens/],
    ['k=int5x,v=int4', /there is no such format/],
    ['k=nvfp4,v=int4', /a cache cannot be in this format: its scales cover several tokens, got k=nvfp4/],
    ['k=int4,v=fp8-e4m3-tensor', /its scales cover several tokens, got v=fp8-e4m3-tensor/],
    ['k=int4,v=nf4-g16', /codebooks/],
    ['k=int4,v=int4-g32-mse', /its scales are searched for/],
    ['k=f32,v=f16', /the scheme "none"/],
    ['k=f16-channel,v=f16', /no groups/],
    ['k=q4_k,v=f16', /q8_0 and q4_0 are possible/],
    ['k=hif4,v=f16', /no scales of groups/],
  ])('%s', (text, message) => {
    expect(() => parseKvScheme(text)).toThrow(message);
  });

  it('is named with its field in a config', () => {
    const parse = () => parseRuntime(new Fields({ subbyte: { kv: 'k=int4' } }, { file: 'config.json', path: '' }));
    expect(parse).toThrow(/subbyte\.kv is wrong.*v is missing.*config\.json/);
  });
});

describe('a scheme on a model', () => {
  const model = { layers: 2, kvHeads: 3, headDim: 80 };
  it('must suit the head dimension', () => {
    expect(() => checkKvScheme(parseKvScheme('k=int2-channel-g32,v=int2-g32'), model)).toThrow(
      /v does not suit.*int2-g32-asymf for heads of 80, expected a group that divides 80; use g8, g16, g20, g40, or leave the group out/,
    );
    expect(() => checkKvScheme(parseKvScheme('k=mxfp4,v=int4'), model)).toThrow(/k does not suit/);
    checkKvScheme(parseKvScheme('k=int2-channel-g32,v=int2-g16'), model);
  });

  it('costs what its codes, scales and exact tokens take', () => {
    const scheme = parseKvScheme('k=int2-channel-g32,v=int4-g16,residual=64,sink=2');
    // Keys: 2 bits and 4 bytes a group of 32; values: 4 bits and 4 bytes a group of 16.
    const perHead = 80 * (2 / 8 + 4 / 32) + 80 * (4 / 8 + 4 / 16);
    expect(kvBytes(scheme, model)).toEqual({
      perToken: 6 * perHead,
      perTokenF32: 6 * 160 * 4,
      perTokenF16: 6 * 160 * 2,
      fixed: (2 + 64 + 1) * 6 * 160 * 4,
    });
    expect(kvBytes('none', model)).toMatchObject({ perToken: 6 * 160 * 4, fixed: 0 });
  });
});
