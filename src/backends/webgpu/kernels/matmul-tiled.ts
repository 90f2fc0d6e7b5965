// Matrix product in f32 whose operands may be packed: codes are dequantized on the way into workgroup memory.
//
// A workgroup of 256 threads computes a tile of S × S results, S = 64 or 128; a thread holds (S/16)² of them. K passes
// through workgroup memory in steps of 2048/S columns as vec4 along K: 2 · 512 vec4, 16 KB. Every thread brings eight
// neighbouring values of one row of each operand: one word of four-bit codes (wgsl/decode.ts) or two vec4 of a dense
// operand that has K last; where K comes first, neighbouring threads read neighbouring numbers. Edges are filled with
// zeros. Sums run over fours of k in ascending order. No features.

import type { MatmulAttributes } from '../../../graph/ops/matmul.ts';
import { productOf } from '../../product.ts';
import { forEachGroup } from '../entry.ts';
import { type Command, dense, type EncodeContext, type Names, type Operand, read, write } from '../kernel.ts';
import { decodeSource, type PackedSource } from '../wgsl/decode.ts';

const threads = 256;
const vectors = 512;

/** A side of the product: `rows` × K values, stored with K last or first. */
interface Side {
  readonly operand: Operand;
  readonly prefix: string;
  /** Their number, in WGSL. */
  readonly rows: string;
  readonly kLast: boolean;
}

/** Vectors along K can be loaded from a dense operand. */
const hasVectors = ({ operand, kLast }: Side, K: number) => operand.dtype !== 'packed' && kLast && K % 4 === 0;

const packedSources = (sides: readonly Side[], names: Names): PackedSource[] =>
  sides.flatMap(({ operand, prefix }) =>
    operand.dtype === 'packed' ? [{ prefix, array: names[prefix], matrix: operand }] : [],
  );

/** `eight`: values k … k + 7 of row `row` of matrix `matrix` of a side. */
function loadEight(side: Side, K: number, names: Names): string {
  const { operand, prefix, rows, kLast } = side;
  const name = names[prefix];
  const row = `matrix * ${rows} + row`;
  if (operand.dtype === 'packed') {
    // Values beyond K are undefined.
    const masked = `eight.low = select(vec4f(), eight.low, vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(${K}u));
        eight.high = select(vec4f(), eight.high, vec4u(k) + vec4u(4u, 5u, 6u, 7u) < vec4u(${K}u));`;
    return `eight = ${prefix}Eight(${row}, k);
        ${K % 8 === 0 ? '' : masked}`;
  }
  if (hasVectors(side, K))
    return `let at = ((${row}) * ${K}u + k) / 4u;
        eight.low = ${name}[at];
        if (k + 4u < ${K}u) { eight.high = ${name}[at + 1u]; }`;
  const place = kLast ? `(${row}) * ${K}u + k + j` : `(matrix * ${K}u + k + j) * ${rows} + row`;
  return `for (var j = 0u; j < 8u && k + j < ${K}u; j++) {
          let value = ${name}[${place}];
          if (j < 4u) { eight.low[j] = value; } else { eight.high[j - 4u] = value; }
        }`;
}

/** Commands of a product whose operands are dense or packed. */
export function encodeTiled(context: EncodeContext): Command[] {
  const { node, inputs, outputs } = context;
  const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
  const { M, N, K, batch, batchedB } = productOf(context.node);
  const y = dense(outputs, 0);
  const left: Side = { operand: inputs[0], prefix: 'a', rows: 'words.M', kLast: !transposeA };
  const right: Side = { operand: inputs[1], prefix: 'b', rows: 'words.N', kLast: transposeB };
  const size = M > 64 && N > 64 && Math.ceil(M / 128) * Math.ceil(N / 128) * batch >= 64 ? 128 : 64;
  const [step, per] = [2048 / size, size / 16];
  const [across, down] = [Math.ceil(N / size), Math.ceil(M / size)];
  const bind = (side: Side) => (hasVectors(side, K) ? read(side.operand, 'vec4<f32>') : read(side.operand));
  const load = (side: Side, shared: string, first: string, matrix: string, names: Names) => `{
      var eight = Eight();
      let row = ${first} + thread % ${size}u;
      let k = k0 + thread / ${size}u * 8u;
      let matrix = ${matrix};
      if (row < ${side.rows} && k < ${K}u) {
        ${loadEight(side, K, names)}
      }
      let to = thread / ${size}u * ${2 * size}u + thread % ${size}u;
      ${shared}[to] = eight.low;
      ${shared}[to + ${size}u] = eight.high;
    }`;
  const prelude = (names: Names) => `${decodeSource(packedSources([left, right], names))}
var<workgroup> left: array<vec4f, ${vectors}>;
var<workgroup> right: array<vec4f, ${vectors}>;
`;
  const body = (names: Names) => `
  let n0 = item % words.across * ${size}u;
  let m0 = item / words.across % words.down * ${size}u;
  let batch = item / (words.across * words.down);
  let tm = thread / 16u * ${per}u;
  let tn = thread % 16u;
  var sums: array<array<f32, ${per}>, ${per}>;
  for (var k0 = 0u; k0 < ${K}u; k0 += ${step}u) {
    ${load(left, 'left', 'm0', 'batch', names)}
    ${load(right, 'right', 'n0', batchedB ? 'batch' : '0u', names)}
    workgroupBarrier();
    for (var k = 0u; k < ${vectors}u; k += ${size}u) {
      var columns: array<vec4f, ${per}>;
      for (var j = 0u; j < ${per}u; j++) { columns[j] = right[k + tn + 16u * j]; }
      for (var i = 0u; i < ${per}u; i++) {
        let row = left[k + tm + i];
        for (var j = 0u; j < ${per}u; j++) { sums[i][j] += dot(row, columns[j]); }
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < ${per}u; i++) {
    let m = m0 + tm + i;
    for (var j = 0u; j < ${per}u; j++) {
      let n = n0 + tn + 16u * j;
      if (m < words.M && n < words.N) { ${names.y}[(batch * words.M + m) * words.N + n] = sums[i][j]; }
    }
  }`;
  return [
    {
      bindings: { a: bind(left), b: bind(right), y: write(y) },
      words: { M, N, across, down },
      ...forEachGroup(across * down * batch, threads, body, prelude),
    },
  ];
}
