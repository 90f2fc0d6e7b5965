// Graphs whose weights are larger than a binding, rewritten to read the pieces (split-buffer.ts).
//
//   embedding       a dispatch for each piece, which fills the rows of its ids
//   matmul          x · Wᵀ: a product for each piece, side by side; x · W: the sum of the products of the pieces
//   crossEntropy    maximum and sum of exponentials for each piece, joined for each row
//   expertMatmul    a product for each piece, of which the slots of its experts are kept
//
// Results have the bits of the whole weight, save for x · W, which sums over the split axis in another order. (So does
// crossEntropy where a piece is shorter than its spans, 1024 rows at most.) Products with experts cost as many times more
// as there are pieces. Other ops refuse with a sentence.

import { deviceError, type SubbyteError } from '../../errors.ts';
import { appendValue } from '../../graph/apply.ts';
import type { Graph, Node, OpDefinition, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { addOp } from '../../graph/ops/arithmetic.ts';
import { concatOp, sliceOp } from '../../graph/ops/layout.ts';
import { type MatmulAttributes, matmulOp } from '../../graph/ops/matmul.ts';
import { trace } from '../../graph/trace.ts';
import { printType } from '../../graph/value-type.ts';
import type { Bindings, Buffer } from '../backend.ts';
import { checkSize, storedBytes } from './buffer.ts';
import { spanOf } from './kernels/cross-entropy.ts';
import { type Piece, pieceType, SplitBuffer } from './split-buffer.ts';
import {
  crossEntropyJoinOp,
  crossEntropyPieceOp,
  embeddingFirstOp,
  embeddingNextOp,
  expertNextOp,
  expertPlacesOp,
} from './split-ops.ts';

/** A weight in the rewritten graph. */
interface Split {
  readonly pieces: readonly Piece[];
  readonly values: readonly Value[];
}

type Operand = Value | Split;
const isSplit = (operand: Operand): operand is Split => 'pieces' in operand;

/** Appends a node in place of the one that is rewritten and returns its output. */
type Append = <A extends object>(op: OpDefinition<A>, inputs: readonly Value[], attributes: A) => Value;

/** What becomes of a node that reads a split weight; undefined where it cannot read pieces. */
type Rewrite = (node: Node, operands: readonly Operand[], append: Append) => Value | undefined;

const attributesOf = ({ first }: Piece, total: number) => ({ first, total });

const rewrites: Readonly<Record<string, Rewrite>> = {
  embedding({ inputs: [table] }, [split, ids], append) {
    if (!isSplit(split) || isSplit(ids)) return undefined;
    const [total] = table.type.shape;
    const [first, ...next] = split.values;
    const start = append(embeddingFirstOp, [first, ids], attributesOf(split.pieces[0], total));
    return next.reduce(
      (y, value, i) => append(embeddingNextOp, [value, ids, y], attributesOf(split.pieces[i + 1], total)),
      start,
    );
  },

  matmul(node, [a, b], append) {
    if (isSplit(a) || !isSplit(b) || b.values[0].type.shape.length > 2) return undefined;
    const attributes = node.attributes as unknown as MatmulAttributes;
    if (attributes.transposeB) {
      const products = b.values.map((value) => append(matmulOp, [a, value], attributes));
      return append(concatOp, products, { axis: node.outputs[0].type.shape.length - 1 });
    }
    if (a.type.dtype === 'packed') return undefined;
    const axis = a.type.shape.length - (attributes.transposeA ? 2 : 1);
    const products = b.pieces.map(({ first, count }, i) =>
      append(matmulOp, [append(sliceOp, [a], { axis, start: first, length: count }), b.values[i]], attributes),
    );
    return products.reduce((sum, product) => append(addOp, [sum, product], {}));
  },

  crossEntropy({ inputs: [, weight] }, [hidden, split, targets], append) {
    if (isSplit(hidden) || !isSplit(split) || isSplit(targets)) return undefined;
    const [total] = weight.type.shape;
    const span = spanOf(hidden.type.shape[0], total);
    const parts = split.pieces.map((piece, i) =>
      append(crossEntropyPieceOp, [hidden, split.values[i], targets], { ...attributesOf(piece, total), span }),
    );
    return append(crossEntropyJoinOp, [targets, append(concatOp, parts, { axis: 1 })], { total });
  },

  expertMatmul(node, [x, split, indices], append) {
    if (isSplit(x) || !isSplit(split) || isSplit(indices)) return undefined;
    const [total] = node.inputs[1].type.shape;
    const product = (i: number) => {
      const attributes = { ...attributesOf(split.pieces[i], total), count: split.pieces[i].count };
      const places = append(expertPlacesOp, [indices], attributes);
      return { attributes, y: append(node.op, [x, split.values[i], places], node.attributes) };
    };
    let { y } = product(0);
    for (let i = 1; i < split.pieces.length; i++) {
      const next = product(i);
      y = append(expertNextOp, [next.y, indices, y], next.attributes);
    }
    return y;
  },
};

/**
 * The graph and its bindings with every split weight replaced by its pieces; both as they are when none is split.
 * Throws a device error that names the op which would need the whole weight.
 */
export function splitWeights(graph: Graph, bindings: Bindings, limit: number): { graph: Graph; bindings: Bindings } {
  const { params } = bindings;
  if (![...graph.params.keys()].some((name) => params.get(name) instanceof SplitBuffer)) return { graph, bindings };
  const copy = trace(() => {});
  const operands = new Map<Value, Operand>();
  const found = new Map<string, Buffer>();
  const declare = (to: Map<string, Value>, name: string, value: Value) => {
    const declared = appendValue(copy, value.type, value.name);
    to.set(name, declared);
    operands.set(value, declared);
  };
  for (const [name, value] of graph.inputs) declare(copy.inputs, name, value);
  for (const [name, value] of graph.states) declare(copy.states, name, value);
  for (const [value, tensor] of graph.constants) {
    const constant = appendValue(copy, value.type, value.name);
    copy.constants.set(constant, tensor);
    operands.set(value, constant);
  }
  for (const [name, value] of graph.params) {
    const buffer = params.get(name)!;
    if (buffer instanceof SplitBuffer) {
      const { pieces, buffers } = buffer;
      const values = pieces.map((piece, i) => {
        const label = `${name}[${piece.first} … ${piece.first + piece.count - 1}]`;
        found.set(label, buffers[i]);
        const declared = appendValue(copy, pieceType(value.type, piece), label);
        copy.params.set(label, declared);
        return declared;
      });
      operands.set(value, { pieces, values });
    } else {
      found.set(name, buffer);
      declare(copy.params, name, value);
    }
  }
  for (const node of liveNodes(graph)) rewriteNode(node, copy, operands, limit);
  for (const [name, value] of graph.outputs) {
    const operand = operands.get(value)!;
    if (isSplit(operand)) throw needsWhole('read', value, limit);
    copy.outputs.set(name, operand);
  }
  return { graph: copy, bindings: { ...bindings, params: found } };
}

function rewriteNode(node: Node, copy: Graph, operands: Map<Value, Operand>, limit: number): void {
  const inputs = node.inputs.map((value) => operands.get(value)!);
  const { scope } = node;
  const split = node.inputs.find((_, i) => isSplit(inputs[i]));
  if (!split) {
    const outputs = node.outputs.map((value) => appendValue(copy, value.type, value.name));
    copy.nodes.push({ ...node, id: copy.nodes.length, inputs: inputs as Value[], outputs });
    for (const [i, value] of node.outputs.entries()) operands.set(value, outputs[i]);
    return;
  }
  const [whole] = node.outputs;
  const append: Append = (op, inputs, attributes) => {
    const types = op.infer(
      inputs.map(({ type }) => type),
      attributes,
    );
    const outputs = types.map((type) => appendValue(copy, type, whole.name));
    const appended = { id: copy.nodes.length, op, inputs, outputs, attributes, scope };
    copy.nodes.push(appended as unknown as Node);
    return outputs[0];
  };
  const result = rewrites[node.op.name]?.(node, inputs, append);
  if (!result) throw needsWhole(node.op.name, split, limit);
  checkSize(node.op.name, whole.name, whole.type, limit);
  operands.set(whole, result);
}

function needsWhole(op: string, { name, type }: Value, limit: number): SubbyteError {
  return deviceError({
    code: 'webgpu-binding-size',
    op,
    problem: `${name} ${printType(type)} is larger than a kernel can bind on this device, and ${op} needs it whole`,
    got: `${storedBytes(type)} bytes`,
    expected: `at most ${limit}`,
    fix: 'use a smaller format, or choose the wasm backend',
  });
}
