import { describe, expect, it } from 'vitest';
import { formatName, parseFormat } from '../formats/registry.ts';
import { Fields } from './fields.ts';
import { fixedRules, inputRotation, layerActivation, parseRuntime, printRuntime } from './runtime-scheme.ts';

const parse = (subbyte: unknown) => parseRuntime(new Fields({ subbyte }, { file: 'config.json', path: '' }));

describe('the runtime part of a config', () => {
  it('is plain when absent and prints nothing then', () => {
    expect(printRuntime(parse(undefined))).toBeUndefined();
    expect(layerActivation(parse(undefined), 'model.layers.0.mlp.down_proj')).toBeUndefined();
  });

  it('prints what it parses, and the last rule that matches holds', () => {
    const rules = [
      { match: 'proj$', format: 'int8-token' },
      { match: 'down_proj', format: 'mxfp4' },
    ];
    const scheme = parse({ activations: rules });
    expect(printRuntime(scheme)).toEqual({ activations: rules });
    const format = (layer: string) => {
      const found = layerActivation(scheme, layer);
      return found && formatName(found.format);
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

  it('prints static rules as it parses them, scales in float32', () => {
    const rules = [
      { match: '.', format: 'int8-token' },
      { match: 'down_proj$', format: 'int8-tensor', scale: 0.25 },
      { match: 'up_proj$', format: 'int8-tensor-asym', scale: 0.5, zeroPoint: 0 },
    ];
    const scheme = parse({ activations: rules });
    expect(printRuntime(scheme)).toEqual({ activations: rules });
    expect(layerActivation(scheme, 'x.down_proj')).toEqual({
      format: parseFormat('int8-tensor'),
      fixed: { scale: 0.25 },
    });
    expect(layerActivation(scheme, 'x.q_proj')).toEqual({ format: parseFormat('int8-token') });
    const [rule] = parse({ activations: [{ match: 'x', format: 'int8-tensor', scale: 0.1 }] }).activations;
    expect(rule.fixed).toEqual({ scale: Math.fround(0.1) });
  });

  it('names the field of a scale that a layer cannot have', () => {
    const rule = (more: object, format = 'int8-tensor') => {
      return () => parse({ activations: [{ match: 'x', format, ...more }] });
    };
    for (const scale of [0, -1, '1', Infinity, 1e-40, 1e38, 1e300, [1], {}])
      expect(rule({ scale }), String(scale)).toThrow(/subbyte\.activations\[0\]\.scale is wrong.*config\.json/);
    expect(rule({ scale: 1 }, 'int8-token')).toThrow(/scale is wrong.*one scale for the tensor/);
    expect(rule({ scale: 1 }, 'mxfp4')).toThrow(/scale is wrong.*one scale for the tensor/);
    expect(rule({ scale: 1, zeroPoint: 3 })).toThrow(/zeroPoint is wrong, got 3, expected no zero point/);
    for (const zeroPoint of [undefined, -1, 256, 0.5, '3'])
      expect(rule({ scale: 1, zeroPoint }, 'int8-tensor-asym')).toThrow(/zeroPoint is (wrong|missing).*from 0 to 255/);
    expect(rule({ zeroPoint: 3 }, 'int8-tensor-asym')).toThrow(/scale is missing/);
    expect(rule({ range: 3 })).toThrow(/range is wrong.*only scale, zeroPoint/);
  });

  it('makes one rule for layers of a module that are rounded alike', () => {
    const format = parseFormat('int8-tensor');
    const at = 'model.layers.1.self_attn';
    const layers = new Map([
      [`${at}.q_proj`, { format, fixed: { scale: 0.5 } }],
      [`${at}.k_proj`, { format, fixed: { scale: 0.5 } }],
      [`${at}.o_proj`, { format, fixed: { scale: 0.25 } }],
      ['model.layers.11.self_attn.q_proj', { format, fixed: { scale: 0.5 } }],
    ]);
    const activations = fixedRules(layers);
    expect(activations.map(({ match }) => match)).toEqual([
      '^model\\.layers\\.1\\.self_attn\\.(?:q_proj|k_proj)$',
      '^model\\.layers\\.1\\.self_attn\\.o_proj$',
      '^model\\.layers\\.11\\.self_attn\\.q_proj$',
    ]);
    const scheme = { ...parse(undefined), activations };
    for (const [name, activation] of layers) expect(layerActivation(scheme, name)).toEqual(activation);
    expect(layerActivation(scheme, 'model.layers.1.self_attn.v_proj')).toBeUndefined();
  });

  it('prints the online rotations that it parses, and gives each layer the last that matches', () => {
    const online = {
      inputs: [
        { match: 'proj$', size: 32, seed: 4294967295 },
        { match: 'down_proj$', size: 172 },
        { match: 'o_proj$', size: 8, stride: 64 },
      ],
      queryKey: true,
    };
    const scheme = parse({ online });
    expect(printRuntime(scheme)).toEqual({ online });
    expect(scheme.online.queryKey).toBe(true);
    expect(inputRotation(scheme, 'model.layers.0.mlp.up_proj')).toEqual({ size: 32, seed: 4294967295 });
    expect(inputRotation(scheme, 'model.layers.0.mlp.down_proj')).toEqual({ size: 172 });
    expect(inputRotation(scheme, 'model.layers.0.self_attn.o_proj')).toEqual({ size: 8, stride: 64 });
    expect(inputRotation(scheme, 'lm_head')).toBeUndefined();
    expect(printRuntime(parse({ online: { inputs: [] } }))).toBeUndefined();
    expect(printRuntime(parse({ online: { queryKey: true } }))).toEqual({ online: { queryKey: true } });
  });

  it('names the field of a rotation that it does not understand', () => {
    const rule = (more: object) => () => parse({ online: { inputs: [{ match: 'x', size: 8, ...more }] } });
    expect(rule({ size: 6 })).toThrow(/subbyte\.online\.inputs\[0\]\.size is wrong, got 6.*Hadamard/);
    expect(rule({ size: 2 ** 21 })).toThrow(/size is wrong/);
    expect(rule({ size: 2.5 })).toThrow(/size is wrong/);
    expect(rule({ stride: 0 })).toThrow(/stride is wrong/);
    expect(rule({ seed: -1 })).toThrow(/seed is wrong/);
    expect(rule({ seed: '1' })).toThrow(/seed is wrong/);
    expect(rule({ match: '(' })).toThrow(/match is wrong.*regular expression/);
    expect(rule({ match: 'x'.repeat(501) })).toThrow(/at most 500 characters/);
    expect(rule({ match: undefined })).toThrow(/match is missing/);
    expect(rule({ angle: 3 })).toThrow(/angle is wrong.*only match, size, stride, seed/);
    expect(() => parse({ online: { inputs: [null] } })).toThrow(/inputs\[0\]/);
    expect(() => parse({ online: { inputs: new Array(1001).fill({}) } })).toThrow(/at most 1000 rules/);
    expect(() => parse({ online: { values: true } })).toThrow(/values is wrong.*only inputs, queryKey/);
    expect(() => parse({ online: { queryKey: 'yes' } })).toThrow(/queryKey is wrong/);
    expect(() => parse({ online: [] })).toThrow(/online is wrong/);
  });
});
