// Gradients of attention without T×S scores in memory: probabilities are computed again (Dao et al. 2022,
// "FlashAttention", section 3.1, and Dao 2023, "FlashAttention-2", section 3.1).
//
// Three dispatches over pairs of a query row and a key, each pair by the same code. A query row is a query t of one of
// the H/G heads that share a key head; it has two vectors, q and dy, and a key has two, k and v. A workgroup of 128
// threads owns 16 query rows (or keys) and walks over the keys (or query rows) that they see in tiles of 32; eight
// threads (lanes) share an owner, and each computes the score q·k and the slope dy·v of four pairs of a tile.
//   1. owners are query rows: log of the normalizer ℓ and δ = Σ p (dy·v), carried on as in the forward pass;
//   2. owners are query rows: p = e^(score − ℓ), dq = Σ p (slope − δ) scale · k;
//   3. owners are keys: dk = Σ p (slope − δ) scale · q and dv = Σ p dy, also over the heads that share the key.
// Each lane gathers four of every 32 result dimensions in registers. No atomics: every sum has a fixed order. Scratch
// memory: ℓ and δ of every query row. Workgroup memory: 16·32 + 32·33 + 2·16·33 + 16·8 f32, 11 KB. No features.

import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import { cacheRangeError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Binding,
  type Command,
  type DenseOperand,
  dense,
  type KernelTable,
  type MemoryRange,
  type Names,
  type OpKernel,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { mathSource } from '../wgsl/math.ts';

const owners = 16;
const lanes = 8;
const tile = 32;
const threads = owners * lanes;

interface Operands {
  readonly q: DenseOperand;
  readonly k: DenseOperand;
  readonly v: DenseOperand;
  readonly dy: DenseOperand;
  readonly start: DenseOperand | undefined;
  /** ℓ and δ of every query row, [B, G, rows, 2]. */
  readonly statistics: MemoryRange;
  readonly attributes: AttentionAttributes;
}

const prelude = `${mathSource}
const lowest = -3.0e38;
var<workgroup> own: array<f32, ${owners * tile}>;
var<workgroup> others: array<f32, ${tile * (tile + 1)}>;
var<workgroup> scores: array<f32, ${owners * (tile + 1)}>;
var<workgroup> slopes: array<f32, ${owners * (tile + 1)}>;
var<workgroup> parts: array<f32, ${threads}>;
var<workgroup> position: i32;
`;

/** Query rows, or keys: how many there are and where the vector of one begins. */
interface Side {
  readonly count: string;
  readonly first: (index: string) => string;
  readonly vectors: readonly [string, string];
}

function sides(n: Names, D: number): { queries: Side; keys: Side } {
  return {
    queries: {
      count: 'words.rows',
      first: (row) =>
        `((batch * words.T + ${row} / words.heads) * words.H + group * words.heads + ${row} % words.heads) * ${D}u`,
      vectors: [n.q, n.dy],
    },
    keys: {
      count: 'words.S',
      first: (key) => `((batch * words.S + ${key}) * words.G + group) * ${D}u`,
      vectors: [n.k, n.v],
    },
  };
}

/** Copies 32 dimensions of 32 vectors of the other side to workgroup memory; zeros outside. */
const loadOthers = (
  source: string,
  other: Side,
  D: number,
) => `for (var at = thread; at < ${tile * tile}u; at += ${threads}u) {
      let index = base + at / ${tile}u;
      let d = chunk * ${tile}u + at % ${tile}u;
      var value = 0.0;
      if (index < end && d < ${D}u) { value = ${source}[${other.first('index')} + d]; }
      others[at / ${tile}u * ${tile + 1}u + at % ${tile}u] = value;
    }`;

/** Adds the products of this lane's four pairs over all dimensions to `name`. */
const products = (
  name: string,
  source: string,
  owner: Side,
  otherSource: string,
  other: Side,
  D: number,
) => `var ${name} = vec4f();
  for (var chunk = 0u; chunk < ${Math.ceil(D / tile)}u; chunk++) {
    workgroupBarrier();
    for (var at = lane; at < ${tile}u; at += ${lanes}u) {
      let d = chunk * ${tile}u + at;
      var value = 0.0;
      if (d < ${D}u) { value = ${source}[${owner.first('mine')} + d]; }
      own[slot * ${tile}u + at] = value;
    }
    ${loadOthers(otherSource, other, D)}
    workgroupBarrier();
    for (var d = 0u; d < ${tile}u; d++) {
      ${name} += own[slot * ${tile}u + d] * vec4f(
        others[lane * ${tile + 1}u + d], others[(lane + ${lanes}u) * ${tile + 1}u + d],
        others[(lane + ${2 * lanes}u) * ${tile + 1}u + d], others[(lane + ${3 * lanes}u) * ${tile + 1}u + d]);
    }
  }`;

/** Adds Σ_j weights[j] · vector j of the tile to this lane's part of `result`. */
const gather = (
  result: string,
  weights: string,
  source: string,
  other: Side,
  D: number,
) => `for (var chunk = 0u; chunk < ${Math.ceil(D / tile)}u; chunk++) {
    workgroupBarrier();
    ${loadOthers(source, other, D)}
    workgroupBarrier();
    var sum = ${result}[chunk];
    for (var j = 0u; j < ${tile}u; j++) {
      let at = j * ${tile + 1}u + lane * 4u;
      sum += ${weights}[slot * ${tile + 1}u + j] * vec4f(others[at], others[at + 1u], others[at + 2u], others[at + 3u]);
    }
    ${result}[chunk] = sum;
  }`;

/** Writes this lane's part of a result. */
const store = (
  result: string,
  target: string,
  owner: Side,
  D: number,
) => `for (var chunk = 0u; chunk < ${Math.ceil(D / tile)}u; chunk++) {
    for (var j = 0u; j < 4u; j++) {
      let d = chunk * ${tile}u + lane * 4u + j;
      if (d < ${D}u) { ${target}[${owner.first('mine')} + d] = ${result}[chunk][j]; }
    }
  }`;

/** Statements up to the loop over tiles: the owner of this thread, and the first and last of the other side it may see. */
function opening(
  n: Names,
  { start, attributes: { causal, window } }: Operands,
  byKey: boolean,
  reports: boolean,
): string {
  const loadStart = `if (thread == 0u) {
    var s = ${n.start}[0];
    if (s < 0 || s > i32(words.S) - i32(words.T)) { ${reports ? `report(${cacheRangeError}u, s); ` : ''}s = 0; }
    position = s;
  }
  let start = workgroupUniformLoad(&position);`;
  const first = `block * ${owners}u`;
  const last = `min(block * ${owners}u + ${owners - 1}u, ${byKey ? 'words.S' : 'words.rows'} - 1u)`;
  // A key s is seen by the queries t with start + t ≥ s and, in a window, start + t < s + window.
  const queryRange = `let begin = ${causal ? `u32(max(0, i32(${first}) - start)) * words.heads` : '0u'};
  let end = ${window > 0 ? `u32(clamp(i32(${last}) + i32(words.window) - start, 0, i32(words.T))) * words.heads` : 'words.rows'};`;
  const keyRange = `let begin = ${window > 0 ? `u32(max(0, start + i32(${first} / words.heads) - i32(words.window) + 1))` : '0u'};
  let end = ${causal ? `u32(start + i32(${last} / words.heads) + 1)` : 'words.S'};`;
  return `let block = item % words.blocks;
  let group = item / words.blocks % words.G;
  let batch = item / words.blocks / words.G;
  let slot = thread / ${lanes}u;
  let lane = thread % ${lanes}u;
  ${start && causal ? loadStart : 'let start = 0;'}
  /* An owner beyond the last one repeats it and is not written. */
  let mine = ${`min(block * ${owners}u + slot, ${byKey ? 'words.S' : 'words.rows'} - 1u)`};
  let written = block * ${owners}u + slot < ${byKey ? 'words.S' : 'words.rows'};
  ${byKey ? queryRange : keyRange}`;
}

/** Which of this lane's four pairs count, in `seen`; `index` is the other side of each. */
function visibility({ attributes: { causal, window } }: Operands, byKey: boolean): string {
  const query = byKey ? 'vec4i(index / vec4u(words.heads)) + vec4i(start)' : 'vec4i(start + i32(mine / words.heads))';
  const key = byKey ? 'vec4i(i32(mine))' : 'vec4i(index)';
  return `let index = vec4u(base + lane) + vec4u(0u, ${lanes}u, ${2 * lanes}u, ${3 * lanes}u);
    let inside = index < vec4u(end);
    let query = ${query};
    let key = ${key};
    let seen = inside${causal ? ' & (key <= query)' : ''}${window > 0 ? ' & (key > query - vec4i(i32(words.window)))' : ''};`;
}

/** Statements that set `score` and `slope` of this lane's four pairs of the tile at `base`. */
const pairs = (
  owner: Side,
  other: Side,
  D: number,
) => `${products('score', owner.vectors[0], owner, other.vectors[0], other, D)}
    score = score * words.scale;
    ${products('slope', owner.vectors[1], owner, other.vectors[1], other, D)}`;

const exponentials = (of: (component: string) => string) =>
  `vec4f(${['x', 'y', 'z', 'w'].map((c) => `expOf(${of(c)})`).join(', ')})`;

function statisticsBody(n: Names, operands: Operands, D: number): string {
  const { queries, keys } = sides(n, D);
  const combine = (name: string, from: string) => `workgroupBarrier();
  parts[thread] = ${from};
  workgroupBarrier();
  var ${name} = 0.0;
  for (var j = 0u; j < ${lanes}u; j++) { ${name} += parts[slot * ${lanes}u + j]; }`;
  return `${opening(n, operands, false, true)}
  var most = lowest;
  var sum = 0.0;
  var mean = 0.0;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(queries, keys, D)}
    ${visibility(operands, false)}
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

/** Statements that set p and ds of this lane's four pairs and put them into workgroup memory. */
const probabilities = (
  normalizer: string,
  delta: string,
) => `let p = select(vec4f(), ${exponentials((c) => `score.${c} - ${normalizer}.${c}`)}, seen);
    let ds = select(vec4f(), p * (slope - ${delta}) * words.scale, seen);
    for (var j = 0u; j < 4u; j++) {
      scores[slot * ${tile + 1}u + lane + ${lanes}u * j] = p[j];
      slopes[slot * ${tile + 1}u + lane + ${lanes}u * j] = ds[j];
    }`;

function queryBody(n: Names, operands: Operands, D: number): string {
  const { queries, keys } = sides(n, D);
  return `${opening(n, operands, false, false)}
  let at = ((batch * words.G + group) * words.rows + mine) * 2u;
  let normalizer = vec4f(${n.statistics}[at]);
  let delta = vec4f(${n.statistics}[at + 1u]);
  var result: array<vec4f, ${Math.ceil(D / tile)}>;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(queries, keys, D)}
    ${visibility(operands, false)}
    ${probabilities('normalizer', 'delta')}
    ${gather('result', 'slopes', n.k, keys, D)}
  }
  if (written) {
    ${store('result', n.dq, queries, D)}
  }`;
}

function keyBody(n: Names, operands: Operands, D: number): string {
  const { queries, keys } = sides(n, D);
  return `${opening(n, operands, true, false)}
  var toKey: array<vec4f, ${Math.ceil(D / tile)}>;
  var toValue: array<vec4f, ${Math.ceil(D / tile)}>;
  for (var base = begin; base < end; base += ${tile}u) {
    ${pairs(keys, queries, D)}
    ${visibility(operands, true)}
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
  scratchBytes: ({ inputs: [q, k] }) => {
    const [B, , G] = [q.type.shape[0], 0, k.type.shape[2]];
    return scratchSize([2 * B * G * rowsOf(q.type.shape, G)]);
  },
  encode({ node, inputs, outputs, scratch }) {
    const attributes = node.attributes as unknown as AttentionAttributes;
    const [q, k, v, dy, start] = inputs.map((_, i) => dense(inputs, i));
    const [dq, dk, dv] = outputs.map((_, i) => dense(outputs, i));
    const [B, T, H, D] = q.shape;
    const [, S, G] = k.shape;
    const rows = rowsOf(q.shape, G);
    const [statistics] = cutScratch(scratch, [2 * B * G * rows]);
    const operands: Operands = { q, k, v, dy, start, statistics, attributes };
    const command = (
      count: number,
      body: (n: Names, operands: Operands, D: number) => string,
      bindings: Readonly<Record<string, Binding>>,
      reports: boolean,
    ): Command => {
      const blocks = Math.ceil(count / owners);
      return {
        bindings: {
          ...{ q: read(q), k: read(k), v: read(v), dy: read(dy) },
          ...(start && attributes.causal && { start: read(start) }),
          ...bindings,
        },
        words: { T, S, H, G, heads: H / G, rows, blocks, window: attributes.window, scale: { f32: attributes.scale } },
        reports,
        ...forEachGroup(B * G * blocks, threads, (n) => body(n, operands, D), prelude),
      };
    };
    return [
      command(rows, statisticsBody, { statistics: toScratch(statistics) }, start !== undefined && attributes.causal),
      command(rows, queryBody, { statistics: fromScratch(statistics), dq: write(dq) }, false),
      command(S, keyBody, { statistics: fromScratch(statistics), dk: write(dk), dv: write(dv) }, false),
    ];
  },
};

export const attentionBackwardKernels: KernelTable = { attentionBackward };
