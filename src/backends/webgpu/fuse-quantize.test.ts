// Which chains that end in quantize become one node, and which do not.

import { describe, expect, it } from 'vitest';
import { parseFormat } from '../../formats/registry.ts';
import type { Node, Value } from '../../graph/graph.ts';
import { mul } from '../../graph/ops/arithmetic.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { reshape, transpose } from '../../graph/ops/layout.ts';
import { sgd } from '../../graph/ops/optimizers.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { type GraphBuilder, trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import type { GpuTraits } from './device.ts';
import { fuseQuantize } from './fuse-quantize.ts';
import { fusedQuantizeOp } from './fused-quantize-op.ts';

describe('what is fused', () => {
  // limits of a device that is never opened
  const gpu = { workgroupBytes: 32_768 } as GpuTraits;
  const block = 32;
  const mxfp4 = parseFormat('mxfp4');
  const opsOf = (build: (g: GraphBuilder, x: Value) => void) => {
    const graph = trace((g) => build(g, g.input('x', f32([64, 64]))));
    return fuseQuantize(graph, gpu).nodes.map(({ op }) => ((op as object) === fusedQuantizeOp ? 'fused' : op.name));
  };

  it('the whole chain, and the flops of its parts', () => {
    const graph = trace((g) => {
      const signs = g.input('signs', f32([block]));
      const w = dequantize(quantize(g.input('x', f32([64, 96])), mxfp4));
      g.output('y', dequantize(quantize(hadamard(transpose(w, [1, 0]), { blockSize: block, signs }), mxfp4)));
    });
    const { nodes } = fuseQuantize(graph, gpu);
    expect(nodes.map(({ op }) => op.name)).toEqual(['quantize', 'quantize', 'dequantize']);
    expect(nodes[1].outputs).toBe(graph.nodes.at(-2)?.outputs);
    const flops = (node: Node) =>
      node.op.flops?.(
        node.inputs.map(({ type }) => type),
        node.attributes,
      ) ?? 0;
    const total = (list: readonly Node[]) => list.reduce((sum, node) => sum + flops(node), 0);
    expect(total(nodes)).toBe(total(graph.nodes));
    const { op, inputs, attributes } = nodes[1];
    expect(
      op.infer(
        inputs.map(({ type }) => type),
        attributes,
      ),
    ).toEqual(nodes[1].outputs.map(({ type }) => type));
  });

  it('only what nobody else reads', () => {
    const used = (g: GraphBuilder, x: Value) => {
      const turned = hadamard(transpose(x, [1, 0]), { blockSize: block });
      g.output('y', dequantize(quantize(turned, mxfp4)));
      return turned;
    };
    expect(opsOf(used)).toEqual(['fused', 'dequantize']);
    expect(opsOf((g, x) => g.output('turned', used(g, x)))).toEqual([
      'transpose',
      'hadamard',
      'quantize',
      'dequantize',
    ]);
    expect(opsOf((g, x) => g.output('more', mul(used(g, x), x)))).toContain('hadamard');
    const swapped = (g: GraphBuilder, x: Value) => {
      const columns = transpose(x, [1, 0]);
      g.output('columns', columns);
      g.output('y', dequantize(quantize(hadamard(columns, { blockSize: block }), mxfp4)));
    };
    expect(opsOf(swapped)).toEqual(['transpose', 'fused', 'dequantize']);
  });

  it('nothing alone, and no signs of another length', () => {
    expect(opsOf((g, x) => g.output('y', dequantize(quantize(x, mxfp4))))).toEqual(['quantize', 'dequantize']);
    const other = (g: GraphBuilder, x: Value) => {
      const turned = reshape(hadamard(x, { blockSize: block }), [-1, 16]);
      const signed = reshape(mul(turned, g.input('signs', f32([16]))), [64, 64]);
      g.output('y', dequantize(quantize(signed, mxfp4)));
    };
    expect(opsOf(other)).toEqual(['hadamard', 'reshape', 'mul', 'reshape', 'quantize', 'dequantize']);
  });

  it('no source that is updated before quantize stood', () => {
    const updated = (g: GraphBuilder) => {
      const w = g.state('w', f32([64, 64]));
      const turned = hadamard(w, { blockSize: block });
      sgd(w, g.input('dw', f32([64, 64])), g.input('rate', f32([1])), { weightDecay: 0 });
      g.output('y', dequantize(quantize(turned, mxfp4)));
    };
    expect(opsOf(updated)).toEqual(['hadamard', 'sgd', 'quantize', 'dequantize']);
  });
});
