// Which products run on tensor cores, with which tiles; commands: bounds of the operands, then the product.
//
//   exact   bf16, f16, MXFP4, NVFP4, the other MX formats, FP8 with one scale: f16 holds their numbers
//           (matmul-operand.ts says how far down)
//   f16     f32, and formats whose scales are no powers of two, too: numbers are rounded to 11 bits
//
// Sums are f32. Integer dot products (matmul-integer.ts, matmul-integer-matrices.ts) give the bits of the other backends;
// these do not.
// Small products stay with the other kernels. Where C has fewer tiles than a GPU has cores, K is cut into pieces.

import type { Format } from '../../../formats/format.ts';
import type { Node, ValueType } from '../../../graph/graph.ts';
import type { MatmulAttributes } from '../../../graph/ops/matmul.ts';
import { type Product, productOf } from '../../product.ts';
import type { GpuTraits } from '../device.ts';
import { type Fragments, fragmentsOf } from '../fragments.ts';
import {
  type Binding,
  type Command,
  dense,
  type ElementType,
  type EncodeContext,
  type Operand,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, scratchSize } from '../scratch.ts';
import { decodedWords, decodeOperand, decodesFirst } from './decode-operand.ts';
import { boundCommand, boundWords } from './matmul-bound.ts';
import { fewestProducts, planIntegerMatrices } from './matmul-integer-matrices.ts';
import type { OperandAxis } from './matmul-operand.ts';
import type { SubgroupTile } from './matmul-subgroup.ts';
import { chunkNumbers, isElementwise, mxLargest, type OperandStorage } from './operand-storage.ts';
import { type ProductSide, productCommands } from './tensor-product.ts';

export interface TensorSide {
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** The largest magnitude must be known before the product; where scales tell it, products read them. */
  readonly bounded: boolean;
  /** The operand has a scale of its own that its storage leaves out. */
  readonly tensorScale: boolean;
}

export interface TensorPlan extends Product {
  readonly a: TensorSide;
  readonly b: TensorSide;
  readonly tile: SubgroupTile;
  readonly splits: number;
  /** The packed operand that is decoded before the product (decode-operand.ts). */
  readonly decoded?: 'a' | 'b';
}

/** Workgroups that keep a large GPU busy. */
const enoughGroups = 256;

/** Fastest for large products on an H100 (bench/webgpu-matmul.ts). */
const largeShape = {
  blockM: 128,
  blockN: 128,
  blockK: 32,
  subgroupsM: 2,
  subgroupsN: 2,
  buffers: 1,
  group: 8,
} as const;
const smallShape = { ...largeShape, blockM: 64, blockN: 64, blockK: 64 } as const;

/** The tile of large products. Accumulators of 8 × 8 would be 256 in a subgroup's part of the large shape. */
export const largestTile = (fragments: Fragments): SubgroupTile => ({
  ...(fragments.edge === 16 ? largeShape : smallShape),
  ...fragments,
});

/** How the node runs on tensor cores; undefined where it does not. */
export function planTensorProduct(node: Node, gpu: GpuTraits): TensorPlan | undefined {
  const fragments = fragmentsOf(gpu);
  if (gpu.tensorCores === 'off' || !fragments) return undefined;
  const product = productOf(node);
  const { M, N, K, batch } = product;
  if (M < 16 || N < 16 || K < 32 || M * N * K * batch < fewestProducts) return undefined;
  const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
  const [a, b] = node.inputs;
  const left = planSide(a.type, transposeA ? 'outer' : 'k', M, K, gpu);
  const right = planSide(b.type, transposeB ? 'k' : 'outer', N, K, gpu);
  if (!left || !right || planIntegerMatrices(node, gpu)) return undefined;
  const decoded = decodedFirst(product, left, right, gpu);
  const sided = (name: 'a' | 'b', side: TensorSide) =>
    decoded === name && side.storage in mxLargest ? { ...side, bounded: true } : side;
  return { ...product, a: sided('a', left), b: sided('b', right), ...tiling(product, fragments), decoded };
}

/** Bytes of scratch memory that an operand may be decoded into. */
const mostDecoded = 2 ** 28;

/** Which operand is decoded first; none where its f16 would take much memory. */
function decodedFirst(
  { M, N, K, batch }: Product,
  a: TensorSide,
  b: TensorSide,
  gpu: GpuTraits,
): 'a' | 'b' | undefined {
  const most = Math.min(mostDecoded, gpu.bufferBytes);
  const fits = (lines: number) => batch === 1 && 4 * decodedWords(lines, K) <= most;
  if (decodesFirst(b.storage, a.storage, M) && fits(N)) return 'b';
  if (decodesFirst(a.storage, b.storage, N) && fits(M)) return 'a';
  return undefined;
}

export function tiling(
  { M, N, K, batch }: Pick<Product, 'M' | 'N' | 'K' | 'batch'>,
  fragments: Fragments,
): Pick<TensorPlan, 'tile' | 'splits'> {
  const groups = (tile: SubgroupTile) => Math.ceil(M / tile.blockM) * Math.ceil(N / tile.blockN) * batch;
  const splitsOf = (tile: SubgroupTile) => {
    const wanted = Math.ceil(enoughGroups / groups(tile));
    const most = Math.floor(K / (8 * tile.blockK));
    return batch > 1 ? 1 : Math.max(1, Math.min(wanted, most));
  };
  const busy = (tile: SubgroupTile) => groups(tile) * splitsOf(tile);
  const large = largestTile(fragments);
  const isLarge = M > 64 && N > 64 && busy(large) >= enoughGroups / 4;
  const tile = isLarge ? large : { ...smallShape, ...fragments };
  return { tile, splits: splitsOf(tile) };
}

export function planSide(
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
  const bounded = ['f32', 'bf16', 'eight'].includes(storage);
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
  const fp8 = element === 'e4m3' || element === 'e5m2' ? (`fp8-${element}` as const) : undefined;
  if (fp8 && granularity.kind === 'tensor' && scale.format === 'f32' && !tensorScale)
    return { storage: fp8, exact: true, tensorScale: true };
  if (zeroPoint === 'none' && choice !== 'int-or-float' && K % 32 === 0) {
    if (fp8 && size === 32 && scale.format === 'e8m0') return { storage: `mx${fp8}`, exact: true, tensorScale };
    if (element === 'e2m1' && size === 32 && scale.format === 'e8m0')
      return { storage: 'mxfp4', exact: true, tensorScale };
    if (element === 'e2m1' && size === 16 && scale.format === 'e4m3')
      return { storage: 'nvfp4', exact: true, tensorScale };
    if (element === 'int4' && size > 0 && size % 32 === 0 && scale.format === 'f16' && !tensorScale)
      return { storage: `int4-g${size}`, exact: false };
  }
  return { storage: 'eight', exact: scale.format === 'e8m0' && !tensorScale && zeroPoint === 'none' };
}

/** Words of scratch: bounds that no node has found, the pieces of C where K is cut, a decoded operand. */
function scratchWords({ M, N, K, splits, a, b, decoded }: TensorPlan, { inputs }: Pick<Node, 'inputs'>): number[] {
  const own = inputs.length === 2;
  const bounds = [a, b].map(({ bounded }) => (own && bounded ? boundWords : 0));
  return [...bounds, splits > 1 ? splits * M * N : 0, decoded ? decodedWords(decoded === 'a' ? M : N, K) : 0];
}

export const tensorScratchBytes = (plan: TensorPlan, node: Node): number => scratchSize(scratchWords(plan, node));

/** Inputs behind a and b are what bound nodes found of those operands that need it (share-bounds.ts), in order. */
export function encodeTensorProduct({ node, inputs, outputs, scratch }: EncodeContext, plan: TensorPlan): Command[] {
  const { M, N, K, batch, batchedB, tile, splits, decoded } = plan;
  const space = tensorScratchBytes(plan, node) > 0 ? cutScratch(scratch, scratchWords(plan, node)) : [];
  const [, , pieces, memory] = space;
  const sides = [
    { ...plan.a, operand: inputs[0] },
    { ...plan.b, operand: inputs[1] },
  ];
  const found = inputs.slice(2);
  const bounds = sides.map(({ bounded }, i) => (bounded ? (found.shift()?.range ?? space[i]) : undefined));
  const stored = {
    a: { ...productSide(sides[0].operand, sides[0]), bound: bounds[0], batched: true },
    b: { ...productSide(sides[1].operand, sides[1]), bound: bounds[1], batched: batchedB },
  };
  const first = decoded && decodeOperand(decoded, stored[decoded], [decoded === 'a' ? M : N, K], tile.lanes, memory);
  const commands = [
    ...(first ? [first.command] : []),
    ...productCommands({
      ...{ M, N, K, batch, tile, splits, pieces },
      ...stored,
      ...(first && { [decoded]: first.side }),
      y: write(dense(outputs, 0)),
    }),
  ];
  if (inputs.length > 2) return commands;
  const own = sides.flatMap(({ operand, storage }, i) => {
    const bound = bounds[i];
    return bound ? [boundCommand(operand, storage, bound)] : [];
  });
  return [...own, ...commands];
}

/** The arrays of an operand as a product reads them: numbers or codes, scales, tensor scale. */
export function productSide(operand: Operand, { storage, contiguous, tensorScale }: TensorSide): ProductSide {
  const common = { storage, contiguous };
  if (operand.dtype !== 'packed') return { ...common, numbers: read(operand, 'vec4<f32>') };
  if (storage === 'eight') return { ...common, numbers: read(operand), packed: operand };
  const { range, layout } = operand;
  const part = (first: number, next: number, type: ElementType): Binding => ({
    range: { buffer: range.buffer, offset: range.offset + first, bytes: next - first },
    access: 'read',
    type,
  });
  return {
    ...common,
    numbers: part(0, layout.scales, 'vec4<u32>'),
    ...(layout.scalesBytes > 0 &&
      !storage.startsWith('fp8') && {
        scales: part(layout.scales, layout.zeroPoints, storage.startsWith('int4') ? 'f16' : 'u32'),
      }),
    ...(tensorScale && {
      tensorScale: storage.startsWith('fp8')
        ? part(layout.scales, layout.zeroPoints, 'f32')
        : part(layout.tensorScale, layout.byteLength, 'f32'),
    }),
  };
}
