import { expect, it } from 'vitest';
import { parseFormat } from '../formats/registry.ts';
import { trace } from '../graph/trace.ts';
import { f32, packed } from '../graph/value-type.ts';
import { linear, quantizeInput } from './linear.ts';

const format = parseFormat('mxfp4');
const names = (graph: ReturnType<typeof trace>) => graph.nodes.map((node) => node.op.name);

it('layers that share an input quantize it once for each format', () => {
  const graph = trace((g) => {
    const x = g.input('x', f32([4, 64]));
    for (const [name, activation] of [
      ['q', { format }],
      ['k', { format: parseFormat('mxfp4') }],
      ['v', { format: parseFormat('int8-token') }],
    ] as const)
      g.output(name, linear(x, { weight: g.param(`${name}.weight`, packed([8, 64], format)), activation }));
    const dense = g.param('dense', f32([8, 64]));
    g.output('dense', linear(x, { weight: dense, activation: { format } }));
    g.output('again', linear(x, { weight: dense, activation: { format } }));
  });
  expect(names(graph)).toEqual([
    ...['quantize', 'matmul', 'matmul', 'quantize', 'matmul'],
    ...['dequantize', 'matmul', 'matmul'],
  ]);
});

it('fixed scales and other inputs are kept apart', () => {
  const int8 = parseFormat('int8-tensor');
  const graph = trace((g) => {
    const [x, y] = [g.input('x', f32([4, 64])), g.input('y', f32([4, 64]))];
    const first = quantizeInput(x, { format: int8, fixed: { scale: 0.5 } }, true);
    expect(quantizeInput(x, { format: int8, fixed: { scale: 0.5 } }, true)).toBe(first);
    expect(quantizeInput(x, { format: int8, fixed: { scale: 0.25 } }, true)).not.toBe(first);
    expect(quantizeInput(x, { format: int8 }, true)).not.toBe(first);
    expect(quantizeInput(y, { format: int8, fixed: { scale: 0.5 } }, true)).not.toBe(first);
  });
  expect(names(graph)).toEqual(['quantize', 'quantize', 'quantize', 'quantize']);
});
