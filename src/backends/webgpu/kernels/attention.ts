// Attention, forward, without T×S scores in memory (Dao et al. 2022, "FlashAttention": running maxima and sums).
//
// A workgroup of 128 threads computes 16 rows of one batch and key head; a row is a query t of one of the H/G heads that
// share the key head, so keys and values are read once for all of them. Eight threads (lanes) share a row. Keys and
// values pass through workgroup memory in tiles of 32 keys × 32 dimensions: each lane scores four keys of a tile, the
// row's maximum and sum are carried on, and each lane gathers four of every 32 result dimensions in registers.
// Workgroup memory: 16·32 (queries) + 32·33 (keys or values) + 16·33 (probabilities) + 16·8 (maxima) f32, 9 KB.
// No features. Where products may round to f16, large ones run on tensor cores (attention-tensor-cores.ts).

import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import { cacheRangeError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { mathSource } from '../wgsl/math.ts';
import { softmaxStep } from '../wgsl/running-softmax.ts';
import { tensorAttentionShape } from './attention-halves.ts';
import { encodeTensorAttention, tensorAttentionBytes } from './attention-tensor-cores.ts';

const queryRows = 16;
const lanes = 8;
const tile = 32;
const threads = queryRows * lanes;

const attention: OpKernel = {
  scratchBytes(node, gpu) {
    const shape = tensorAttentionShape(node, gpu, 3);
    return shape ? tensorAttentionBytes(shape) : 0;
  },
  encode(context) {
    const { node, inputs, outputs, gpu } = context;
    const shape = tensorAttentionShape(node, gpu, 3);
    if (shape) return encodeTensorAttention(context, shape);
    const { scale, causal, window } = node.attributes as unknown as AttentionAttributes;
    const [q, k, v, y] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [B, T, H, D] = q.shape;
    const [, S, G] = k.shape;
    const heads = H / G;
    const rows = T * heads;
    const blocks = Math.ceil(rows / queryRows);
    const chunks = Math.ceil(D / tile);
    const cached = inputs.length > 3 && causal;
    const prelude = `${mathSource}
const lowest = -3.0e38;
var<workgroup> queries: array<f32, ${queryRows * tile}>;
var<workgroup> keys: array<f32, ${tile * (tile + 1)}>;
var<workgroup> weights: array<f32, ${queryRows * (tile + 1)}>;
var<workgroup> maxima: array<f32, ${threads}>;
var<workgroup> position: i32;
`;
    const loadStart = (start: string) => `if (thread == 0u) {
    var s = ${start}[0];
    if (s < 0 || s > i32(words.S) - i32(words.T)) { report(${cacheRangeError}u, s); s = 0; }
    position = s;
  }
  let start = workgroupUniformLoad(&position);`;
    // Element (key row `at / tile`, dimension `at % tile`) of a tile; zero outside.
    const loadTile = (name: string) => `for (var at = thread; at < ${tile * tile}u; at += ${threads}u) {
        let key = s0 + i32(at / ${tile}u);
        let d = chunk * ${tile}u + at % ${tile}u;
        var value = 0.0;
        if (key <= end && d < ${D}u) { value = ${name}[(batch * words.S + u32(key)) * words.G * ${D}u + group * ${D}u + d]; }
        keys[at / ${tile}u * ${tile + 1}u + at % ${tile}u] = value;
      }`;
    const queryAt = `((batch * words.T + t) * words.H + group * words.heads + row % words.heads) * ${D}u`;
    const body = (n: Names) => `
  let block = item % words.blocks;
  let group = item / words.blocks % words.G;
  let batch = item / words.blocks / words.G;
  let mine = thread / ${lanes}u;
  let lane = thread % ${lanes}u;
  ${cached ? loadStart(n.start) : 'let start = 0;'}
  /* The row of this thread and the keys it sees; a row beyond the last one repeats it and is not written. */
  let row = min(block * ${queryRows}u + mine, (words.rows - 1u));
  let t = row / words.heads;
  let last = ${causal ? 'start + i32(t)' : 'i32(words.S) - 1'};
  let first = ${window > 0 ? 'max(0, last - i32(words.window) + 1)' : '0'};
  /* The keys that any row of the block sees. */
  let lastRow = min(block * ${queryRows}u + ${queryRows - 1}u, (words.rows - 1u));
  let end = ${causal ? `start + i32(lastRow / words.heads)` : 'i32(words.S) - 1'};
  let begin = ${window > 0 ? `max(0, start + i32(block * ${queryRows}u / words.heads) - i32(words.window) + 1)` : '0'};
  var most = lowest;
  var sum = 0.0;
  var result: array<vec4f, ${chunks}>;
  for (var s0 = begin; s0 <= end; s0 += ${tile}) {
    var score = vec4f();
    for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      workgroupBarrier();
      for (var at = lane; at < ${tile}u; at += ${lanes}u) {
        let d = chunk * ${tile}u + at;
        var value = 0.0;
        if (d < ${D}u) { value = ${n.q}[${queryAt} + d]; }
        queries[mine * ${tile}u + at] = value;
      }
      ${loadTile(n.k)}
      workgroupBarrier();
      for (var d = 0u; d < ${tile}u; d++) {
        let value = queries[mine * ${tile}u + d];
        score += value * vec4f(
          keys[lane * ${tile + 1}u + d], keys[(lane + ${lanes}u) * ${tile + 1}u + d],
          keys[(lane + ${2 * lanes}u) * ${tile + 1}u + d], keys[(lane + ${3 * lanes}u) * ${tile + 1}u + d]);
      }
    }
    /* Where a key is out of sight its weight is 0. */
    let key = vec4i(s0 + i32(lane)) + vec4i(0, ${lanes}, ${2 * lanes}, ${3 * lanes});
    let seen = (key >= vec4i(first)) & (key <= vec4i(last));
    let visible = select(vec4f(lowest), score * words.scale, seen);
    ${softmaxStep(lanes, tile + 1)}
    for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      workgroupBarrier();
      ${loadTile(n.v)}
      workgroupBarrier();
      var gathered = result[chunk] * decay;
      for (var j = 0u; j < ${tile}u; j++) {
        let at = j * ${tile + 1}u + lane * 4u;
        gathered += weights[mine * ${tile + 1}u + j] * vec4f(keys[at], keys[at + 1u], keys[at + 2u], keys[at + 3u]);
      }
      result[chunk] = gathered;
    }
  }
  /* Each lane summed the weights of its own keys. */
  workgroupBarrier();
  maxima[thread] = sum;
  workgroupBarrier();
  var whole = 0.0;
  for (var j = 0u; j < ${lanes}u; j++) { whole += maxima[mine * ${lanes}u + j]; }
  if (block * ${queryRows}u + mine < words.rows) {
    for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      for (var j = 0u; j < 4u; j++) {
        let d = chunk * ${tile}u + lane * 4u + j;
        if (d < ${D}u) { ${n.y}[${queryAt} + d] = result[chunk][j] / whole; }
      }
    }
  }`;
    const count = B * G * blocks;
    return [
      {
        bindings: {
          q: read(q),
          k: read(k),
          v: read(v),
          y: write(y),
          ...(cached ? { start: read(dense(inputs, 3)) } : {}),
        },
        words: { T, S, H, G, heads, rows, blocks, window, scale: { f32: scale } },
        reports: cached,
        ...forEachGroup(count, threads, body, prelude),
      },
    ];
  },
};

export const attentionKernels: KernelTable = { attention };
