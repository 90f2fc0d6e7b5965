// The product of a layer of experts under a recipe: each expert's products are those of a linear layer on its own rows.
//
// Rows are sorted by expert, each expert from a multiple of `block` on, the rest of a block zeros (ops/sort-by-expert.ts).
// Blocks of scales and rotations along the rows, which the weight gradient has and the input gradient of HALO-2, then hold
// rows of one expert. A zero stays a zero under every rounding, so what is filled up adds nothing. Everything else is
// product.ts on the sorted rows. Scales that cover a whole row of an operand or a whole tensor cover all experts
// together; a rotation of the whole row dimension is one of blocks of 64 here.

import { userError } from '../../errors.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { concat, reshape } from '../../graph/ops/layout.ts';
import { type SortedRows, sortByExpert } from '../../graph/ops/sort-by-expert.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { LayerKey } from './layer-key.ts';
import type { LinearRecipe, Operand, Rotation } from './linear-recipe.ts';
import { lowPrecisionProduct, type Rounded } from './product.ts';
import { byExperts } from './product-kind.ts';

/** Rows of a rotation that a recipe asks for over all rows. */
const wholeRows = 64;

/** What layers of one block of experts share in a graph: routings in order, and inputs in it. */
export interface SortedInputs {
  readonly routings: Map<string, SortedRows>;
  readonly inputs: Map<string, Value>;
}

export const noSortedInputs = (): SortedInputs => ({ routings: new Map(), inputs: new Map() });

/** x [N, K] or [N, k, K] through each row's experts i32 [N, k] of weight [E, M, K] → [N, k, M]. */
export function expertProduct(
  g: GraphBuilder,
  { x, weight, experts }: { x: Value; weight: Value; experts: Value },
  recipe: LinearRecipe,
  key: LayerKey,
  { sorted, rounded }: { sorted: SortedInputs; rounded: Rounded },
): Value {
  const [E, M, K] = weight.type.shape;
  checkTiles(recipe, M, K);
  const block = rowBlock(recipe);
  const routing = remembered(sorted.routings, `${experts.id} ${block}`, () =>
    sortByExpert(experts, { experts: E, block }),
  );
  const rows = remembered(sorted.inputs, `${x.id} ${experts.id} ${block}`, () => {
    const own = x.type.shape.length === 3;
    const zeros = g.constant(tensorF32([1, K], new Float32Array(K)));
    return embedding(concat([reshape(x, [-1, K]), zeros], 0), own ? routing.slots : routing.rows);
  });
  const limited = withRowBlocks(recipe, block);
  const y = lowPrecisionProduct(rows, weight, limited, key, rounded, byExperts(routing.experts, E));
  return embedding(y, routing.places);
}

function remembered<T>(known: Map<string, T>, name: string, make: () => T): T {
  const value = known.get(name) ?? make();
  known.set(name, value);
  return value;
}

/** Rows that blocks of scales and rotations along the rows ask for: all are powers of two. */
export function rowBlock({ forward, gradInput, gradWeight }: LinearRecipe): number {
  const along = ({ format }: Operand) => {
    const spec = parseFormat(format);
    if (spec.kind !== 'quant') return 1;
    const { granularity } = spec;
    return granularity.kind === 'group' ? granularity.size : granularity.kind === 'tile' ? granularity.cols : 1;
  };
  const rotations = [gradWeight.rotation, gradInput.a.outer, forward.a.outer].filter((r): r is Rotation => Boolean(r));
  const turned = rotations.map(({ block }) => (block === 'whole' ? wholeRows : block));
  return Math.max(along(gradWeight.a), along(gradWeight.b), ...turned);
}

/** The recipe with rotations along all rows cut into blocks. */
function withRowBlocks(recipe: LinearRecipe, block: number): LinearRecipe {
  const cut = (rotation: Rotation | undefined) => (rotation?.block === 'whole' ? { ...rotation, block } : rotation);
  const { forward, gradInput, gradWeight } = recipe;
  const outer = (operand: Operand): Operand => (operand.outer ? { ...operand, outer: cut(operand.outer) } : operand);
  return {
    ...recipe,
    forward: { ...forward, a: outer(forward.a) },
    gradInput: { ...gradInput, a: outer(gradInput.a) },
    gradWeight: { ...gradWeight, rotation: cut(gradWeight.rotation) },
  };
}

/** Tiles of a stack of weights must end with each expert. */
function checkTiles({ forward, gradInput }: LinearRecipe, M: number, K: number): void {
  for (const [{ format }, rows] of [
    [forward.b, M],
    [gradInput.b, K],
  ] as const) {
    const spec = parseFormat(format);
    if (spec.kind !== 'quant' || spec.granularity.kind !== 'tile' || rows % spec.granularity.rows === 0) continue;
    throw userError({
      code: 'recipe-experts',
      op: 'train',
      problem: `the tiles of ${format} do not end with the matrix of an expert`,
      got: `${rows} rows`,
      expected: `a multiple of ${spec.granularity.rows}`,
      fix: 'choose a recipe without tiles of several rows, or other sizes of the experts',
    });
  }
}
