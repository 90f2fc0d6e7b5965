// Few rows times a packed weight, as generation needs it (vector-product.ts): commands, and how threads share the work.
//
// y[m, n] = Σ_k a[m, k] · w[n, k] for M ≤ 8. Also the product with chosen experts: there each row of a has the matrix of
// its own expert. At most 16 KB of workgroup memory. Features, both optional: shader-f16, for weights in four-bit groups
// (vector-weight.ts); subgroups.

import type { Shape } from '../../../tensor/shape.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import type { Product } from '../../product.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Binding,
  type Command,
  type DenseOperand,
  dense,
  type EncodeContext,
  type Names,
  type PackedOperand,
  packedOperand,
  read,
  write,
} from '../kernel.ts';
import { rowsOfGroup, type VectorTile, vectorProduct } from './vector-product.ts';
import { eightsWeight, fourBitWeight, hasFourBitSteps, type VectorWeight } from './vector-weight.ts';

/** Most rows of a. */
export const mostRows = 8;

const workgroupBytes = 16_384;

/** Workgroups that keep a large GPU busy. */
const enoughGroups = 192;

interface Experts {
  readonly indices: DenseOperand;
  readonly count: number;
  /** Results that share a row of a. */
  readonly slots: number;
}

interface Operands {
  readonly a: DenseOperand;
  readonly w: PackedOperand;
  readonly y: DenseOperand;
  readonly experts?: Experts;
}

export function encodeVector({ a, w, y, experts }: Operands, p: Product, gpu: GpuTraits): Command {
  const { M, N, K, batch, batchedB } = p;
  const { bindings, enable, unit, weight } = readWeight(w, K, gpu);
  const { subgroups, ...tile } = vectorTile(p, unit, gpu);
  const across = Math.ceil(N / rowsOfGroup(tile));
  const text = (n: Names) =>
    vectorProduct({
      ...{ M, K, tile, subgroups },
      N: 'words.N',
      across: 'words.across',
      weight: weight(n),
      a: n.a,
      y: n.y,
      rowOfA: (m) => (experts ? `batch / ${experts.slots}u` : `batch * ${M}u + ${m}`),
      matrix: experts ? 'u32(expert)' : batchedB ? 'batch' : '0u',
      setup: experts
        ? `var expert = ${n.indices}[batch];
  if (u32(expert) >= ${experts.count}u) { report(${expertIndexError}u, expert); expert = 0; }`
        : '',
    });
  return {
    bindings: {
      a: read(a, K % 4 === 0 ? 'vec4<f32>' : 'f32'),
      ...bindings,
      y: write(y),
      ...(experts && { indices: read(experts.indices) }),
    },
    words: { N, across },
    reports: experts !== undefined,
    enable: [...enable, ...(subgroups ? ['subgroups'] : [])],
    ...forEachGroup(
      across * batch,
      tile.threads,
      (n) => text(n).body,
      (n) => text(n).prelude,
    ),
  };
}

interface WeightReading {
  readonly bindings: Readonly<Record<string, Binding>>;
  readonly enable: readonly string[];
  readonly unit: VectorWeight['unit'];
  weight(n: Names): VectorWeight;
}

function readWeight(w: PackedOperand, K: number, gpu: GpuTraits): WeightReading {
  const { format, layout, range } = w;
  if (!gpu.features.has('shader-f16') || !hasFourBitSteps(format, K))
    return { bindings: { w: read(w) }, enable: [], unit: 8, weight: (n) => eightsWeight(n.w, w) };
  const part = (first: number, next: number, type: Binding['type']): Binding => ({
    range: { buffer: range.buffer, offset: range.offset + first, bytes: next - first },
    access: 'read',
    type,
  });
  return {
    bindings: { w: part(0, layout.scales, 'vec4<u32>'), scales: part(layout.scales, layout.byteLength, 'u32') },
    enable: ['f16'],
    unit: 32,
    weight: (n) =>
      fourBitWeight(format, K, {
        codes: n.w,
        scales: n.scales,
        tensorScale: (layout.tensorScale - layout.scales) / 4,
      }),
  };
}

/** How threads share a product whose weight is read in units. */
export function vectorTile(
  { M, N, K, batch }: Pick<Product, 'M' | 'N' | 'K' | 'batch'>,
  unit: VectorWeight['unit'],
  gpu: Pick<GpuTraits, 'features' | 'subgroupMinSize' | 'workgroupThreads'>,
): VectorTile & { subgroups: boolean } {
  const units = Math.ceil(K / unit);
  const wanted = Math.min(32, Math.max(4, 2 ** Math.ceil(Math.log2(units))));
  const subgroups = gpu.features.has('subgroups') && wanted <= gpu.subgroupMinSize;
  const rows = M > 4 ? 2 : 4;
  const groups = (threads: number) => Math.ceil(N / ((threads / wanted) * rows)) * batch;
  let threads = M === 1 ? Math.min(512, gpu.workgroupThreads) : 128;
  while (threads > 64 && groups(threads) < enoughGroups) threads /= 2;
  const left = workgroupBytes - (subgroups ? 0 : threads * M * rows * 4);
  const most = Math.floor(left / (4 * M * unit));
  const lanes = Math.min(wanted, 2 ** Math.floor(Math.log2(most)));
  // whole turns of the lanes, as many in each segment
  const turn = Math.max(8, lanes);
  const segments = Math.ceil(units / (Math.floor(most / turn) * turn));
  const segment = Math.ceil(units / segments / turn) * turn;
  return { rows, threads, lanes, segment, subgroups };
}

/** expertMatmul with packed weights [E, M, K]: a matrix-vector product for every row and slot. */
export function encodePackedExperts({ inputs, outputs, gpu }: EncodeContext): Command[] {
  const [a, w, indices, y] = [dense(inputs, 0), packedOperand(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
  const [count, N, K] = w.shape;
  const slots = (shape: Shape) => shape[shape.length - 1];
  const experts = { indices, count, slots: a.shape.length === 2 ? slots(indices.shape) : 1 };
  const product = { M: 1, N, K, batch: elementCount(indices.shape), batchedB: true };
  return [encodeVector({ a, w, y, experts }, product, gpu)];
}
