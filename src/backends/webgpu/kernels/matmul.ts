// Matrix product of dense f32 operands: every transposition, batches, any sizes. Packed operands: matmul-packed.ts; large
// products on tensor cores: matmul-tensor-cores.ts.
//
// A workgroup of 256 threads computes a tile of 64 × 64 results; a thread holds 4 × 4 of them in registers. K passes
// through workgroup memory in steps of 16: 2 · 16 · 65 f32, 8.3 KB. Edges are filled with zeros. Results sum over k in
// ascending order. No features.

import { type MatmulAttributes, matmulDimensions } from '../../../graph/ops/matmul.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { encodePackedProduct } from './matmul-packed.ts';
import { encodeTensorProduct, planTensorProduct, tensorScratchBytes } from './matmul-tensor-cores.ts';

const tile = 64;
const step = 16;
const threads = 256;
const stride = tile + 1;

/**
 * Loads a [step, tile] piece of an operand, whose matrix is [rows, K] (`kLast`) or [K, rows], into shared memory as
 * [k][row]; neighbouring threads read neighbouring numbers.
 */
function load(shared: string, source: string, base: string, row0: string, rows: string, kLast: boolean) {
  const [k, row] = kLast ? [`at % ${step}u`, `at / ${step}u`] : [`at / ${tile}u`, `at % ${tile}u`];
  const place = kLast ? 'row * words.K + k' : `k * ${rows} + row`;
  return `for (var at = thread; at < ${tile * step}u; at += ${threads}u) {
      let k = k0 + ${k};
      let row = ${row0} + ${row};
      var value = 0.0;
      if (k < words.K && row < ${rows}) { value = ${source}[${base} + ${place}]; }
      ${shared}[(${k}) * ${stride}u + (${row})] = value;
    }`;
}

const matmul: OpKernel = {
  scratchBytes(node, gpu) {
    const plan = planTensorProduct(node, gpu);
    return plan ? tensorScratchBytes(plan, node) : 0;
  },
  encode(context) {
    const { node, inputs, outputs, gpu } = context;
    const plan = planTensorProduct(node, gpu);
    if (plan) return encodeTensorProduct(context, plan);
    if (inputs.some(({ dtype }) => dtype === 'packed')) return encodePackedProduct(context);
    const attributes = node.attributes as unknown as MatmulAttributes;
    const [a, b, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const { batch, batchedB, M, N, K } = matmulDimensions(a.shape, b.shape, attributes);
    // Rows of a batch that share b are one long matrix, unless a has K first.
    const joined = !batchedB && !attributes.transposeA;
    const rows = joined ? elementCount(batch) * M : M;
    const batches = joined ? 1 : elementCount(batch);
    const [across, down] = [Math.ceil(N / tile), Math.ceil(rows / tile)];
    const prelude = `
var<workgroup> left: array<f32, ${step * stride}>;
var<workgroup> right: array<f32, ${step * stride}>;
`;
    const body = (n: Names) => `
  let n0 = item % words.across * ${tile}u;
  let m0 = item / words.across % words.down * ${tile}u;
  let batch = item / words.across / words.down;
  let aBase = batch * words.rows * words.K;
  let bBase = ${batchedB ? 'batch * words.N * words.K' : '0u'};
  let tm = thread / 16u * 4u;
  let tn = thread % 16u;
  var sums: array<vec4f, 4>;
  for (var k0 = 0u; k0 < words.K; k0 += ${step}u) {
    ${load('left', n.a, 'aBase', 'm0', 'words.rows', !attributes.transposeA)}
    ${load('right', n.b, 'bBase', 'n0', 'words.N', attributes.transposeB)}
    workgroupBarrier();
    for (var k = 0u; k < ${step}u; k++) {
      let at = k * ${stride}u + tn;
      let row = vec4f(right[at], right[at + 16u], right[at + 32u], right[at + 48u]);
      for (var j = 0u; j < 4u; j++) { sums[j] += left[k * ${stride}u + tm + j] * row; }
    }
    workgroupBarrier();
  }
  for (var j = 0u; j < 4u; j++) {
    let m = m0 + tm + j;
    for (var l = 0u; l < 4u; l++) {
      let column = n0 + tn + 16u * l;
      if (m < words.rows && column < words.N) { ${n.y}[(batch * words.rows + m) * words.N + column] = sums[j][l]; }
    }
  }`;
    const count = across * down * batches;
    return [
      {
        bindings: { a: read(a), b: read(b), y: write(y) },
        words: { rows, N, K, across, down },
        ...forEachGroup(count, threads, body, prelude),
      },
    ];
  },
};

export const matmulKernels: KernelTable = { matmul };
