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
import { add } from '../../graph/ops/arithmetic.ts';
import { outlierPlaces, type SparseRows, splitOutliers } from '../../graph/ops/outliers.ts';
import { quantize, quantizeWithBits, selectBits } from '../../graph/ops/quantize.ts';
import { isTransposable, transposePacked } from '../../graph/ops/transpose-packed.ts';
import { dge } from '../../graph/rounding-rules.ts';
import { forwardCodes, hasTransposedCodes, savedValues } from './backward-operand.ts';
import type { LayerKey } from './layer-key.ts';
import type { LinearRecipe, Operand, ProductRecipe } from './linear-recipe.ts';
import { finished, isRandom, type OperandName, randomOf, rounded, turn } from './operand.ts';
import { asRows, oneMatrix, type ProductKind, swap } from './product-kind.ts';

/** An operand of the forward product: codes, or values in f32; of x with outliers, those besides. */
interface ForwardOperand {
  readonly value: Value;
  /** Of the layer that made it. */
  readonly owner: LayerKey;
  readonly outliers?: SparseRows;
}

/**
 * Inputs that are rounded already, by what they were made of: layers that share an input round it once, and once more for
 * their weight gradients.
 */
export type Rounded = Map<Value, Map<string, ForwardOperand>>;

/** x [T, k], w [n, k] → [T, n]. `known` remembers inputs over the layers of a graph. */
export function lowPrecisionProduct(
  x: Value,
  w: Value,
  recipe: LinearRecipe,
  key: LayerKey,
  known: Rounded = new Map(),
  kind: ProductKind = oneMatrix,
): Value {
  const { forward } = recipe;
  const make = () => forwardOperand(turn(x, forward.a, forward.rotation, key), forward.a, key, 'x');
  // with signs of its own each layer turns x in another way
  const shared = forward.rotation?.signs !== 'random';
  const a = shared ? remembered(known, x, JSON.stringify(forward), make) : make();
  const turned = turn(w, forward.b, forward.rotation, key);
  const b = forwardOperand(turned, forward.b, key, 'w');
  const gradient = backward(recipe, key, a.owner, known, kind);
  const y = asRows(withGradient(kind.forward(a.value, b.value), gradient));
  return finished(a.outliers ? add(y, kind.residual(a.outliers, turned)) : y, forward, key);
}

function remembered(rounded: Rounded, x: Value, name: string, make: () => ForwardOperand): ForwardOperand {
  const known = rounded.get(x) ?? new Map<string, ForwardOperand>();
  rounded.set(x, known);
  const value = known.get(name) ?? make();
  known.set(name, value);
  return value;
}

function forwardOperand(turned: Value, operand: Operand, key: LayerKey, name: 'x' | 'w'): ForwardOperand {
  const { outliers, bound, slope } = operand;
  // rows of few values have none beyond their quantiles
  if (outliers !== undefined && outlierPlaces(turned.type.shape[1], outliers).most > 0) {
    const { clamped, residual } = splitOutliers(turned, outliers);
    const inner = forwardOperand(withGradient(clamped, passAll), { ...operand, outliers: undefined }, key, name);
    return { ...inner, outliers: residual };
  }
  const owner = key;
  if (operand.format === 'f32') return { value: turned, owner };
  const random = randomOf(operand, key, name);
  const format = parseFormat(operand.format);
  if (bound !== undefined)
    return { value: withGradient(quantizeWithBits(turned, format, bound, random).packed, passMarked), owner };
  return { value: withGradient(quantize(turned, format, random), slope ? dge(slope) : straightThrough), owner };
}

/** The gradient of the clamped part is that of the whole. */
const passAll: GradientRule = (_, [g]) => (g ? [g] : []);

/** Gradients pass where the bit of a value is 1. */
const passMarked: GradientRule = ({ outputs: [, bits] }, [g]) => (g ? [selectBits(g, bits)] : []);

/**
 * The two backward products of the node of the forward product. Weight gradients of layers that share an input turn it by
 * the signs of its owner and round it with the owner's numbers, once for all of them; each has the same distribution.
 */
function backward(
  recipe: LinearRecipe,
  key: LayerKey,
  owner: LayerKey,
  known: Rounded,
  kind: ProductKind,
): GradientRule {
  const { forward, gradInput, gradWeight, onWeightGradient = (g: Value) => g } = recipe;
  const weightKey: LayerKey = { ...key, signs: owner.signs };
  return ({ inputs: [a, b] }, [g], [needsA, needsB]) => {
    if (!g) return [];
    const e = asRows(g);
    let rows: Value | undefined;
    const eRows = () => (rows ??= rounded(e, gradInput.a, gradInput.rotation, key, 'inputE'));
    const saved = (codes: Value, side: 'a' | 'b', product: ProductRecipe, drawn: LayerKey, name: OperandName) => {
      if (hasTransposedCodes(codes, forward[side], product)) return transposePacked(codes);
      return rounded(swap(savedValues(codes, product.b)), product.b, product.rotation, drawn, name);
    };
    const savedWeight = () => saved(forwardCodes(b), 'b', gradInput, key, 'inputW');
    const savedInput = () => {
      const codes = forwardCodes(a);
      const make = () => ({ value: saved(codes, 'a', gradWeight, owner, 'weightX'), owner });
      return remembered(known, codes, `transposed ${JSON.stringify(gradWeight)}`, make).value;
    };
    const gx = () => finished(kind.gradInput(eRows(), savedWeight()), gradInput, key);
    const gw = () => {
      const eT = sharesCodes(recipe, e)
        ? transposePacked(eRows())
        : rounded(swap(e), gradWeight.a, gradWeight.rotation, weightKey, 'weightE');
      return onWeightGradient(finished(kind.gradWeight(eT, savedInput()), gradWeight, weightKey));
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
