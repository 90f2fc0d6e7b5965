// The largest magnitude of an operand is looked for once; what comes of it can be planned and joined like any graph.

import { describe, expect, it } from 'vitest';
import { tensorCoreTraits } from '../../../test/support/null-gpu.ts';
import { planMemory } from '../../graph/plan.ts';
import { trace } from '../../graph/trace.ts';
import { largeProductCases } from '../cases/large-products.ts';
import { storedBytes } from './buffer.ts';
import { joinNodes } from './join-nodes.ts';
import { kernelOf } from './kernels.ts';
import { readTransposed } from './read-transposed.ts';
import { boundedRoundOp, operandBoundOp, shareBounds } from './share-bounds.ts';

const gpu = tensorCoreTraits('exact');
const find = (name: string) => largeProductCases.find((c) => c.name.includes(name))!;
const layer = trace(find('layer').build);
const shared = shareBounds(readTransposed(layer, gpu), gpu);
const named = (name: string) => shared.nodes.filter(({ op }) => op.name === name);

describe('shareBounds', () => {
  it('finds the bounds of x, w and e where they are rounded, once for three products', () => {
    expect(named(operandBoundOp.name)).toHaveLength(0);
    expect(shared.nodes.filter(({ op }) => (op as object) === boundedRoundOp)).toHaveLength(3);
    expect(named('matmul').map(({ inputs }) => inputs.length)).toEqual([4, 4, 4]);
  });

  it('looks for that of an operand which nothing rounds in a node of its own', () => {
    const dense = shareBounds(trace(find('product NN').build), tensorCoreTraits('f16'));
    expect(dense.nodes.filter(({ op }) => (op as object) === operandBoundOp)).toHaveLength(2);
  });

  it('adds nothing where scales tell a bound', () => {
    const packed = trace(find('mxfp4 × mxfp4').build);
    expect(shareBounds(packed, gpu)).toBe(packed);
  });

  it('puts them before the products that read them, and every node has a kernel', () => {
    const made = new Set(layer.inputs.values());
    for (const { inputs, outputs } of shared.nodes) {
      expect(inputs.every((value) => made.has(value))).toBe(true);
      for (const value of outputs) made.add(value);
    }
    expect(shared.nodes.every((node) => kernelOf(node))).toBe(true);
  });

  it('leaves a graph whose nodes can be planned and joined', () => {
    const plan = planMemory(shared, { bytesOf: ({ type }) => storedBytes(type), alignment: 256 });
    expect(joinNodes(plan).flat()).toEqual(plan.nodes);
  });

  it('changes nothing where there are no tensor cores', () => {
    expect(shareBounds(layer, tensorCoreTraits('off'))).toBe(layer);
  });
});
