// Products of two packed integer operands on i8 subgroup matrices, where one scale holds for whole rows on both sides:
// INT8, INT4 and other integer codes with scales by row, column or tensor.
//
//   y[m, n] = f32(Σ_k a·b) · unitB · unitA · rowB[n] · rowA[m] · (tsA · tsB)
//
// The arithmetic after the exact sum is that of matmul-integer.ts, in its order, so the bits are the same with any
// setting of tensorCores but off. Codes of INT8 are loaded sixteen at a time; others pass through wgsl/decode-integers.ts.

import { elementCodec } from '../../../formats/element.ts';
import { isInt } from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import type { IntegerPlan } from '../../integer-plan.ts';
import { integerProductPlan, type Product, productOf } from '../../product.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup } from '../entry.ts';
import { type IntegerFragments, integerFragmentsOf } from '../fragments.ts';
import {
  type Binding,
  type Command,
  dense,
  type EncodeContext,
  type Names,
  type PackedOperand,
  packedOperand,
  read,
  write,
} from '../kernel.ts';
import { accessSource, valueSource } from '../wgsl/bits.ts';
import { integerSource, packedIntegerSource } from '../wgsl/decode-integers.ts';
import { integerSpec, tensorScaleOf } from './matmul-integer.ts';
import { subgroupGrid, subgroupParameters } from './matmul-subgroup.ts';
import { type IntegerTile, integerSubgroupProduct, integerTileBytes } from './matmul-subgroup-integer.ts';

/** Multiplications below which a launch on tensor cores costs more than it saves. */
export const fewestProducts = 2 ** 21;

export interface IntegerMatrixPlan extends Product {
  readonly plan: IntegerPlan;
  readonly tile: IntegerTile;
}

/** How the node runs on i8 matrices; undefined where it does not. */
export function planIntegerMatrices(node: Node, gpu: GpuTraits): IntegerMatrixPlan | undefined {
  const fragments = integerFragmentsOf(gpu);
  if (gpu.tensorCores === 'off' || !fragments) return undefined;
  const product = productOf(node);
  const { M, N, K, batch } = product;
  if (M < 16 || N < 16 || K < 32 || M * N * K * batch < fewestProducts) return undefined;
  const plan = integerProductPlan(node, product);
  if (!plan || plan.block < K || !plan.a.perRow || !plan.b.perRow) return undefined;
  return { ...product, plan, tile: tileFor(product, fragments, gpu) };
}

/**
 * Fastest of the tiles tried on an H100 (bench/webgpu-matmul.ts) that workgroup memory holds and that leave a large GPU
 * no cores without a tile.
 */
function tileFor({ M, N, batch }: Product, fragments: IntegerFragments, gpu: GpuTraits): IntegerTile {
  const of = (blockM: number, blockN: number, subgroupsN: number): IntegerTile => ({
    ...{ blockM, blockN, blockK: 64, subgroupsM: 2, subgroupsN, buffers: 1, group: 8, ...fragments },
  });
  const fits = (tile: IntegerTile) =>
    integerTileBytes(tile) <= gpu.workgroupBytes &&
    tile.lanes * tile.subgroupsM * tile.subgroupsN <= gpu.workgroupThreads;
  const [wide, square] = [of(128, 256, 4), of(128, 128, 2)];
  if (fragments.edge !== 16 || M <= 64 || N <= 64) return of(64, 64, 2);
  const tiles = Math.ceil(M / wide.blockM) * Math.ceil(N / wide.blockN) * batch;
  return tiles >= enoughTiles && fits(wide) ? wide : square;
}

/** Tiles that keep a large GPU busy. */
const enoughTiles = 128;

/** Codes are the integers themselves, and chunks of sixteen begin at whole 16-byte vectors. */
function isPlain(operand: PackedOperand): boolean {
  const spec = integerSpec(operand);
  return elementCodec(spec).bits === 8 && isInt(spec.element) && spec.zeroPoint === 'none' && operand.cols % 16 === 0;
}

/** Plain codes are bound by themselves, as vectors; this is the rest of the operand. */
function withoutCodes(operand: PackedOperand): PackedOperand {
  const { range, layout } = operand;
  const { scales, zeroPoints, tensorScale, byteLength } = layout;
  return {
    ...operand,
    range: { buffer: range.buffer, offset: range.offset + scales, bytes: byteLength - scales },
    layout: { ...layout, scales: 0, zeroPoints: zeroPoints - scales, tensorScale: tensorScale - scales },
  };
}

const codesOf = ({ range, layout }: PackedOperand): Binding => ({
  range: { ...range, bytes: layout.scales },
  access: 'read',
  type: 'vec4<u32>',
});

function sixteenSource(name: string, operand: PackedOperand, names: Names): string {
  const { cols } = operand;
  const body = isPlain(operand)
    ? `return ${names[`${name}_codes`]}[(row * ${cols}u + k) / 16u];`
    : `var high = vec2<u32>();
  if (k + 8u < ${cols}u) { high = ${name}Bytes(row, k + 8u); }
  return vec4<u32>(${name}Bytes(row, k), high);`;
  return `fn ${name}Sixteen(row: u32, k: u32) -> vec4<u32> {\n  ${body}\n}\n`;
}

export function encodeIntegerMatrices(
  { inputs, outputs, gpu }: EncodeContext,
  { M, N, K, batch, batchedB, plan, tile }: IntegerMatrixPlan,
): Command[] {
  const sides = [
    { name: 'a', whole: packedOperand(inputs, 0), perRow: plan.a.perRow },
    { name: 'b', whole: packedOperand(inputs, 1), perRow: plan.b.perRow },
  ].map((side) => ({ ...side, operand: isPlain(side.whole) ? withoutCodes(side.whole) : side.whole }));
  const bindings: Record<string, Binding> = { y: write(dense(outputs, 0)) };
  for (const { name, whole, operand } of sides) {
    bindings[name] = read(operand);
    if (isPlain(whole)) bindings[`${name}_codes`] = codesOf(whole);
  }
  const [a, b] = sides;
  const text = (n: Names) =>
    integerSubgroupProduct({
      ...{ M, N, K, batch, batchedB, tile },
      before: `let second = ${tensorScaleOf(n.a, a.operand)} * ${tensorScaleOf(n.b, b.operand)};`,
      factors: { row: 'aRowScale(row)', column: 'bRowScale(column)' },
      store: `let scaled = f32(sum) * bBlockScale(0u, 0u) * aBlockScale(0u, 0u) * columnFactor * rowFactor;
      ${n.y}[(batch * ${M}u + m) * ${N}u + n] = scaled * second;`,
    });
  const prelude = (n: Names) => `${valueSource}
${packedIntegerSource(gpu.features.has('packed_4x8_integer_dot_product'))}
${sides
  .map(
    ({ name, operand, perRow }) =>
      accessSource(name, n[name]) +
      integerSource(name, n[name], operand, integerSpec(operand), perRow) +
      sixteenSource(name, operand, n),
  )
  .join('')}${text(n).prelude}`;
  const { count, threads } = subgroupGrid({ M, N, tile, batch });
  return [
    {
      label: 'i8 matrices',
      bindings,
      enable: ['subgroups', 'chromium_experimental_subgroup_matrix'],
      ...forEachGroup(count, threads, (n) => text(n).body, prelude, subgroupParameters),
    },
  ];
}
