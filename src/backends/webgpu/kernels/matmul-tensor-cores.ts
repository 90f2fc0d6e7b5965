// Which products run on tensor cores, and their commands: bounds of the operands, the product, the sum over pieces of K.
//
//   exact   bf16, f16, MXFP4, NVFP4 and the other MX formats: f16 holds their numbers (matmul-operand.ts says how far down)
//   f16     f32, and formats whose scales are no powers of two, too: numbers are rounded to 11 bits
//
// Sums are f32. Integer dot products (matmul-integer.ts) give the bits of the other backends; these do not.
// Small products stay with the other kernels. Where C has fewer tiles than a GPU has cores, K is cut into pieces.

import type { Format } from '../../../formats/format.ts';
import type { Node, ValueType } from '../../../graph/graph.ts';
import type { MatmulAttributes } from '../../../graph/ops/matmul.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import { type Binding, type Command, dense, type EncodeContext, type Operand, read, write } from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { decodeSource } from '../wgsl/decode.ts';
import { boundCommand, boundSetup, boundWords } from './matmul-bound.ts';
import { chunkNumbers, isElementwise, type OperandAxis, type OperandStorage } from './matmul-operand.ts';
import { type SubgroupTile, subgroupFeatures, subgroupParameters, subgroupProduct } from './matmul-subgroup.ts';
import { type Product, productOf } from './matmul-tiled.ts';

export interface TensorSide {
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** The largest magnitude must be known first. */
  readonly bounded: boolean;
  /** The operand has a tensor scale that its storage leaves out. */
  readonly tensorScale: boolean;
}

export interface TensorPlan extends Product {
  readonly a: TensorSide;
  readonly b: TensorSide;
  readonly tile: SubgroupTile;
  readonly splits: number;
}

/** Multiplications below which a launch costs more than it saves. */
const fewest = 2 ** 21;
/** Workgroups that keep a large GPU busy. */
const enoughGroups = 128;

const largeTile: SubgroupTile = {
  blockM: 128,
  blockN: 128,
  blockK: 32,
  subgroupsM: 2,
  subgroupsN: 2,
  buffers: 1,
  group: 8,
};
const smallTile: SubgroupTile = { ...largeTile, blockM: 64, blockN: 64, blockK: 64 };

/** How the node runs on tensor cores; undefined where it does not. */
export function planTensorProduct(node: Node, gpu: GpuTraits): TensorPlan | undefined {
  if (gpu.tensorCores === 'off') return undefined;
  const product = productOf({ node });
  const { M, N, K, batch } = product;
  if (M < 16 || N < 16 || K < 32 || M * N * K * batch < fewest) return undefined;
  const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
  const [a, b] = node.inputs;
  const left = planSide(a.type, transposeA ? 'outer' : 'k', M, K, gpu);
  const right = planSide(b.type, transposeB ? 'k' : 'outer', N, K, gpu);
  if (!left || !right) return undefined;
  return { ...product, a: left, b: right, ...tiling(product) };
}

function tiling({ M, N, K, batch }: Product): Pick<TensorPlan, 'tile' | 'splits'> {
  const groups = (tile: SubgroupTile) => Math.ceil(M / tile.blockM) * Math.ceil(N / tile.blockN) * batch;
  const splitsOf = (tile: SubgroupTile) => {
    const wanted = Math.ceil(enoughGroups / groups(tile));
    const most = Math.floor(K / (8 * tile.blockK));
    return batch > 1 ? 1 : Math.max(1, Math.min(wanted, most));
  };
  const busy = (tile: SubgroupTile) => groups(tile) * splitsOf(tile);
  const tile = M > 64 && N > 64 && busy(largeTile) >= enoughGroups / 2 ? largeTile : smallTile;
  return { tile, splits: splitsOf(tile) };
}

function planSide(
  type: ValueType,
  contiguous: OperandAxis,
  outer: number,
  K: number,
  { tensorCores }: GpuTraits,
): TensorSide | undefined {
  const found = type.dtype === 'packed' ? packedStorage(type.format, K) : denseStorage(type.dtype);
  if (!found || (!found.exact && tensorCores !== 'f16')) return undefined;
  const { storage, tensorScale = false } = found;
  if (contiguous === 'outer' && !isElementwise(storage)) return undefined;
  if ((contiguous === 'k' ? K : outer) % chunkNumbers(storage) !== 0) return undefined;
  const bounded = !(storage === 'f16' || storage === 'nvfp4' || storage.startsWith('int4'));
  return { storage, contiguous, bounded, tensorScale };
}

interface Storage {
  readonly storage: OperandStorage;
  readonly exact: boolean;
  readonly tensorScale?: boolean;
}

const denseStorage = (dtype: string): Storage | undefined =>
  dtype === 'f32' ? { storage: 'f32', exact: false } : undefined;

function packedStorage(format: Format, K: number): Storage | undefined {
  if (format.kind === 'float') return format.name === 'f32' ? undefined : { storage: format.name, exact: true };
  if (format.kind !== 'quant') return { storage: 'eight', exact: false };
  const { element, granularity, scale, zeroPoint, choice } = format;
  const size = granularity.kind === 'group' ? granularity.size : 0;
  const { tensorScale } = scale;
  if (zeroPoint === 'none' && choice !== 'int-or-float' && K % 32 === 0) {
    if (element === 'e2m1' && size === 32 && scale.format === 'e8m0')
      return { storage: 'mxfp4', exact: true, tensorScale };
    if (element === 'e2m1' && size === 16 && scale.format === 'e4m3')
      return { storage: 'nvfp4', exact: true, tensorScale };
    if (element === 'int4' && size > 0 && size % 32 === 0 && scale.format === 'f16' && !tensorScale)
      return { storage: `int4-g${size}`, exact: false };
  }
  return { storage: 'eight', exact: scale.format === 'e8m0' && !tensorScale && zeroPoint === 'none' };
}

/** Words of scratch: bounds of both operands, and the pieces of C where K is cut. */
function scratchWords({ M, N, splits, a, b }: TensorPlan): number[] {
  return [a.bounded || b.bounded ? 2 * boundWords : 0, splits > 1 ? splits * M * N : 0];
}

export const tensorScratchBytes = (plan: TensorPlan): number => scratchSize(scratchWords(plan));

export function encodeTensorProduct({ inputs, outputs, scratch }: EncodeContext, plan: TensorPlan): Command[] {
  const { M, N, K, batch, batchedB, tile, splits } = plan;
  const y = dense(outputs, 0);
  const words = scratchWords(plan);
  const [bounds, pieces] = tensorScratchBytes(plan) > 0 ? cutScratch(scratch, words) : [];
  const sides = [
    { name: 'a', operand: inputs[0], ...plan.a },
    { name: 'b', operand: inputs[1], ...plan.b },
  ] as const;
  const bounded = sides.filter((side) => side.bounded);
  const target: Binding = splits > 1 ? toScratch(pieces) : write(y);
  const bindings: Record<string, Binding> = Object.assign({}, ...sides.map(sideBindings), {
    c: target,
    ...(bounded.length > 0 && { bounds: fromScratch(bounds, 'u32') }),
  });
  const text = (names: Readonly<Record<string, string>>) => {
    const factors = sides.map(({ name, bounded, tensorScale }) =>
      [...(bounded ? [`${name}_inverse`] : []), ...(tensorScale ? [`${names[`${name}_tensor`]}[0]`] : [])].join(' * '),
    );
    const scales = scaleSetup(factors);
    const side = (i: 0 | 1, batched: boolean) => ({
      storage: sides[i].storage,
      contiguous: sides[i].contiguous,
      array: names[sides[i].name],
      scales: names[`${sides[i].name}_scales`],
      batched,
    });
    const setup = bounded.length > 0 ? boundSetup(names.bounds, tile.subgroupsM * tile.subgroupsN) : undefined;
    const product = subgroupProduct({
      ...{ M, N, K, batch, splits, tile, c: names.c, scale: scales.names },
      a: side(0, true),
      b: side(1, batchedB),
      setup: (setup?.body ?? '') + scales.body,
    });
    return { product, prelude: (setup?.prelude ?? '') + scales.prelude + eightSource(sides, names) + product.prelude };
  };
  // sizes do not depend on names
  const { product } = text({ a: 'a', b: 'b', c: 'c', bounds: 'bounds' });
  const commands: Command[] = [
    {
      bindings,
      enable: subgroupFeatures,
      ...forEachGroup(
        product.count,
        product.threads,
        (names) => text(names).product.body,
        (names) => text(names).prelude,
        subgroupParameters,
      ),
    },
  ];
  if (bounded.length > 0) commands.unshift(boundCommand(bounded, bounds));
  if (splits > 1) commands.push(sumCommand(pieces, write(y, 'vec4<f32>'), M * N, splits, y));
  return commands;
}

type Side = TensorSide & { readonly name: 'a' | 'b'; readonly operand: Operand };

/** The arrays of an operand: numbers or codes, scales, tensor scale. */
function sideBindings({ name, operand, storage, tensorScale }: Side): Record<string, Binding> {
  if (operand.dtype !== 'packed') return { [name]: read(operand, 'vec4<f32>') };
  if (storage === 'eight') return { [name]: read(operand) };
  const { range, layout } = operand;
  const part = (first: number, bytes: number) => ({ buffer: range.buffer, offset: range.offset + first, bytes });
  const codes: Binding = { range: part(0, layout.scales || range.bytes), access: 'read', type: 'vec4<u32>' };
  const scales: Binding = {
    range: part(layout.scales, layout.zeroPoints - layout.scales),
    access: 'read',
    type: storage.startsWith('int4') ? 'f16' : 'u32',
  };
  const tensor: Binding = {
    range: part(layout.tensorScale, layout.byteLength - layout.tensorScale),
    access: 'read',
    type: 'f32',
  };
  return {
    [name]: codes,
    ...(layout.scalesBytes > 0 && { [`${name}_scales`]: scales }),
    ...(tensorScale && { [`${name}_tensor`]: tensor }),
  };
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

/** Decoders of operands that are read eight at a time. */
const eightSource = (sides: readonly Side[], names: Readonly<Record<string, string>>): string => {
  const sources = sides.flatMap(({ name, operand, storage }) =>
    storage === 'eight' && operand.dtype === 'packed' ? [{ prefix: name, array: names[name], matrix: operand }] : [],
  );
  return sources.length > 0 ? decodeSource(sources) : '';
};

/** y = Σ pieces, the first piece first. */
function sumCommand(
  pieces: Parameters<typeof fromScratch>[0],
  vectors: Binding,
  count: number,
  splits: number,
  y: Operand,
): Command {
  const four = count % 4 === 0;
  const [type, items] = four ? (['vec4<f32>', count / 4] as const) : (['f32', count] as const);
  return {
    bindings: { pieces: fromScratch(pieces, type), y: four ? vectors : write(y) },
    ...forEachItem(
      items,
      (n) => `var sum = ${n.pieces}[i];
  for (var s = 1u; s < ${splits}u; s++) { sum += ${n.pieces}[s * ${items}u + i]; }
  ${n.y}[i] = sum;`,
    ),
  };
}
