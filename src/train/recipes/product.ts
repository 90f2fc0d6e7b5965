// The product of a linear layer under a recipe, with the gradients that the recipe says.
//
// Forward: both operands are rotated, rounded to packed codes and multiplied. What the backward pass keeps are these
// codes (and bits where gradients are masked), not the tensors, unless an operand asks for the tensor itself. The rule of
// the product makes the two backward products; masks and the rotation back are the rules of the nodes before it.
//
// Random numbers: quantizations draw from the seed, a stream for each layer and operand, and the input `roundingStep`, the
// number of the batch; random signs are rows of the input `signs`. Both are the same on every backend and on resume.

import type { Format } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { straightThrough, withGradient } from '../../graph/gradient-rules.ts';
import type { GradientRule, Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize, quantizeWithBits, selectBits } from '../../graph/ops/quantize.ts';
import type { LayerKey } from './layer-key.ts';
import type { LinearRecipe, Operand, ProductRecipe, Rotation } from './linear-recipe.ts';
import { rotate, rotateBack } from './rotation.ts';

/** Streams of a layer. */
const streams = { x: 0, w: 1, inputE: 2, inputW: 3, weightE: 4, weightX: 5 } as const;
export const streamsPerLayer = 8;

/** Values that are rounded already, by what they were made of: layers that share an input round it once. */
export type Rounded = Map<Value, Map<string, Value>>;

/** x [T, k], w [n, k] → [T, n]. `rounded` remembers inputs over the layers of a graph. */
export function lowPrecisionProduct(
  x: Value,
  w: Value,
  recipe: LinearRecipe,
  key: LayerKey,
  rounded: Rounded = new Map(),
): Value {
  const { forward } = recipe;
  const make = () => forwardOperand(x, forward.a, forward, key, 'x');
  // with signs of its own each layer turns x in another way
  const shared = forward.rotation?.signs !== 'random';
  const a = shared ? remembered(rounded, x, JSON.stringify(forward), make) : make();
  const b = forwardOperand(w, forward.b, forward, key, 'w');
  const y = withGradient(matmul(a, b, { transposeB: true }), backward(recipe, key));
  return finished(y, forward, key);
}

function remembered(rounded: Rounded, x: Value, name: string, make: () => Value): Value {
  const known = rounded.get(x) ?? new Map<string, Value>();
  rounded.set(x, known);
  const value = known.get(name) ?? make();
  known.set(name, value);
  return value;
}

function forwardOperand(v: Value, operand: Operand, product: ProductRecipe, key: LayerKey, name: 'x' | 'w'): Value {
  const turned = turn(v, operand, product.rotation, key);
  if (operand.format === 'f32') return turned;
  const random = randomOf(operand, key, name);
  const format = parseFormat(operand.format);
  if (operand.bound === undefined) return withGradient(quantize(turned, format, random), straightThrough);
  return withGradient(quantizeWithBits(turned, format, operand.bound, random).packed, passMarked);
}

/** Gradients pass where the bit of a value is 1. */
const passMarked: GradientRule = ({ outputs: [, bits] }, [g]) => (g ? [selectBits(g, bits)] : []);

/** The two backward products of a node matmul(a, b, transposeB). */
function backward({ gradInput, gradWeight, onWeightGradient = (g) => g }: LinearRecipe, key: LayerKey): GradientRule {
  return ({ inputs: [a, b] }, [e], [needsA, needsB]) => {
    if (!e) return [];
    const gx = () => {
      const operands: [Value, Value] = [e, swap(savedValues(b, gradInput.b))];
      return product(operands, gradInput, key, ['inputE', 'inputW']);
    };
    const gw = () => {
      const operands: [Value, Value] = [swap(e), swap(savedValues(a, gradWeight.b))];
      return onWeightGradient(product(operands, gradWeight, key, ['weightE', 'weightX']));
    };
    return [needsA ? gx() : undefined, needsB ? gw() : undefined];
  };
}

/** a [M, K] · b [N, K]ᵀ, both turned and rounded. */
function product(
  [a, b]: [Value, Value],
  recipe: ProductRecipe,
  key: LayerKey,
  names: readonly [keyof typeof streams, keyof typeof streams],
): Value {
  const round = (v: Value, operand: Operand, name: keyof typeof streams) => {
    const turned = turn(v, operand, recipe.rotation, key);
    if (operand.format === 'f32') return turned;
    return quantize(turned, parseFormat(operand.format), randomOf(operand, key, name));
  };
  const y = matmul(round(a, recipe.a, names[0]), round(b, recipe.b, names[1]), { transposeB: true });
  return finished(y, recipe, key);
}

/** What a forward operand was: its codes' values, or the tensor that they were made of. */
function savedValues(v: Value, { from = 'forward' }: Operand): Value {
  if (v.type.dtype !== 'packed') return v;
  if (from === 'forward') return dequantize(v);
  // the producer of this very value, which is a copy where the block is computed again
  const node = v.graph.nodes.findLast(({ outputs }) => outputs.includes(v));
  if (!node) throw new Error(`recipe: ${v.name} was made by no node`);
  return node.inputs[0];
}

function turn(v: Value, { outer }: Operand, rotation: Rotation | undefined, key: LayerKey): Value {
  const along = rotation ? rotate(v, rotation, key) : v;
  return outer ? swap(rotate(swap(along), outer, key)) : along;
}

/** Corrections, and rotations of the outer dimensions undone. */
function finished(y: Value, { a, b }: ProductRecipe, key: LayerKey): Value {
  const factor = (a.correction ?? 1) * (b.correction ?? 1);
  const scaled = factor === 1 ? y : affine(y, { scale: factor });
  const rows = a.outer ? swap(rotateBack(swap(scaled), a.outer, key)) : scaled;
  return b.outer ? rotateBack(rows, b.outer, key) : rows;
}

function randomOf({ format }: Operand, key: LayerKey, name: keyof typeof streams) {
  if (!isRandom(parseFormat(format))) return {};
  return { seed: key.seed, stream: key.stream + streams[name], step: key.step() };
}

/** Elements, or the scales of MS-EDEN, are rounded stochastically. */
const isRandom = (format: Format) =>
  format.kind === 'quant' && (format.rounding === 'stochastic' || format.scale.rule === 'ms-eden');

const swap = (v: Value) => transpose(v, [1, 0]);
