// Attention over a cache whose older keys and values are packed and whose last ones stand in a ring of f32.
//
// Work is divided as in attention.ts: a workgroup of 128 threads computes 16 rows (queries of the heads that share a key
// head) over tiles of 32 keys, with running maxima and sums. Each query sees some tokens decoded and the others exactly;
// a tile is read from the packed cache, from the ring, or from both where its rows differ, and every row takes its own.
// Packed data is decoded eight values at a time on the way into workgroup memory: along a token's dimensions, or, for
// keys per channel, along the tokens of one channel, which is why tiles begin a multiple of eight after the sinks.
// Workgroup memory: 16·32 + 32·33 + 16·33 + 16·8 f32, 9 KB. No features.

import type { KvAttentionAttributes } from '../../../graph/ops/kv-attention.ts';
import { cacheRangeError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, packedOperand, read, write } from '../kernel.ts';
import { decodeSource } from '../wgsl/decode.ts';
import { mathSource } from '../wgsl/math.ts';
import { softmaxStep } from '../wgsl/running-softmax.ts';
import { ringRowSource } from './kv-write.ts';

const queryRows = 16;
const lanes = 8;
const tile = 32;
const stride = tile + 1;
const threads = queryRows * lanes;

const kvAttention: OpKernel = {
  encode({ node, inputs, outputs }) {
    const a = node.attributes as unknown as KvAttentionAttributes;
    const { scale, window, sinks, block, residual } = a;
    const perChannel = a.keys === 'channel';
    const [q, keys, values, y] = [
      dense(inputs, 0),
      packedOperand(inputs, 1),
      packedOperand(inputs, 2),
      dense(outputs, 0),
    ];
    const [recentKeys, recentValues] = [dense(inputs, 3), dense(inputs, 4)];
    const [B, T, H, D] = q.shape;
    const [, S, G] = values.shape;
    const W = recentKeys.shape[1];
    const heads = H / G;
    const rows = T * heads;
    const blocks = Math.ceil(rows / queryRows);
    const chunks = Math.ceil(D / tile);
    const cached = inputs.length > 5;
    const prelude = (n: Names) => `${mathSource}${decodeSource([
      { prefix: 'k', array: n.keys, matrix: keys },
      { prefix: 'v', array: n.values, matrix: values },
    ])}${ringRowSource(W, sinks)}
const lowest = -3.0e38;
var<workgroup> queries: array<f32, ${queryRows * tile}>;
var<workgroup> held: array<f32, ${tile * stride}>;
var<workgroup> weights: array<f32, ${queryRows * stride}>;
var<workgroup> maxima: array<f32, ${threads}>;
var<workgroup> position: i32;
/* The first key after the sinks that query t sees exactly, and likewise for values. */
fn keysEnd(t: i32) -> i32 { return ${sinks} + max(0, t - ${sinks}) / ${block} * ${block}; }
fn valuesEnd(t: i32) -> i32 { return t - ${residual}; }
`;
    const exactTile = (name: string) => `for (var at = thread; at < ${tile * tile}u; at += ${threads}u) {
        let key = s0 + i32(at / ${tile}u);
        let d = chunk * ${tile}u + at % ${tile}u;
        var value = 0.0;
        if (key >= 0 && key <= end && d < ${D}u) {
          value = ${name}[((batch * ${W}u + u32(ringRow(key))) * ${G}u + group) * ${D}u + d];
        }
        held[at / ${tile}u * ${stride}u + at % ${tile}u] = value;
      }`;
    const tokenTile = (prefix: string) => `{
        let key = s0 + i32(thread / 4u);
        let d = chunk * ${tile}u + thread % 4u * 8u;
        var eight = Eight();
        if (key >= 0 && key <= end && d < ${D}u) { eight = ${prefix}Eight((batch * ${S}u + u32(key)) * ${G}u + group, d); }
        for (var j = 0u; j < 8u; j++) {
          let value = select(eight.high[j & 3u], eight.low[j & 3u], j < 4u);
          held[thread / 4u * ${stride}u + thread % 4u * 8u + j] = select(0.0, value, d + j < ${D}u);
        }
      }`;
    const channelTile = `{
        let d = chunk * ${tile}u + thread / 4u;
        let column = s0 - ${sinks} + i32(thread % 4u * 8u);
        var eight = Eight();
        if (column >= 0 && column < ${keys.cols} && d < ${D}u) {
          eight = kEight((batch * ${G}u + group) * ${D}u + d, u32(column));
        }
        for (var j = 0u; j < 8u; j++) {
          held[(thread % 4u * 8u + j) * ${stride}u + thread / 4u] = select(eight.high[j & 3u], eight.low[j & 3u], j < 4u);
        }
      }`;
    const queryAt = `((batch * ${T}u + t) * ${H}u + group * ${heads}u + row % ${heads}u) * ${D}u`;
    const scoresOf = (score: string, load: string, n: Names) => `for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
        workgroupBarrier();
        for (var at = lane; at < ${tile}u; at += ${lanes}u) {
          let d = chunk * ${tile}u + at;
          var value = 0.0;
          if (d < ${D}u) { value = ${n.q}[${queryAt} + d]; }
          queries[mine * ${tile}u + at] = value;
        }
        ${load}
        workgroupBarrier();
        for (var d = 0u; d < ${tile}u; d++) {
          ${score} += queries[mine * ${tile}u + d] * vec4f(
            held[lane * ${stride}u + d], held[(lane + ${lanes}u) * ${stride}u + d],
            held[(lane + ${2 * lanes}u) * ${stride}u + d], held[(lane + ${3 * lanes}u) * ${stride}u + d]);
        }
      }`;
    const gathered = (load: string, mine: string) => `workgroupBarrier();
        ${load}
        workgroupBarrier();
        for (var j = 0u; j < ${tile}u; j++) {
          let key = s0 + i32(j);
          let at = j * ${stride}u + lane * 4u;
          let weight = select(0.0, weights[mine * ${stride}u + j], ${mine});
          sumOfValues += weight * vec4f(held[at], held[at + 1u], held[at + 2u], held[at + 3u]);
        }`;
    const start = cached
      ? (n: Names) => `if (thread == 0u) {
    var s = ${n.start}[0];
    if (s < 0 || s > ${S - T}) { report(${cacheRangeError}u, s); s = 0; }
    position = s;
  }
  let start = workgroupUniformLoad(&position);`
      : () => 'let start = 0;';
    const body = (n: Names) => `
  let block = item % ${blocks}u;
  let group = item / ${blocks}u % ${G}u;
  let batch = item / ${blocks * G}u;
  let mine = thread / ${lanes}u;
  let lane = thread % ${lanes}u;
  ${start(n)}
  /* The row of this thread and the keys it sees; a row beyond the last one repeats it and is not written. */
  let row = min(block * ${queryRows}u + mine, ${rows - 1}u);
  let t = row / ${heads}u;
  let last = start + i32(t);
  let first = ${window > 0 ? `max(0, last - ${window - 1})` : '0'};
  /* Positions of the first and the last query of the workgroup, and the keys that any of them sees. */
  let from0 = start + i32(block * ${queryRows}u / ${heads}u);
  let end = start + i32(min(block * ${queryRows}u + ${queryRows - 1}u, ${rows - 1}u) / ${heads}u);
  let visibleFrom = ${window > 0 ? `max(0, from0 - ${window - 1})` : '0'};
  let begin = visibleFrom - ((visibleFrom - ${sinks}) & 7);
  var most = lowest;
  var sum = 0.0;
  var result: array<vec4f, ${chunks}>;
  for (var s0 = begin; s0 <= end; s0 += ${tile}) {
    let s1 = s0 + ${tile - 1};
    var decoded = vec4f();
    var exact = vec4f();
    if (s1 >= ${sinks} && s0 < keysEnd(end)) {
      ${scoresOf('decoded', perChannel ? channelTile : tokenTile('k'), n)}
    }
    if (s0 < ${sinks} || s1 >= keysEnd(from0)) {
      ${scoresOf('exact', exactTile(n.recentKeys), n)}
    }
    let key = vec4i(s0 + i32(lane)) + vec4i(0, ${lanes}, ${2 * lanes}, ${3 * lanes});
    let isDecoded = (key >= vec4i(${sinks})) & (key < vec4i(keysEnd(last)));
    let seen = (key >= vec4i(first)) & (key <= vec4i(last));
    let visible = select(vec4f(lowest), select(exact, decoded, isDecoded) * words.scale, seen);
    ${softmaxStep(lanes, stride)}
    for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      var sumOfValues = result[chunk] * decay;
      if (s1 >= ${sinks} && s0 < valuesEnd(end)) {
        ${gathered(tokenTile('v'), `key >= ${sinks} && key < valuesEnd(last)`)}
      }
      if (s0 < ${sinks} || s1 >= valuesEnd(from0)) {
        ${gathered(exactTile(n.recentValues), `key < ${sinks} || key >= valuesEnd(last)`)}
      }
      result[chunk] = sumOfValues;
    }
    workgroupBarrier();
  }
  /* Each lane summed the weights of its own keys. */
  workgroupBarrier();
  maxima[thread] = sum;
  workgroupBarrier();
  var whole = 0.0;
  for (var j = 0u; j < ${lanes}u; j++) { whole += maxima[mine * ${lanes}u + j]; }
  if (block * ${queryRows}u + mine < ${rows}u) {
    for (var chunk = 0u; chunk < ${chunks}u; chunk++) {
      for (var j = 0u; j < 4u; j++) {
        let d = chunk * ${tile}u + lane * 4u + j;
        if (d < ${D}u) { ${n.y}[${queryAt} + d] = result[chunk][j] / whole; }
      }
    }
  }`;
    return [
      {
        bindings: {
          q: read(q),
          keys: read(keys),
          values: read(values),
          recentKeys: read(recentKeys),
          recentValues: read(recentValues),
          y: write(y),
          ...(cached ? { start: read(dense(inputs, 5)) } : {}),
        },
        words: { scale: { f32: scale } },
        reports: cached,
        ...forEachGroup(B * G * blocks, threads, body, prelude),
      },
    ];
  },
};

export const kvAttentionKernels: KernelTable = { kvAttention };
