// One product on tensor cores as commands: the product, and the sum over pieces of K where it is cut.

import { forEachGroup, forEachItem } from '../entry.ts';
import type { Binding, Command, MemoryRange, Names, PackedOperand } from '../kernel.ts';
import { fromScratch, toScratch } from '../scratch.ts';
import { decodeSource } from '../wgsl/decode.ts';
import { boundSetup, readBound, scanScales } from './matmul-bound.ts';
import type { OperandAxis } from './matmul-operand.ts';
import {
  type SubgroupTile,
  subgroupFeatures,
  subgroupGrid,
  subgroupParameters,
  subgroupProduct,
  type TileScope,
} from './matmul-subgroup.ts';
import { mxLargest, type OperandStorage } from './operand-storage.ts';

export interface ProductSide {
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** Numbers or codes: vec4<f32>, vec4<u32>, or u32 where they are read in eights. */
  readonly numbers: Binding;
  readonly scales?: Binding;
  /** A factor of the whole operand. */
  readonly tensorScale?: Binding;
  /** The operand, where it is read in eights. */
  readonly packed?: PackedOperand;
  /** What boundCommand found of it (u32 [256]); absent where no factor is needed or scales tell it. */
  readonly bound?: MemoryRange;
  readonly batched?: boolean;
}

export interface TensorProduct {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch?: number;
  readonly a: ProductSide;
  readonly b: ProductSide;
  readonly tile: SubgroupTile;
  readonly splits: number;
  /** f32 [batch, M, N]. */
  readonly y: Binding;
  /** splits · M · N words, where splits > 1 or sums are added to y. */
  readonly pieces?: MemoryRange;
  /** Adds to y; needs pieces. */
  readonly accumulate?: boolean;
}

export function productCommands(product: TensorProduct): Command[] {
  const { M, N, K, batch = 1, tile, splits, y, pieces, accumulate = false } = product;
  const cut = splits > 1 || accumulate;
  if (cut && !pieces) throw new Error('matmul: a sum of pieces needs memory for them');
  const sides = [
    { name: 'a', ...product.a },
    { name: 'b', ...product.b },
  ] as const;
  const bindings: Record<string, Binding> = { c: cut ? toScratch(pieces!) : y };
  for (const { name, numbers, scales, tensorScale, bound } of sides) {
    bindings[name] = numbers;
    if (scales) bindings[`${name}_scales`] = scales;
    if (tensorScale) bindings[`${name}_tensor`] = tensorScale;
    if (bound) bindings[`${name}_bound`] = fromScratch(bound, 'u32');
  }
  const isFound = ({ bound, storage }: (typeof sides)[number]) => bound !== undefined || storage in mxLargest;
  const text = (names: Names) => {
    const factors = scaleSetup(
      sides.map(({ name, tensorScale }, i) =>
        [
          ...(isFound(sides[i]) ? [`${name}_inverse`] : []),
          ...(tensorScale ? [`${names[`${name}_tensor`]}[0]`] : []),
        ].join(' * '),
      ),
    );
    const side = ({ name, storage, contiguous, batched }: (typeof sides)[number]) => ({
      ...{ storage, contiguous, batched },
      array: names[name],
      scales: names[`${name}_scales`],
    });
    const part = ({ name, bound, storage }: (typeof sides)[number], scope: TileScope) => {
      if (bound) return readBound(names[`${name}_bound`]);
      return storage in mxLargest ? scanScales({ ...scope, storage, scales: names[`${name}_scales`] }) : undefined;
    };
    const found = subgroupProduct({
      ...{ M, N, K, batch, splits, tile, c: names.c, scale: factors.names },
      a: side(sides[0]),
      b: side(sides[1]),
      factors: (a, b) => {
        const setup = boundSetup(tile.subgroupsM * tile.subgroupsN, tile.lanes, [part(sides[0], a), part(sides[1], b)]);
        return { prelude: setup.prelude, body: setup.body + factors.body };
      },
    });
    const eights = sides.flatMap(({ name, packed }) =>
      packed ? [{ prefix: name, array: names[name], matrix: packed }] : [],
    );
    const decoders = eights.length > 0 ? decodeSource(eights) : '';
    return { body: found.body, prelude: factors.prelude + decoders + found.prelude };
  };
  const { count, threads } = subgroupGrid({ M, N, tile, batch, splits });
  const command: Command = {
    bindings,
    enable: subgroupFeatures,
    ...forEachGroup(
      count,
      threads,
      (names) => text(names).body,
      (names) => text(names).prelude,
      subgroupParameters,
    ),
  };
  return cut ? [command, sumCommand(pieces!, y, M * N, splits, accumulate)] : [command];
}

/** Factors of the result by side, as the uniform values that subgroup matrices are multiplied by. */
function scaleSetup(factors: readonly string[]): { prelude: string; body: string; names: string[] } {
  if (factors.every((factor) => !factor)) return { prelude: '', body: '', names: [] };
  return {
    prelude: 'var<workgroup> result_scales: vec2<f32>;\n',
    body: `
  if (thread == 0u) { result_scales = vec2<f32>(${factors.map((factor) => factor || '1.0').join(', ')}); }
  let scales = workgroupUniformLoad(&result_scales);`,
    names: factors.flatMap((factor, i) => (factor ? [`scales.${'xy'[i]}`] : [])),
  };
}

/** y = Σ pieces, or y + Σ pieces, the first piece first. */
function sumCommand(pieces: MemoryRange, y: Binding, count: number, splits: number, accumulate: boolean): Command {
  const [type, items] = count % 4 === 0 ? (['vec4<f32>', count / 4] as const) : (['f32', count] as const);
  return {
    bindings: { pieces: fromScratch(pieces, type), y: { ...y, type } },
    ...forEachItem(
      items,
      (n) => `var sum = ${accumulate ? `${n.y}[i] + ` : ''}${n.pieces}[i];
  for (var s = 1u; s < ${splits}u; s++) { sum += ${n.pieces}[s * ${items}u + i]; }
  ${n.y}[i] = sum;`,
    ),
  };
}
