// Matrix product of two packed operands by exact integer dot products, with the bits of the WASM backend.
//
//   y[m, n] = Σ_blocks (f32(Σ_k∈block a·b) · scaleB[n, block]) · scaleA[m, block]  · rowB[n] · rowA[m] · (tsA · tsB)
//
// Every product and sum but the integer one is rounded to f32, blocks in order, first within runs of `fold` blocks
// (src/backends/integer-plan.ts says what a block and a run are). Where products of block sums and scales are not exact,
// they are kept from being fused with the addition.
// A workgroup of 256 threads computes 64 × 64 results, a thread 4 × 4. K passes through workgroup memory in steps of 32
// integers as bytes: a thread brings eight of each operand, one word of four-bit codes or two of eight-bit ones, and the
// scales of the step's blocks. Workgroup memory: 2 · 256 vec2u and 2 · 64 f32 a block, at most 6 KB.
// Features: packed_4x8_integer_dot_product (dp4a), optional.

import type { QuantSpec } from '../../../formats/format.ts';
import type { Node } from '../../../graph/graph.ts';
import type { IntegerPlan, IntegerSide } from '../../integer-plan.ts';
import { integerProductPlan, type Product } from '../../product.ts';
import { forEachGroup } from '../entry.ts';
import { type Command, dense, type EncodeContext, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { accessSource, valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { integerSource, packedIntegerSource } from '../wgsl/decode-integers.ts';

const size = 64;
const step = 32;
const threads = 256;

/** The plan of a product, where this kernel can follow it: blocks of 8, 16, multiples of 32 or whole rows. */
export function dotPlan(node: Node, product: Product): IntegerPlan | undefined {
  const plan = integerProductPlan(node, product);
  if (!plan) return undefined;
  const { block } = plan;
  return block === 8 || block === 16 || block % step === 0 || block >= product.K ? plan : undefined;
}

export function integerSpec({ format }: PackedOperand): QuantSpec {
  if (format.kind === 'quant') return format;
  throw new Error('webgpu: a product was planned as integers of a format that has none');
}

/** The tensor scale of an operand that is bound as `array`; 1 where it has none. */
export const tensorScaleOf = (array: string, operand: PackedOperand): string =>
  integerSpec(operand).scale.tensorScale ? `bitcast<f32>(${array}[${operand.layout.tensorScale / 4}u])` : '1.0';

export function encodeInteger(
  { inputs, outputs, gpu }: EncodeContext,
  { M, N, K, batch, batchedB }: Product,
  plan: IntegerPlan,
): Command[] {
  const [a, b] = inputs as [PackedOperand, PackedOperand];
  const y = dense(outputs, 0);
  const [across, down] = [Math.ceil(N / size), Math.ceil(M / size)];
  const part = Math.min(plan.block, step);
  const parts = step / part;
  const ends = plan.block <= step ? 'true' : `(k0 + ${step}u) % ${plan.block}u == 0u || k0 + ${step}u >= ${K}u`;
  const block = `(k0 + part * ${part}u) / ${plan.block}u`;
  const side = (p: string, n: Names, operand: PackedOperand, { perRow }: IntegerSide) =>
    accessSource(p, n[p]) + integerSource(p, n[p], operand, integerSpec(operand), perRow);
  const prelude = (n: Names) => `${valueSource}${unfusedSource}
${packedIntegerSource(gpu.features.has('packed_4x8_integer_dot_product'))}
${side('a', n, a, plan.a)}${side('b', n, b, plan.b)}
var<workgroup> left: array<vec2u, ${(size * step) / 8}>;
var<workgroup> right: array<vec2u, ${(size * step) / 8}>;
var<workgroup> leftScales: array<f32, ${size * parts}>;
var<workgroup> rightScales: array<f32, ${size * parts}>;
`;
  const load = (p: string, shared: string, first: string, rows: string, matrix: string) => `{
      let row = ${first} + thread % ${size}u;
      let k = k0 + thread / ${size}u * 8u;
      var bytes = vec2u();
      if (row < ${rows} && k < ${K}u) { bytes = ${p}Bytes(${matrix} * ${rows} + row, k); }
      ${shared}[thread] = bytes;
      for (var i = thread; i < ${size * parts}u; i += ${threads}u) {
        let scaled = min(${first} + i % ${size}u, ${rows} - 1u);
        let at = min(k0 + i / ${size}u * ${part}u, ${K - 1}u);
        ${shared}Scales[i] = ${p}BlockScale(${matrix} * ${rows} + scaled, at);
      }
    }`;
  const scaled = 'f32(sums[i][j]) * columnScale[j] * rowScale';
  const product = plan.exact ? scaled : `unfused(vec4f(${scaled})).x`;
  const addBlock =
    plan.fold === 1
      ? `results[i][j] += ${product};`
      : `runs[i][j] += ${product};
            if (${block} % ${plan.fold}u == ${plan.fold - 1}u) { results[i][j] += runs[i][j]; runs[i][j] = 0.0; }`;
  const body = (n: Names) => `
  let n0 = item % words.across * ${size}u;
  let m0 = item / words.across % words.down * ${size}u;
  let batch = item / (words.across * words.down);
  let tm = thread / 16u * 4u;
  let tn = thread % 16u;
  var sums: array<array<i32, 4>, 4>;
  ${plan.fold > 1 ? 'var runs: array<array<f32, 4>, 4>;' : ''}
  var results: array<array<f32, 4>, 4>;
  for (var k0 = 0u; k0 < ${K}u; k0 += ${step}u) {
    ${load('a', 'left', 'm0', 'words.M', 'batch')}
    ${load('b', 'right', 'n0', 'words.N', batchedB ? 'batch' : '0u')}
    workgroupBarrier();
    for (var part = 0u; part < ${parts}u; part++) {
      for (var at = part * ${part / 8}u; at < (part + 1u) * ${part / 8}u; at++) {
        var columns: array<vec2u, 4>;
        for (var j = 0u; j < 4u; j++) { columns[j] = right[at * ${size}u + tn + 16u * j]; }
        for (var i = 0u; i < 4u; i++) {
          let row = left[at * ${size}u + tm + i];
          for (var j = 0u; j < 4u; j++) { sums[i][j] += dot4(row.x, columns[j].x) + dot4(row.y, columns[j].y); }
        }
      }
      if ((${ends}) && k0 + part * ${part}u < ${K}u) {
        var columnScale: array<f32, 4>;
        for (var j = 0u; j < 4u; j++) { columnScale[j] = rightScales[part * ${size}u + tn + 16u * j]; }
        for (var i = 0u; i < 4u; i++) {
          let rowScale = leftScales[part * ${size}u + tm + i];
          for (var j = 0u; j < 4u; j++) {
            ${addBlock}
            sums[i][j] = 0;
          }
        }
      }
    }
    workgroupBarrier();
  }
  let second = ${tensorScaleOf(n.a, a)} * ${tensorScaleOf(n.b, b)};
  for (var i = 0u; i < 4u; i++) {
    let m = m0 + tm + i;
    for (var j = 0u; j < 4u; j++) {
      let column = n0 + tn + 16u * j;
      if (m < words.M && column < words.N) {
        let row = batch * words.M + m;
        let scaled = results[i][j] * bRowScale(${batchedB ? 'batch * words.N + ' : ''}column) * aRowScale(row);
        ${n.y}[row * words.N + column] = scaled * second;
      }
    }
  }`;
  return [
    {
      bindings: { a: read(a), b: read(b), y: write(y) },
      words: { M, N, across, down },
      ...forEachGroup(across * down * batch, threads, body, prelude),
    },
  ];
}
