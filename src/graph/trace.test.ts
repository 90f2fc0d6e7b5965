import { describe, expect, it } from 'vitest';
import { parseFormat } from '../formats/registry.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { liveNodes } from './live-nodes.ts';
import { affine } from './ops/affine.ts';
import { add } from './ops/arithmetic.ts';
import { cacheWrite } from './ops/cache-write.ts';
import { matmul } from './ops/matmul.ts';
import { topK } from './ops/top-k.ts';
import { printGraph } from './print.ts';
import { trace } from './trace.ts';
import { f32, i32, packed, sameType } from './value-type.ts';

describe('trace', () => {
  it('records nodes in order with shapes and layer paths', () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([2, 8]));
      const w = g.param('w', f32([4, 8]));
      const y = g.scope('layers', () => g.scope('0', () => matmul(x, w, { transposeB: true })));
      g.output('y', add(y, g.constant(tensorF32([1], Float32Array.of(1)), 'one')));
    });
    expect(printGraph(graph).split('\n')).toEqual([
      'input    x: f32[2, 8]',
      'param    w: f32[4, 8]',
      'constant one: f32[1]',
      '%2 = matmul(x, w) {"transposeA":false,"transposeB":true} : f32[2, 4]   layers.0',
      '%4 = add(%2, one) : f32[2, 4]',
      'output   y = %4',
    ]);
    expect(graph.nodes[0].outputs[0].name).toBe('layers.0/matmul#0');
  });

  it('names the layer in which a shape is wrong', () => {
    trace((g) => {
      const [x, w] = [g.input('x', f32([2, 8])), g.param('w', f32([4, 9]))];
      const call = () => g.scope('layers.3', () => g.scope('mlp', () => matmul(x, w, { transposeB: true })));
      expect(call).toThrow('expected one K (tensor layers.3.mlp/matmul#0); check transposeA');
    });
  });

  it('gives the same value for a parameter that is asked for again', () => {
    trace((g) => {
      expect(g.param('w', f32([2]))).toBe(g.param('w', f32([2])));
      expect(() => g.param('w', f32([3]))).toThrow('trace: param w is declared twice, got f32[3], expected f32[2]');
    });
  });

  it('refuses names that are taken and values of another graph', () => {
    const foreign: Parameters<typeof affine>[0][] = [];
    trace((g) => foreign.push(g.input('x', f32([2]))));
    trace((g) => {
      const x = g.input('x', f32([2]));
      expect(() => g.input('x', f32([2]))).toThrow('input x is declared twice');
      g.output('y', x);
      expect(() => g.output('y', x)).toThrow('output y is declared twice');
      expect(() => g.output('z', foreign[0])).toThrow('output z is a value of another graph');
      expect(() => add(x, foreign[0])).toThrow('add: inputs belong to different graphs');
    });
  });

  it('refuses packed outputs, which cannot be read', () => {
    trace((g) => {
      const w = g.param('w', packed([2, 32], parseFormat('mxfp4')));
      expect(() => g.output('y', w)).toThrow(
        'trace: output y is packed, got mxfp4[2, 32], expected f32 or i32; call deq',
      );
    });
  });

  it('refuses empty and fractional dimensions', () => {
    trace((g) => {
      expect(() => g.input('x', f32([0, 4]))).toThrow(
        'trace: input x has an empty or fractional dimension, got [0, 4]',
      );
      expect(() => g.param('w', f32([2.5]))).toThrow('dimension');
      expect(() => g.state('c', f32([-1]))).toThrow('dimension');
    });
  });

  it('leaves the layer path when the body throws', () => {
    trace((g) => {
      expect(() =>
        g.scope('a', () => {
          throw new Error('stop');
        }),
      ).toThrow('stop');
      expect(g.graph.scopes).toEqual([]);
    });
  });
});

describe('liveNodes', () => {
  it('drops what no output needs and keeps updates of states', () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([1, 1, 1, 2]));
      const used = affine(x, { scale: 2 });
      affine(affine(x, { scale: 3 }), { scale: 4 });
      cacheWrite(g.state('cache', f32([1, 4, 1, 2])), affine(x, { scale: 5 }), g.input('start', i32([1])));
      g.output('y', used);
    });
    const names = liveNodes(graph).map((n) => n.outputs[0].name);
    expect(names).toEqual(['affine#0', 'affine#3', 'cacheWrite#4']);
  });

  it('keeps a node when one of its results is used', () => {
    const graph = trace((g) => {
      g.output('indices', topK(g.input('x', f32([2, 5])), 2).indices);
    });
    expect(liveNodes(graph)).toHaveLength(1);
  });
});

describe('sameType', () => {
  it('compares formats by meaning, not by the order of their fields', () => {
    const format = parseFormat('int4-g32-asym');
    const shuffled = Object.fromEntries(Object.entries(format).reverse()) as unknown as typeof format;
    expect(sameType(packed([2, 32], format), packed([2, 32], shuffled))).toBe(true);
    expect(sameType(packed([2, 32], format), packed([2, 32], parseFormat('int4-g32')))).toBe(false);
    expect(sameType(packed([2, 32], parseFormat('f32')), f32([2, 32]))).toBe(false);
    expect(sameType(f32([2]), f32([1, 2]))).toBe(false);
  });
});
