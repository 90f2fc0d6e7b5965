// Gradients of attention without T×S scores in memory: probabilities are computed again (Dao et al. 2022,
// "FlashAttention", section 3.1, and Dao 2023, "FlashAttention-2", section 3.1).
//
// Three dispatches over tiles of pairs of a query row and a key (wgsl/attention-pairs.ts: thread map, tile sizes,
// workgroup memory):
//   1. owners are query rows: log of the normalizer ℓ and δ = Σ p (dy·v), carried on as in the forward pass;
//   2. owners are query rows: p = e^(score − ℓ), dq = Σ p (slope − δ) scale · k;
//   3. owners are keys: dk = Σ p (slope − δ) scale · q and dv = Σ p dy, also over the heads that share the key.
// No atomics: every sum has a fixed order. Scratch memory: ℓ and δ of every query row. No features. Where
// products may round to f16, large ones run on tensor cores (attention-backward-tensor-cores.ts).

import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Binding,
  type Command,
  dense,
  type KernelTable,
  type Names,
  type OpKernel,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import {
  exponentials,
  gather,
  lanes,
  type Mask,
  opening,
  owners,
  pairs,
  prelude,
  probabilities,
  sides,
  store,
  threads,
  tile,
  visibility,
} from '../wgsl/attention-pairs.ts';
import { encodeTensorAttentionBackward, tensorAttentionBackwardBytes } from './attention-backward-tensor-cores.ts';
import { tensorAttentionShape } from './attention-halves.ts';

function statisticsBody(n: Names, mask: Mask, D: number): string {
  const { queries, keys } = sides(n, D);
  const combine = (name: string, from: string) => `workgroupBarrier();
  parts[thread] = ${from};
  workgroupBarrier();
  var ${name} = 0.0;
  for (var j = 0u; j < ${lanes}u; j++) { ${name} += parts[slot * ${lanes}u + j]; }`;
  return `${opening(n, mask, false, true)}
  var most = lowest;
  var sum = 0.0;
  var mean = 0.0;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(queries, keys, D)}
    ${visibility(mask, false)}
    let visible = select(vec4f(lowest), score, seen);
    parts[thread] = larger(larger(visible.x, visible.y), larger(visible.z, visible.w));
    workgroupBarrier();
    var next = most;
    for (var j = 0u; j < ${lanes}u; j++) { next = larger(next, parts[slot * ${lanes}u + j]); }
    let weight = select(vec4f(), ${exponentials((c) => `score.${c} - next`)}, seen);
    let decay = expOf(most - next);
    most = next;
    sum = sum * decay + ((weight.x + weight.y) + (weight.z + weight.w));
    mean = mean * decay + dot(weight, select(vec4f(), slope, seen));
  }
  ${combine('whole', 'sum')}
  ${combine('all', 'mean')}
  if (written && lane == 0u) {
    let at = ((batch * words.G + group) * words.rows + mine) * 2u;
    ${n.statistics}[at] = most + logOf(whole);
    ${n.statistics}[at + 1u] = all / whole;
  }`;
}

function queryBody(n: Names, mask: Mask, D: number): string {
  const { queries, keys } = sides(n, D);
  return `${opening(n, mask, false, false)}
  let at = ((batch * words.G + group) * words.rows + mine) * 2u;
  let normalizer = vec4f(${n.statistics}[at]);
  let delta = vec4f(${n.statistics}[at + 1u]);
  var result: array<vec4f, ${Math.ceil(D / tile)}>;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(queries, keys, D)}
    ${visibility(mask, false)}
    ${probabilities('normalizer', 'delta')}
    ${gather('result', 'slopes', n.k, keys, D)}
  }
  if (written) {
    ${store('result', n.dq, queries, D)}
  }`;
}

function keyBody(n: Names, mask: Mask, D: number): string {
  const { queries, keys } = sides(n, D);
  return `${opening(n, mask, true, false)}
  var toKey: array<vec4f, ${Math.ceil(D / tile)}>;
  var toValue: array<vec4f, ${Math.ceil(D / tile)}>;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(keys, queries, D)}
    ${visibility(mask, true)}
    let row = (vec4u((batch * words.G + group) * words.rows) + min(index, vec4u(words.rows - 1u))) * 2u;
    var normalizer: vec4f;
    var delta: vec4f;
    for (var j = 0u; j < 4u; j++) {
      normalizer[j] = ${n.statistics}[row[j]];
      delta[j] = ${n.statistics}[row[j] + 1u];
    }
    ${probabilities('normalizer', 'delta')}
    ${gather('toKey', 'slopes', n.q, queries, D)}
    ${gather('toValue', 'scores', n.dy, queries, D)}
  }
  if (written) {
    ${store('toKey', n.dk, keys, D)}
    ${store('toValue', n.dv, keys, D)}
  }`;
}

/** Query rows that share a key head: T queries of H/G heads. */
const rowsOf = ([, T, H]: readonly number[], G: number) => (T * H) / G;

const attentionBackward: OpKernel = {
  scratchBytes(node, gpu) {
    const shape = tensorAttentionShape(node, gpu, 4);
    if (shape) return tensorAttentionBackwardBytes(shape);
    const [q, k] = node.inputs;
    const [B, , G] = k.type.shape;
    return scratchSize([2 * B * G * rowsOf(q.type.shape, G)]);
  },
  encode(context) {
    const { node, inputs, outputs, scratch, gpu } = context;
    const shape = tensorAttentionShape(node, gpu, 4);
    if (shape) return encodeTensorAttentionBackward(context, shape);
    const attributes = node.attributes as unknown as AttentionAttributes;
    const [q, k, v, dy, start] = inputs.map((_, i) => dense(inputs, i));
    const [dq, dk, dv] = outputs.map((_, i) => dense(outputs, i));
    const [B, T, H, D] = q.shape;
    const [, S, G] = k.shape;
    const rows = rowsOf(q.shape, G);
    const [statistics] = cutScratch(scratch, [2 * B * G * rows]);
    const mask = { ...attributes, start: start !== undefined && attributes.causal };
    const command = (
      count: number,
      body: (n: Names, mask: Mask, D: number) => string,
      bindings: Readonly<Record<string, Binding>>,
      reports: boolean,
    ): Command => {
      const blocks = Math.ceil(count / owners);
      return {
        bindings: {
          ...{ q: read(q), k: read(k), v: read(v), dy: read(dy) },
          ...(mask.start && { start: read(start) }),
          ...bindings,
        },
        words: { T, S, H, G, heads: H / G, rows, blocks, window: attributes.window, scale: { f32: attributes.scale } },
        reports,
        ...forEachGroup(B * G * blocks, threads, (n) => body(n, mask, D), prelude),
      };
    };
    return [
      command(rows, statisticsBody, { statistics: toScratch(statistics) }, mask.start),
      command(rows, queryBody, { statistics: fromScratch(statistics), dq: write(dq) }, false),
      command(S, keyBody, { statistics: fromScratch(statistics), dk: write(dk), dv: write(dv) }, false),
    ];
  },
};

export const attentionBackwardKernels: KernelTable = { attentionBackward };
