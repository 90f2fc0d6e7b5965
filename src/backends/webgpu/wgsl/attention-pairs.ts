// WGSL of attention's gradients: pairs of a query row and a key, tile by tile.
//
// A query row is a query t of one of the H/G heads that share a key head; it has two vectors, q and dy, and a key has
// two, k and v. A workgroup of 128 threads owns 16 query rows (or keys) and walks over the keys (or query rows) that they
// see in tiles of 32; eight threads (lanes) share an owner, and each computes the score q·k and the slope dy·v of four
// pairs of a tile, and gathers four of every 32 dimensions of a result in registers. Workgroup memory: 16·32 + 32·33 +
// 2·16·33 + 16·8 f32, 11 KB.

import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import { cacheRangeError } from '../../data-error-codes.ts';
import type { Names } from '../kernel.ts';
import { mathSource } from './math.ts';

/** Query rows or keys of a workgroup. */
export const owners = 16;
/** Threads of an owner. */
export const lanes = 8;
/** Keys or query rows, and dimensions, at a time. */
export const tile = 32;
export const threads = owners * lanes;

export const prelude = `${mathSource}
const lowest = -3.0e38;
var<workgroup> own: array<f32, ${owners * tile}>;
var<workgroup> others: array<f32, ${tile * (tile + 1)}>;
var<workgroup> scores: array<f32, ${owners * (tile + 1)}>;
var<workgroup> slopes: array<f32, ${owners * (tile + 1)}>;
var<workgroup> parts: array<f32, ${threads}>;
var<workgroup> position: i32;
`;

/** What decides which keys a query sees; `start` where it is an operand. */
export interface Mask extends Pick<AttentionAttributes, 'causal' | 'window'> {
  readonly start: boolean;
}

/** Query rows, or keys: how many there are and where the vector of one begins. */
export interface Side {
  readonly count: string;
  readonly first: (index: string) => string;
  readonly vectors: readonly [string, string];
}

export function sides(n: Names, D: number): { queries: Side; keys: Side } {
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
export const gather = (
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
export const store = (
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
export function opening(n: Names, { causal, window, start }: Mask, byKey: boolean, reports: boolean): string {
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
  ${start ? loadStart : 'let start = 0;'}
  /* An owner beyond the last one repeats it and is not written. */
  let mine = ${`min(block * ${owners}u + slot, ${byKey ? 'words.S' : 'words.rows'} - 1u)`};
  let written = block * ${owners}u + slot < ${byKey ? 'words.S' : 'words.rows'};
  ${byKey ? queryRange : keyRange}`;
}

/** Which of this lane's four pairs count, in `seen`; `index` is the other side of each. */
export function visibility({ causal, window }: Mask, byKey: boolean): string {
  const query = byKey ? 'vec4i(index / vec4u(words.heads)) + vec4i(start)' : 'vec4i(start + i32(mine / words.heads))';
  const key = byKey ? 'vec4i(i32(mine))' : 'vec4i(index)';
  return `let index = vec4u(base + lane) + vec4u(0u, ${lanes}u, ${2 * lanes}u, ${3 * lanes}u);
    let inside = index < vec4u(end);
    let query = ${query};
    let key = ${key};
    let seen = inside${causal ? ' & (key <= query)' : ''}${window > 0 ? ' & (key > query - vec4i(i32(words.window)))' : ''};`;
}

/** Statements that set `score` and `slope` of this lane's four pairs of the tile at `base`. */
export const pairs = (
  owner: Side,
  other: Side,
  D: number,
) => `${products('score', owner.vectors[0], owner, other.vectors[0], other, D)}
    score = score * words.scale;
    ${products('slope', owner.vectors[1], owner, other.vectors[1], other, D)}`;

export const exponentials = (of: (component: string) => string) =>
  `vec4f(${['x', 'y', 'z', 'w'].map((c) => `expOf(${of(c)})`).join(', ')})`;

/** Statements that set p and ds of this lane's four pairs and put them into workgroup memory. */
export const probabilities = (
  normalizer: string,
  delta: string,
) => `let p = select(vec4f(), ${exponentials((c) => `score.${c} - ${normalizer}.${c}`)}, seen);
    let ds = select(vec4f(), p * (slope - ${delta}) * words.scale, seen);
    for (var j = 0u; j < 4u; j++) {
      scores[slot * ${tile + 1}u + lane + ${lanes}u * j] = p[j];
      slopes[slot * ${tile + 1}u + lane + ${lanes}u * j] = ds[j];
    }`;
