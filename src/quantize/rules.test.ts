import { describe, expect, it } from 'vitest';
import { formatName, parseFormat } from '../formats/registry.ts';
import { assignFormats, parseTensorRule } from './rules.ts';

const tensors = [
  { name: 'model.embed_tokens.weight', shape: [8, 4], linear: false },
  { name: 'model.layers.0.mlp.down_proj.weight', shape: [4, 8], linear: true },
  { name: 'model.layers.10.mlp.down_proj.weight', shape: [4, 8], linear: true },
  { name: 'model.layers.1.self_attn.q_proj.weight', shape: [4, 4], linear: true },
];
const names = (request: Parameters<typeof assignFormats>[1]) =>
  [...assignFormats(tensors, request).values()].map((f) => f && formatName(f));
const format = parseFormat('mxfp4');

describe('format rules', () => {
  it('apply the default to linear layers only', () => {
    expect(names({ format })).toEqual([undefined, 'mxfp4', 'mxfp4', 'mxfp4']);
  });

  it('search patterns in names, the last rule wins, also over exclusions', () => {
    const rules = ['down_proj=q8_0', 'layers\\.10\\.=q4_k', 'embed_tokens=bf16'].map(parseTensorRule);
    expect(names({ format, rules })).toEqual(['bf16', 'q8_0', 'q4_k', 'mxfp4']);
    expect(names({ format, rules: [parseTensorRule('q_proj=q8_0')], exclude: ['*.layers.1.*', '*mlp*'] })).toEqual([
      undefined,
      undefined,
      undefined,
      'q8_0',
    ]);
  });

  it('refuse what matches nothing and what cannot be parsed', () => {
    expect(() => names({ format, rules: [parseTensorRule('dwn_proj=q8_0')] })).toThrow(/"dwn_proj" matches no tensor/);
    expect(() => names({ format, exclude: ['lm_head*'] })).toThrow(/--exclude "lm_head\*" matches no tensor/);
    for (const bad of ['down_proj', '=q8_0', 'down_proj='])
      expect(() => parseTensorRule(bad)).toThrow(/pattern=format/);
    expect(() => parseTensorRule('(=q8_0')).toThrow(/not a regular expression/);
    expect(() => parseTensorRule('down_proj=q9_0')).toThrow(/no such format/);
  });
});
