import { describe, expect, it } from 'vitest';
import { formatName } from '../formats/registry.ts';
import { Fields } from './fields.ts';
import { activationFormat, parseRuntime, printRuntime } from './runtime-scheme.ts';

const parse = (subbyte: unknown) => parseRuntime(new Fields({ subbyte }, { file: 'config.json', path: '' }));

describe('the runtime part of a config', () => {
  it('is plain when absent and prints nothing then', () => {
    expect(printRuntime(parse(undefined))).toBeUndefined();
    expect(activationFormat(parse(undefined), 'model.layers.0.mlp.down_proj')).toBeUndefined();
  });

  it('prints what it parses, and the last rule that matches holds', () => {
    const rules = [
      { match: 'proj$', format: 'int8-token' },
      { match: 'down_proj', format: 'mxfp4' },
    ];
    const scheme = parse({ activations: rules });
    expect(printRuntime(scheme)).toEqual({ activations: rules });
    const format = (layer: string) => {
      const found = activationFormat(scheme, layer);
      return found && formatName(found);
    };
    expect(format('model.layers.1.mlp.down_proj')).toBe('mxfp4');
    expect(format('model.layers.1.self_attn.q_proj')).toBe('int8-token');
    expect(format('lm_head')).toBeUndefined();
  });

  it('names the field of what it does not understand', () => {
    expect(() => parse({ activations: [{ match: '(', format: 'mxfp4' }] })).toThrow(
      /subbyte\.activations\[0\].*regular expression.*config\.json/,
    );
    expect(() => parse({ activations: [{ match: 'x', format: 'mxfp5' }] })).toThrow(/activations\[0\].*mxfp5/);
    expect(() => parse({ activations: [null] })).toThrow(/activations\[0\]/);
    expect(() => parse({ activations: new Array(1001).fill(null) })).toThrow(/at most 1000 rules/);
  });
});
