// The product of a linear layer under a recipe, with the gradients that the recipe says.
//
// Forward: both operands are rotated, rounded to packed codes and multiplied. What the backward pass keeps are these
// codes (and bits where gradients are masked), not the tensors, unless an operand asks for the tensor itself. The rule of
// the product makes the two backward products; masks and the rotation back are the rules of the nodes before it. A backward
// operand that is what the forward product saw, along its other dimension, is made of the forward codes themselves where
// the format allows (backward-operand.ts).
//
// Random numbers: quantizations draw from the seed, a stream for each layer and operand, and the input `roundingStep`, the
// number of the batch; random signs are rows of the input `signs`. Both are the same on every backend and on resume.

import { parseFormat } from '../../formats/registry.ts';
import { straightThrough, withGradient } from '../../graph/gradient-rules.ts';
import type { GradientRule, Value } from '../../graph/graph.ts';
import { quantize, quantizeWithBits, selectBits } from '../../graph/ops/quantize.ts';
import { isTransposable, transposePacked } from '../../graph/ops/transpose-packed.ts';
import { forwardCodes, hasTransposedCodes, savedValues } from './backward-operand.ts';
import type { LayerKey } from './layer-key.ts';
import type { LinearRecipe, ProductRecipe } from './linear-recipe.ts';
import { finished, isRandom, type OperandName, randomOf, rounded, turn } from './operand.ts';
import { asRows, oneMatrix, type ProductKind, swap } from './product-kind.ts';

/** Values that are rounded already, by what they were made of: layers that share an input round it once. */
export type Rounded = Map<Value, Map<string, Value>>;

/** x [T, k], w [n, k] → [T, n]. `rounded` remembers inputs over the layers of a graph. */
export function lowPrecisionProduct(
  x: Value,
  w: Value,
  recipe: LinearRecipe,
  key: LayerKey,
  known: Rounded = new Map(),
  kind: ProductKind = oneMatrix,
): Value {
  const { forward } = recipe;
  const make = () => forwardOperand(x, forward, 'a', key);
  // with signs of its own each layer turns x in another way
  const shared = forward.rotation?.signs !== 'random';
  const a = shared ? remembered(known, x, JSON.stringify(forward), make) : make();
  const b = forwardOperand(w, forward, 'b', key);
  const y = withGradient(kind.forward(a, b), backward(recipe, key, kind));
  return finished(asRows(y), forward, key);
}

function remembered(rounded: Rounded, x: Value, name: string, make: () => Value): Value {
  const known = rounded.get(x) ?? new Map<string, Value>();
  rounded.set(x, known);
  const value = known.get(name) ?? make();
  known.set(name, value);
  return value;
}

function forwardOperand(v: Value, product: ProductRecipe, side: 'a' | 'b', key: LayerKey): Value {
  const operand = product[side];
  const turned = turn(v, operand, product.rotation, key);
  if (operand.format === 'f32') return turned;
  const random = randomOf(operand, key, side === 'a' ? 'x' : 'w');
  const format = parseFormat(operand.format);
  if (operand.bound === undefined) return withGradient(quantize(turned, format, random), straightThrough);
  return withGradient(quantizeWithBits(turned, format, operand.bound, random).packed, passMarked);
}

/** Gradients pass where the bit of a value is 1. */
const passMarked: GradientRule = ({ outputs: [, bits] }, [g]) => (g ? [selectBits(g, bits)] : []);

/** The two backward products of the node of the forward product. */
function backward(recipe: LinearRecipe, key: LayerKey, kind: ProductKind): GradientRule {
  const { forward, gradInput, gradWeight, onWeightGradient = (g: Value) => g } = recipe;
  return ({ inputs: [a, b] }, [g], [needsA, needsB]) => {
    if (!g) return [];
    const e = asRows(g);
    let rows: Value | undefined;
    const eRows = () => (rows ??= rounded(e, gradInput.a, gradInput.rotation, key, 'inputE'));
    const saved = (v: Value, side: 'a' | 'b', product: ProductRecipe, name: OperandName) => {
      const codes = forwardCodes(v);
      if (hasTransposedCodes(codes, forward[side], product)) return transposePacked(codes);
      return rounded(swap(savedValues(codes, product.b)), product.b, product.rotation, key, name);
    };
    const gx = () => finished(kind.gradInput(eRows(), saved(b, 'b', gradInput, 'inputW')), gradInput, key);
    const gw = () => {
      const eT = sharesCodes(recipe, e)
        ? transposePacked(eRows())
        : rounded(swap(e), gradWeight.a, gradWeight.rotation, key, 'weightE');
      return onWeightGradient(finished(kind.gradWeight(eT, saved(a, 'a', gradWeight, 'weightX')), gradWeight, key));
    };
    return [needsA ? gx() : undefined, needsB ? gw() : undefined];
  };
}

/** Whether both backward products round e to the same codes. */
function sharesCodes({ gradInput, gradWeight }: LinearRecipe, e: Value): boolean {
  const { format } = gradInput.a;
  if (format !== gradWeight.a.format || isRandom(parseFormat(format))) return false;
  if ([gradInput, gradWeight].some(({ a, rotation }) => rotation || a.outer)) return false;
  return isTransposable(parseFormat(format), e.type.shape);
}
