// Chains of a training recipe that end in quantize, fused and op by op: GPU timestamps, and the bytes that must be read and
// written as a share of what a copy moves in the same run; numbers rounded in a second, where instructions are the bound, as
// they are for packed sources. Both ways' results are compared byte by byte; where rounding is not stochastic, rows of them
// also with the reference codec.
//
//   node bench/webgpu-quantize.ts [--rows 16384] [--cols 4096] [--only REGEX] [--robustness] [--backend null] [--init] [--threads 128]
//
// --init leaves the zeroing of workgroup memory on, as browsers have it.

import { parseArgs } from 'node:util';
import { fuseQuantize } from '../src/backends/webgpu/fuse-quantize.ts';
import { fusedQuantizeOp } from '../src/backends/webgpu/fused-quantize-op.ts';
import type { Format } from '../src/formats/format.ts';
import { quantize as quantizeRow } from '../src/formats/quantize.ts';
import { uniformSource } from '../src/formats/random.ts';
import { formatBytes, parseFormat } from '../src/formats/registry.ts';
import type { Graph, Node, Value } from '../src/graph/graph.ts';
import { hadamard } from '../src/graph/ops/hadamard.ts';
import { transpose } from '../src/graph/ops/layout.ts';
import { dequantize, quantize, quantizeWithBits } from '../src/graph/ops/quantize.ts';
import { trace } from '../src/graph/trace.ts';
import { f32 } from '../src/graph/value-type.ts';
import { copyRate } from './webgpu-copy.ts';
import { openBench } from './webgpu-gpu.ts';
import { NodeRun } from './webgpu-nodes.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '16384' },
    cols: { type: 'string', default: '4096' },
    only: { type: 'string', default: '' },
    robustness: { type: 'boolean', default: false },
    init: { type: 'boolean', default: false },
    backend: { type: 'string' },
    threads: { type: 'string' },
  },
});
const [rows, cols] = [Number(values.rows), Number(values.cols)];
const bench = await openBench({
  robustness: values.robustness,
  ...(values.backend && { backend: values.backend }),
  ...(!values.init && { enableToggles: ['disable_workgroup_init'] }),
});
console.log(
  `${bench.description}, robustness ${values.robustness ? 'on' : 'off'}, workgroup memory ${values.init ? 'zeroed' : 'not zeroed'}, source [${rows}, ${cols}]`,
);

interface Case {
  readonly format: string;
  readonly from?: string;
  readonly columns?: boolean;
  readonly block?: number;
  readonly signs?: boolean;
  readonly bound?: number;
}

const cases: Case[] = [
  { format: 'mxfp4', block: 32 },
  { format: 'mxfp4-quest-tozero', block: 32, bound: 6 },
  { format: 'mxfp4-fourthirds-sr', block: 32, signs: true },
  { format: 'mxfp4', columns: true, block: 32 },
  { format: 'mxfp4-quest-tozero', columns: true, block: 32, bound: 6 },
  { format: 'mxfp4-fourthirds-tozero', columns: true, block: 32, signs: true },
  { format: 'mxfp4-fourthirds-sr', columns: true, block: 32, signs: true },
  { format: 'mxfp4-fourthirds-tozero', from: 'mxfp4', columns: true, block: 32, signs: true },
  { format: 'mxfp4-fourthirds-sr', from: 'mxfp4', columns: true, block: 32, signs: true },
  { format: 'mxfp4', columns: true, block: 128, signs: true },
  { format: 'mxfp8-e4m3', columns: true },
  { format: 'nvfp4', block: 16, signs: true },
  { format: 'nvfp4-sr', columns: true, block: 16, signs: true },
  { format: 'nvfp4-mseden', block: 128, signs: true },
  { format: 'nvfp4-mseden', from: 'nvfp4', columns: true, block: 128, signs: true },
];

const nameOf = ({ format, from = 'f32', columns, block, signs, bound }: Case) =>
  `${from} ${columns ? 'columns' : 'rows'}${block ? ` H${block}${signs ? '±' : ''}` : ''} → ${format}${bound ? ' + bits' : ''}`;

const random = uniformSource(1, 2);
const signsOf = (block: number) => Float32Array.from({ length: block }, (_, i) => (random.at(i) < 0.5 ? -1 : 1));

/** Sums of three uniform numbers around 0, blocks of 32 of sizes from 1/16 to 8. */
function sourceValues(): Float32Array {
  const x = new Float32Array(rows * cols);
  let state = 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) | 0) / 2 ** 31;
  for (let i = 0; i < x.length; i++) x[i] = (next() + next() + next()) * 2 ** (((i >> 5) % 8) - 4);
  return x;
}

/** The chain, and its results: codes and bits. Graphs give out dense values only; the last node decodes for them. */
function graphOf({ format, from, columns, block, signs, bound }: Case): { graph: Graph; results: Value[] } {
  const results: Value[] = [];
  const graph = trace((g) => {
    const x = g.input('x', f32([rows, cols]));
    const source = from ? dequantize(quantize(x, parseFormat(from))) : x;
    const along = columns ? transpose(source, [1, 0]) : source;
    const s = signs && block ? g.input('signs', f32([block])) : undefined;
    const turned = block ? hadamard(along, { blockSize: block, signs: s }) : along;
    const key = { seed: 7, stream: 3 };
    if (bound === undefined) results.push(quantize(turned, parseFormat(format), key));
    else {
      const { packed, bits } = quantizeWithBits(turned, parseFormat(format), bound, key);
      results.push(packed, bits);
      g.output('bits', bits);
    }
    g.output('y', dequantize(results[0]));
  });
  return { graph, results };
}

/** Milliseconds of the nodes of the chain, not of what makes a packed source, and the bytes of the results. */
async function measure({ nodes, ...boundary }: Graph, results: readonly Value[], x: Float32Array, block: number) {
  const graph = { ...boundary, nodes: nodes.filter(({ inputs }) => !inputs.includes(results[0])) };
  const run = new NodeRun(bench);
  run.write(graph.inputs.get('x')!, x);
  const signs = graph.inputs.get('signs');
  if (signs) run.write(signs, signsOf(block));
  const first = graph.nodes[0];
  const isSource = (node: Node) => node === first && node.op.name === 'quantize' && graph.nodes.length > 1;
  const times = await run.run(graph, (node) => !isSource(node));
  const bytes = [];
  for (const value of results) bytes.push(await run.bytes(value));
  run.dispose();
  return { ms: [...times.values()].reduce((sum, t) => sum + t, 0), bytes };
}

/** Row r of what is rounded, in f32 and in the kernels' order. */
function turnedRow(x: Float32Array, { columns, block = 1, signs }: Case, r: number): Float32Array {
  const K = columns ? rows : cols;
  const f = Math.fround;
  const s = signs ? signsOf(block) : undefined;
  const y = Float32Array.from(
    { length: K },
    (_, k) => (columns ? x[k * cols + r] : x[r * cols + k]) * (s ? s[k % block] : 1),
  );
  for (let half = 1; half < block; half *= 2)
    for (let k = 0; k < K; k++) {
      if ((k & half) !== 0) continue;
      const [u, w] = [y[k], y[k + half]];
      y[k] = f(u + w);
      y[k + half] = f(u - w);
    }
  const factor = f(1 / Math.sqrt(block));
  return block > 1 ? y.map((v) => f(v * factor)) : y;
}

/** Whether sampled rows of codes are those of the reference; undefined where rows do not stand for themselves. */
function agrees(x: Float32Array, c: Case, format: Format, codes: Uint8Array): boolean | undefined {
  if (format.kind !== 'quant' || format.rounding === 'stochastic' || c.from) return undefined;
  if (format.scale.tensorScale && format.scale.rule !== 'four-thirds') return undefined;
  const [M, K] = c.columns ? [cols, rows] : [rows, cols];
  return [0, 1, Math.floor(M / 3), M - 1].every((r) => {
    const q = quantizeRow(turnedRow(x, c, r), 1, K, format);
    const bytes = q.codes.length;
    return q.codes.every((code, i) => codes[r * bytes + i] === code);
  });
}

const copyBytes = Math.min(2 ** 30, Math.floor(bench.gpu.bufferBytes / 16) * 16, Math.max(2 ** 24, 4 * rows * cols));
const copied = await copyRate(bench, copyBytes);

const x = sourceValues();
const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
let wrong = 0;
for (const c of cases) {
  const name = nameOf(c);
  if (!new RegExp(values.only).test(name)) continue;
  try {
    const { graph, results } = graphOf(c);
    const fused = fuseQuantize(graph, bench.gpu, values.threads ? Number(values.threads) : undefined);
    if (!fused.nodes.some(({ op }) => (op as object) === fusedQuantizeOp)) throw new Error('the chain is not fused');
    const found = await measure(fused, results, x, c.block ?? 1);
    const plain = await measure(graph, results, x, c.block ?? 1);
    const format = parseFormat(c.format);
    const [M, K] = c.columns ? [cols, rows] : [rows, cols];
    const bytes =
      (c.from ? formatBytes(parseFormat(c.from), rows, cols) : 4 * rows * cols) +
      formatBytes(format, M, K) +
      (c.bound === undefined ? 0 : (rows * cols) / 8);
    const rate = bytes / found.ms / 1e6;
    const same = found.bytes.every((result, i) => equal(result, plain.bytes[i]));
    const reference = agrees(x, c, format, found.bytes[0]);
    const verdict =
      values.backend === 'null'
        ? 'not run'
        : !same || reference === false
          ? 'WRONG'
          : reference
            ? 'equal, reference too'
            : 'equal';
    if (verdict === 'WRONG') wrong++;
    console.log(
      `${name.padEnd(48)} ${found.ms.toFixed(3)} ms  ${rate.toFixed(0)} GB/s  ${(rate / copied).toFixed(2)} of copy  ${((rows * cols) / found.ms / 1e6).toFixed(0)} G numbers/s  op by op ${plain.ms.toFixed(3)} ms (${(plain.ms / found.ms).toFixed(1)} ×)  ${verdict}`,
    );
  } catch (error) {
    wrong++;
    console.log(`${name}: ${String(error).slice(0, 300)}`);
  }
}
process.exit(wrong > 0 ? 1 : 0);
