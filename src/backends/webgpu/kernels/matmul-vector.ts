// Few rows times a packed weight, as generation needs it: bound by reading the weight once.
//
// y[m, n] = Σ_k a[m, k] · w[n, k] for M ≤ 8. A cluster of L lanes, L = 4 … 32, holds four neighbouring rows of w (two
// where M > 4); lane l takes 32 values of K at a time, 16 bytes of four-bit codes, decoded once and multiplied with all
// rows of a: neighbouring lanes read neighbouring bytes. The lanes' sums are added by halving, with subgroup exchanges
// where every subgroup of the device holds whole clusters, else in workgroup memory (M · rows · 4 bytes a thread, at
// most 8 KB). Each result has a fixed order of summation. Also the product with chosen experts: there each row of a has
// the matrix of its own expert. Features: subgroups, optional.

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
import { decodeSource } from '../wgsl/decode.ts';

const threads = 128;
/** Most rows of a. */
export const mostRows = 8;

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
  const lanes = Math.min(32, Math.max(4, 2 ** Math.ceil(Math.log2(K / 32))));
  const per = M > 4 ? 2 : 4;
  const clusters = threads / lanes;
  const rowsOfGroup = clusters * per;
  const across = Math.ceil(N / rowsOfGroup);
  const subgroups = gpu.features.has('subgroups') && lanes <= gpu.subgroupMinSize;
  const vectors = K % 4 === 0;
  const sums = M * per;
  const loadA = (n: Names) =>
    vectors
      ? `low = ${n.a}[(first + k) / 4u];
        if (k + 4u < ${K}u) { high = ${n.a}[(first + k) / 4u + 1u]; }`
      : `for (var j = 0u; j < 8u && k + j < ${K}u; j++) {
          if (j < 4u) { low[j] = ${n.a}[first + k + j]; } else { high[j - 4u] = ${n.a}[first + k + j]; }
        }`;
  // Values beyond K are undefined, NaN perhaps.
  const mask =
    K % 8 === 0
      ? ''
      : `eight.low = select(vec4f(), eight.low, vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(${K}u));
          eight.high = select(vec4f(), eight.high, vec4u(k) + vec4u(4u, 5u, 6u, 7u) < vec4u(${K}u));`;
  const matrix = experts ? 'u32(expert)' : batchedB ? 'batch' : '0u';
  const choose = experts
    ? (n: Names) => `var expert = ${n.indices}[batch];
  if (u32(expert) >= ${experts.count}u) { report(${expertIndexError}u, expert); expert = 0; }`
    : () => '';
  const rowOfA = experts ? `batch / ${experts.slots}u` : `batch * ${M}u + m`;
  const reduce = subgroups
    ? `for (var half = 1u; half < ${lanes}u; half <<= 1u) {
    for (var s = 0u; s < ${sums}u; s++) { sums[s] += subgroupShuffleXor(sums[s], half); }
  }`
    : `for (var s = 0u; s < ${sums}u; s++) { parts[s * ${threads}u + thread] = sums[s]; }
  for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) {
      for (var s = 0u; s < ${sums}u; s++) { parts[s * ${threads}u + thread] += parts[s * ${threads}u + thread + half]; }
    }
  }
  workgroupBarrier();`;
  const total = (s: string) => (subgroups ? `sums[${s}]` : `parts[${s} * ${threads}u + thread - lane]`);
  const body = (n: Names) => `
  let batch = item / words.across;
  let lane = thread % ${lanes}u;
  let n0 = item % words.across * ${rowsOfGroup}u + thread / ${lanes}u * ${per}u;
  ${choose(n)}
  var sums: array<f32, ${sums}>;
  for (var k0 = lane * 32u; k0 < ${K}u; k0 += ${lanes * 32}u) {
    for (var k = k0; k < min(k0 + 32u, ${K}u); k += 8u) {
      var weights: array<Eight, ${per}>;
      for (var r = 0u; r < ${per}u; r++) {
        if (n0 + r < words.N) {
          var eight = wEight(${matrix} * words.N + n0 + r, k);
          ${mask}
          weights[r] = eight;
        }
      }
      for (var m = 0u; m < ${M}u; m++) {
        let first = (${rowOfA}) * ${K}u;
        var low = vec4f();
        var high = vec4f();
        ${loadA(n)}
        for (var r = 0u; r < ${per}u; r++) {
          sums[m * ${per}u + r] += dot(low, weights[r].low) + dot(high, weights[r].high);
        }
      }
    }
  }
  ${reduce}
  for (var s = lane; s < ${sums}u; s += ${lanes}u) {
    let column = n0 + s % ${per}u;
    if (column < words.N) { ${n.y}[(batch * ${M}u + s / ${per}u) * words.N + column] = ${total('s')}; }
  }`;
  const prelude = (n: Names) => `${decodeSource([{ prefix: 'w', array: n.w, matrix: w }])}
${subgroups ? '' : `var<workgroup> parts: array<f32, ${threads * sums}>;`}
`;
  const indices: Record<string, Binding> = experts ? { indices: read(experts.indices) } : {};
  return {
    bindings: { a: read(a, vectors ? 'vec4<f32>' : 'f32'), w: read(w), y: write(y), ...indices },
    words: { N, across },
    reports: experts !== undefined,
    enable: subgroups ? ['subgroups'] : [],
    ...forEachGroup(across * batch, threads, body, prelude),
  };
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
