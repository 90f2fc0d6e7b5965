// crossEntropy with the last projection fused: N×V logits are never stored. On tensor cores: cross-entropy-tensor-cores.ts.
//
// A workgroup of 256 threads takes 64 rows of hidden and a span of the vocabulary, 64 words at a time: the logits of a
// tile stay in registers (wgsl/tile.ts), and each thread carries on maximum, sum of exponentials and the logit of the
// target for its four rows and every sixteenth word. The 16 threads of a row are combined at the end of the span (4 KB
// more of workgroup memory), the spans of a row by a second dispatch, one thread a row. Spans are short enough to give
// 512 workgroups, so that a few rows fill the GPU too, and at most 1024 words, so that sums do not depend on whether the
// weight is bound whole or in pieces, one at a time. A packed weight is decoded on the way. No features.

import { targetError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type KernelTable,
  type MemoryRange,
  type Names,
  type Operand,
  type OpKernel,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { mathSource } from '../wgsl/math.ts';
import { tileProduct, tileSide, tileSource, tilesOf, tileThreads } from '../wgsl/tile.ts';
import { weightElement, weightSource } from '../wgsl/weight.ts';
import { crossEntropyScratch, encodeCrossEntropy, planCrossEntropy } from './cross-entropy-tensor-cores.ts';

const wantedWorkgroups = 512;
/** Longest span; pieces of a weight (split-buffer.ts) are multiples of it where they can be. */
export const longestSpan = 16 * tileSide;

/** Words of a span for N rows and a vocabulary of V: a power of two of tiles, and as many workgroups as are wanted. */
export function spanOf(N: number, V: number): number {
  let span = longestSpan;
  while (span > tileSide && Math.ceil(V / span) * tilesOf(N) < wantedWorkgroups) span /= 2;
  return span;
}

// (maximum, Σ e^(logit − maximum), logit of the target or 0) of some words of the vocabulary
const runningSource = `
const lowest = -3.0e38;
fn joined(a: vec3f, b: vec3f) -> vec3f {
  let most = larger(a.x, b.x);
  return vec3f(most, a.y * expOf(a.x - most) + b.y * expOf(b.x - most), a.z + b.z);
}
`;

const prelude = `${mathSource}${tileSource}${runningSource}
var<workgroup> parts: array<vec3f, ${tileThreads}>;
fn more(run: vec3f, logits: vec4f, inside: vec4<bool>, hits: vec4<bool>) -> vec3f {
  let seen = select(vec4f(lowest), logits, inside);
  let most = larger(run.x, larger(larger(seen.x, seen.y), larger(seen.z, seen.w)));
  let terms = select(
    vec4f(),
    vec4f(expOf(logits.x - most), expOf(logits.y - most), expOf(logits.z - most), expOf(logits.w - most)),
    inside);
  let hit = select(vec4f(), logits, hits);
  return vec3f(
    most,
    run.y * expOf(run.x - most) + ((terms.x + terms.y) + (terms.z + terms.w)),
    run.z + ((hit.x + hit.y) + (hit.z + hit.w)));
}
`;

interface Operands {
  readonly hidden: DenseOperand;
  /** All words of the vocabulary, or those from `first` on. */
  readonly weight: Operand;
  readonly targets: DenseOperand;
}

/** Leaves (maximum, sum, logit of the target) for each row and span of the bound words in `partial`. */
export function passSpans(
  { hidden, weight, targets }: Operands,
  partial: MemoryRange,
  { first, span }: { first: number; span: number },
): Command {
  const [N, C] = hidden.shape;
  const V = weight.shape[0];
  const spans = Math.ceil(V / span);
  const blocks = tilesOf(N);
  const product = (n: Names) =>
    tileProduct(
      { element: (row, k) => `${n.hidden}[${row} * words.C + ${k}]`, rows: 'words.N', kLast: true },
      { ...weightElement(weight, n.weight, (row, k) => [row, k]), rows: 'end', kLast: true },
      'words.C',
    );
  const body = (n: Names) => `let m0 = item % words.blocks * ${tileSide}u;
  let chunk = item / words.blocks;
  let end = min((chunk + 1u) * words.span, words.V);
  let row0 = m0 + thread / 16u * 4u;
  var runs: array<vec3f, 4>;
  var wanted: vec4i;
  for (var j = 0u; j < 4u; j++) {
    runs[j] = vec3f(lowest, 0.0, 0.0);
    wanted[j] = ${n.targets}[min(row0 + j, words.N - 1u)] - i32(words.first);
  }
  for (var n0 = chunk * words.span; n0 < end; n0 += ${tileSide}u) {
    ${product(n)}
    let columns = vec4u(n0 + thread % 16u) + vec4u(0u, 16u, 32u, 48u);
    for (var j = 0u; j < 4u; j++) {
      runs[j] = more(runs[j], sums[j], columns < vec4u(end), vec4i(columns) == vec4i(wanted[j]));
    }
  }
  for (var j = 0u; j < 4u; j++) {
    parts[thread] = runs[j];
    workgroupBarrier();
    if (thread % 16u == 0u && row0 + j < words.N) {
      var run = parts[thread];
      for (var l = 1u; l < 16u; l++) { run = joined(run, parts[thread + l]); }
      let at = ((row0 + j) * words.spans + chunk) * 3u;
      ${n.partial}[at] = run.x;
      ${n.partial}[at + 1u] = run.y;
      ${n.partial}[at + 2u] = run.z;
    }
    workgroupBarrier();
  }`;
  return {
    bindings: { hidden: read(hidden), weight: read(weight), targets: read(targets), partial: toScratch(partial) },
    words: { N, V, C, blocks, span, spans, first },
    ...forEachGroup(blocks * spans, tileThreads, body, (n) => weightSource(weight, n.weight) + prelude),
  };
}

/** nll from what `spans` spans of V words have left for each row. */
export function joinSpans(
  targets: DenseOperand,
  partial: MemoryRange,
  nll: DenseOperand,
  V: number,
  spans: number,
): Command {
  const body = (n: Names) => `let id = ${n.targets}[i];
  if (id < 0 || u32(id) >= words.V) {
    if (id >= 0) { report(${targetError}u, id); }
    ${n.nll}[i] = 0.0;
    return;
  }
  var run = vec3f(lowest, 0.0, 0.0);
  for (var j = 0u; j < words.spans; j++) {
    let at = (i * words.spans + j) * 3u;
    run = joined(run, vec3f(${n.partial}[at], ${n.partial}[at + 1u], ${n.partial}[at + 2u]));
  }
  ${n.nll}[i] = (run.x - run.z) + logOf(run.y);`;
  return {
    bindings: { targets: read(targets), partial: fromScratch(partial), nll: write(nll) },
    words: { V, spans },
    reports: true,
    ...forEachItem(nll.shape[0], body, mathSource + runningSource),
  };
}

const crossEntropy: OpKernel = {
  scratchBytes(node, gpu) {
    const plan = planCrossEntropy(node, gpu);
    if (plan) return crossEntropyScratch(plan, false);
    const [{ type: hidden }, { type: weight }] = node.inputs;
    const [N, V] = [hidden.shape[0], weight.shape[0]];
    return scratchSize([3 * N * Math.ceil(V / spanOf(N, V))]);
  },
  encode(context) {
    const plan = planCrossEntropy(context.node, context.gpu);
    if (plan) return encodeCrossEntropy(context, plan);
    const { inputs, outputs, scratch } = context;
    const operands = { hidden: dense(inputs, 0), weight: inputs[1], targets: dense(inputs, 2) };
    const [N, V] = [operands.hidden.shape[0], operands.weight.shape[0]];
    const span = spanOf(N, V);
    const spans = Math.ceil(V / span);
    const [partial] = cutScratch(scratch, [3 * N * spans]);
    return [
      passSpans(operands, partial, { first: 0, span }),
      joinSpans(operands.targets, partial, dense(outputs, 0), V, spans),
    ];
  },
};

export const crossEntropyKernels: KernelTable = { crossEntropy };
