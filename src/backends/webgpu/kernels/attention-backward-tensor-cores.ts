// Gradients of attention on tensor cores: f16 operands (attention-halves.ts), f32 scores and sums; probabilities are
// computed again (Dao et al. 2022, "FlashAttention", section 3.1, and Dao 2023, "FlashAttention-2", section 3.1).
//
// Three commands after the copies, thread map in wgsl/attention-fragments.ts; p = 2^(score − ℓ), ds = p (dy·v − δ):
//   1. owners are query rows: ℓ = log2 Σ 2^score, δ = Σ p (dy·v), and a bound of |ds| in the row;
//   2. owners are query rows: dq = scale Σ ds · k;
//   3. owners are keys: dk = scale Σ ds · q and dv = Σ p dy, also over the heads that share the key.
// Rounding: p · 2^14 and ds · 2^e become f16. In 2, e belongs to the row, so small gradients keep their bits beside large
// ones; in 3 it belongs to the workgroup's keys, by the largest bound of the rows that see one.
// No atomics: every sum has a fixed order. Workgroup memory: two tiles and two staging areas; 46 KB for D 64.
// Features: shader-f16, subgroups of 32, chromium-experimental-subgroup-matrix.

import { forEachGroup } from '../entry.ts';
import { type Binding, type Command, dense, type EncodeContext, type Names, write } from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import {
  accumulators,
  type Cut,
  fitting,
  fragmentSource,
  gatherTile,
  joined,
  laneVectors,
  largestOf,
  lines,
  masked,
  ownedFragments,
  ownedLines,
  placement,
  range,
  readStaging,
  scoresToStaging,
  stagingVectors,
  storeOwned,
  sumOf,
  threadsOf,
  tileLoader,
  tileVectors,
  writeHalves,
} from '../wgsl/attention-fragments.ts';
import { type AttentionShape, halfCommands, halfWords, halvesSource } from './attention-halves.ts';
import { queryPlacement, queryStart, someHidden } from './attention-tensor-cores.ts';
import { subgroupFeatures, subgroupParameters } from './matmul-subgroup.ts';

const kinds = ['query', 'key', 'key', 'query'] as const;

const bytes = (cut: Cut) =>
  16 * (2 * tileVectors(cut) + 2 * stagingVectors(cut) + cut.tileLines / 2) + 4 * cut.subgroups;
const cutFor = ({ D, memory }: AttentionShape): Cut => fitting(D, 8, memory, bytes);

/** Statistics of a query row: ℓ, δ and the bound, each an array over all lines. */
const statisticsWords = ({ pairs, queryLines }: AttentionShape) => 3 * pairs * queryLines;

const sharpness = (n: Names) => `let sharpness = words.scale * log2e * ${n.factors}[0] * ${n.factors}[1];`;

/** The loop over tiles of keys: scores into `x0` …, dy·v into `z0` …, in lanes' registers. */
function overKeys(n: Names, shape: AttentionShape, cut: Cut, before: string, each: string): string {
  const { tileLines } = cut;
  const [keys, values] = ['k', 'v'].map((name) => tileLoader(cut, name));
  const at = (tile: string) => `(pair * ${shape.keyLines}u + ${tile}) * ${shape.D / 8}u`;
  return `${queryPlacement(shape, cut)}
  ${sharpness(n)}
  ${keys.registers}
  ${values.registers}
  ${keys.load(n.k, at('begin'))}
  ${values.load(n.v, at('begin'))}
  ${ownedFragments(cut, 'q', n.q, 'stored')}
  ${ownedFragments(cut, 'dy', n.dy, 'stored')}
  ${before}
  for (var tile0 = begin; tile0 < end; tile0 += ${tileLines}u) {
    ${keys.store}
    ${values.store}
    workgroupBarrier();
    if (tile0 + ${tileLines}u < end) {
      ${keys.load(n.k, at(`tile0 + ${tileLines}u`))}
      ${values.load(n.v, at(`tile0 + ${tileLines}u`))}
    }
    ${scoresToStaging(cut, 'q', 'k_tile', 'scores')}
    ${scoresToStaging(cut, 'dy', 'v_tile', 'slopes')}
    workgroupBarrier();
    ${readStaging(cut, 'x', 'scores')}
    ${readStaging(cut, 'z', 'slopes')}
    ${each}
  }`;
}

function statisticsBody(n: Names, shape: AttentionShape, cut: Cut): string {
  const vectors = laneVectors(cut);
  const each = `${lines(vectors, (i) => `x${i} *= sharpness;`)}
    if (${someHidden(shape, cut)}) {
      ${masked(cut, 'first', 'last', (i) => `x${i} = select(vec4f(lowest), x${i}, seen); z${i} = select(vec4f(), z${i}, seen);`)}
    }
    let next = max(most, ${largestOf(vectors, (i) => `x${i}`)});
    /* A row that has seen no key yet. */
    let shift = select(next, 0.0, next <= lowest);
    let decay = exp2(most - shift);
    ${lines(vectors, (i) => `x${i} = exp2(x${i} - shift);`)}
    most = next;
    sum = sum * decay + ${sumOf(vectors, (i) => `x${i}`)};
    mean = mean * decay + ${sumOf(vectors, (i) => `x${i} * z${i}`)};
    steepest = max(steepest, ${largestOf(vectors, (i) => `abs(z${i})`)});`;
  const before = 'var most = lowest;\n  var sum = 0.0;\n  var mean = 0.0;\n  var steepest = 0.0;';
  const join = `let whole = max(most, subgroupShuffleXor(most, 16u));
  let part = exp2(most - select(whole, 0.0, whole <= lowest));
  most = whole;
  sum *= part;
  mean *= part;
  ${joined('sum', (a, b) => `(${a} + ${b})`)}
  ${joined('mean', (a, b) => `(${a} + ${b})`)}
  ${joined('steepest', (a, b) => `max(${a}, ${b})`)}`;
  const count = shape.pairs * shape.queryLines;
  return `${overKeys(n, shape, cut, before, each)}
  ${join}
  if (column == 0u) {
    let at = stored + strip + own;
    let delta = mean / sum;
    ${n.statistics}[at] = most + log2(sum);
    ${n.statistics}[at + ${count}u] = delta;
    /* No probability is above 2^most / Σ. */
    ${n.statistics}[at + ${2 * count}u] = (steepest + abs(delta)) / sum;
  }`;
}

function queryBody(n: Names, shape: AttentionShape, cut: Cut): string {
  const vectors = laneVectors(cut);
  const count = shape.pairs * shape.queryLines;
  const before = `let normalizer = ${n.statistics}[stored + strip + own];
  let delta = ${n.statistics}[stored + strip + own + ${count}u];
  let exponent = slope_exponent(bitcast<u32>(${n.statistics}[stored + strip + own + ${2 * count}u]));
  let factor = two_to(exponent);
  ${accumulators(cut, 'dq')}`;
  const each = `${lines(vectors, (i) => `z${i} = exp2(x${i} * sharpness - normalizer) * (z${i} - delta) * factor;`)}
    if (${someHidden(shape, cut)}) {
      ${masked(cut, 'first', 'last', (i) => `z${i} = select(vec4f(), z${i}, seen);`)}
    }
    ${writeHalves(cut, 'slopes', (i) => `z${i}`)}
    workgroupBarrier();
    ${gatherTile(cut, 'dq', 'slopes', 'k_tile')}
    workgroupBarrier();`;
  const f = n.factors;
  return `${overKeys(n, shape, cut, before, each)}
  let share = two_to(-exponent) * words.scale;
  workgroupBarrier();
  ${storeOwned(cut, 'dq', 'scores', n.dq, queryStart(shape), shape.rows, 'share', ` * ${f}[1] * ${f}[2] * ${f}[3]`)}`;
}

function keyBody(n: Names, shape: AttentionShape, cut: Cut): string {
  const { S, G, D, heads, rows, pairs, causal, window, queryLines, keyLines } = shape;
  const { subgroups, tileLines } = cut;
  const threads = threadsOf(cut);
  const [queries, slopes] = ['q', 'dy'].map((name) => tileLoader(cut, name));
  const at = (tile: string) => `(pair * ${queryLines}u + ${tile}) * ${D / 8}u`;
  const vectors = laneVectors(cut);
  const owned = ownedLines(cut);
  const count = pairs * queryLines;
  const hidden = [
    `tile0 + ${tileLines}u > ${rows}u`,
    ...(causal ? [`tile0 < lastKey * ${heads}u`] : []),
    ...(window > 0 ? [`tile0 + ${tileLines}u > (line0 + ${window}u) * ${heads}u`] : []),
  ].join(' || ');
  const start = (line: string) => `((pair / ${G}u * ${S}u + ${line}) * ${G}u + pair % ${G}u) * ${D / 4}u`;
  // the first threads bring ℓ of a tile's rows, the next ones δ
  const loadRows = (tile: string) =>
    `if (thread < ${tileLines / 2}u) { row_values = ${n.statistics}[(thread / ${tileLines / 4}u * ${count}u + pair * ${queryLines}u + ${tile}) / 4u + thread % ${tileLines / 4}u]; }`;
  const f = n.factors;
  return `let block = item / ${pairs}u;
  let pair = item % ${pairs}u;
  ${placement(cut)}
  let line0 = block * ${owned}u;
  let lastKey = min(line0 + ${owned - 1}u, ${S - 1}u);
  let begin = ${causal ? `min(line0 * ${heads}u / ${tileLines}u * ${tileLines}u, ${queryLines - tileLines}u)` : '0u'};
  let end = ${window > 0 ? `min((lastKey + ${window}u) * ${heads}u, ${rows}u)` : `${rows}u`};
  let key = i32(line0 + strip + own);
  let first = ${causal ? `key * ${heads}` : '0'};
  let last = ${window > 0 ? `min((key + ${window}) * ${heads}, ${rows}) - 1` : `${rows - 1}`};
  let stored = pair * ${keyLines}u + line0;
  ${sharpness(n)}
  ${queries.registers}
  ${slopes.registers}
  var row_values = vec4f();
  ${queries.load(n.q, at('begin'))}
  ${slopes.load(n.dy, at('begin'))}
  ${loadRows('begin')}
  var bits = vec4<u32>();
  for (var i = begin / 4u + thread; i < end / 4u; i += ${threads}u) {
    bits = max(bits, bitcast<vec4<u32>>(${n.statistics}[(${2 * count}u + pair * ${queryLines}u) / 4u + i]));
  }
  for (var i = end / 4u * 4u; i < end; i++) {
    bits.x = max(bits.x, bitcast<u32>(${n.statistics}[(${2 * count}u + pair * ${queryLines}u + i) / 4u][i % 4u]));
  }
  let part = subgroupMax(max(max(bits.x, bits.y), max(bits.z, bits.w)));
  if (lane == 0u) { bounds[subgroup] = part; }
  workgroupBarrier();
  let exponent = slope_exponent(${range(subgroups)
    .map((i) => `bounds[${i}]`)
    .reduce((a, b) => `max(${a}, ${b})`)});
  let factor = two_to(exponent);
  ${ownedFragments(cut, 'k', n.k, 'stored')}
  ${ownedFragments(cut, 'v', n.v, 'stored')}
  ${accumulators(cut, 'dk')}
  ${accumulators(cut, 'dv')}
  for (var tile0 = begin; tile0 < end; tile0 += ${tileLines}u) {
    ${queries.store}
    ${slopes.store}
    if (thread < ${tileLines / 2}u) { row_tile[thread] = row_values; }
    workgroupBarrier();
    if (tile0 + ${tileLines}u < end) {
      ${queries.load(n.q, at(`tile0 + ${tileLines}u`))}
      ${slopes.load(n.dy, at(`tile0 + ${tileLines}u`))}
      ${loadRows(`tile0 + ${tileLines}u`)}
    }
    ${scoresToStaging(cut, 'k', 'q_tile', 'scores')}
    ${scoresToStaging(cut, 'v', 'dy_tile', 'slopes')}
    workgroupBarrier();
    ${readStaging(cut, 'x', 'scores')}
    ${readStaging(cut, 'z', 'slopes')}
    ${lines(
      vectors,
      (i) => `x${i} = exp2(x${i} * sharpness - row_tile[column / 4u + ${i}u]);
    z${i} = x${i} * (z${i} - row_tile[${tileLines / 4}u + column / 4u + ${i}u]) * factor;
    x${i} *= 16384.0;`,
    )}
    if (${hidden}) {
      ${masked(cut, 'first', 'last', (i) => `x${i} = select(vec4f(), x${i}, seen); z${i} = select(vec4f(), z${i}, seen);`)}
    }
    ${writeHalves(cut, 'scores', (i) => `x${i}`)}
    ${writeHalves(cut, 'slopes', (i) => `z${i}`)}
    workgroupBarrier();
    ${gatherTile(cut, 'dv', 'scores', 'dy_tile')}
    ${gatherTile(cut, 'dk', 'slopes', 'q_tile')}
    workgroupBarrier();
  }
  let value_share = ${2 ** -14};
  let key_share = two_to(-exponent) * words.scale;
  ${storeOwned(cut, 'dv', 'scores', n.dv, start, S, 'value_share', ` * ${f}[3]`)}
  ${storeOwned(cut, 'dk', 'scores', n.dk, start, S, 'key_share', ` * ${f}[0] * ${f}[2] * ${f}[3]`)}`;
}

const slopeSource = `
fn slope_exponent(bits: u32) -> i32 { return clamp(140 - i32(bits >> 23u), -100, 100); }
fn two_to(exponent: i32) -> f32 { return bitcast<f32>(u32(127 + exponent) << 23u); }
`;

const prelude = (cut: Cut, tiles: readonly string[], more = '') => `${halvesSource}${fragmentSource}${slopeSource}
${tiles.map((name) => `var<workgroup> ${name}_tile: array<vec4<u32>, ${tileVectors(cut)}>;`).join('\n')}
var<workgroup> scores: array<vec4<u32>, ${stagingVectors(cut)}>;
var<workgroup> slopes: array<vec4<u32>, ${stagingVectors(cut)}>;
${more}`;

const rowSource = ({ subgroups, tileLines }: Cut) => `var<workgroup> row_tile: array<vec4f, ${tileLines / 2}>;
var<workgroup> bounds: array<u32, ${subgroups}>;
`;

const scratchWords = (shape: AttentionShape) => [...halfWords(shape, kinds), statisticsWords(shape)];

export const tensorAttentionBackwardBytes = (shape: AttentionShape) => scratchSize(scratchWords(shape));

export function encodeTensorAttentionBackward(
  { inputs, outputs, scratch }: EncodeContext,
  shape: AttentionShape,
): Command[] {
  const pieces = cutScratch(scratch, scratchWords(shape));
  const [, factors, q, k, v, dy, statistics] = pieces;
  const operands = kinds.map((_, i) => dense(inputs, i));
  const [dq, dk, dv] = outputs.map((_, i) => write(dense(outputs, i), 'vec4<f32>'));
  const cut = cutFor(shape);
  const command = (
    count: number,
    body: (n: Names, shape: AttentionShape, cut: Cut) => string,
    bindings: Readonly<Record<string, Binding>>,
    source: string,
  ): Command => ({
    bindings: {
      q: fromScratch(q, 'vec4<u32>'),
      k: fromScratch(k, 'vec4<u32>'),
      v: fromScratch(v, 'vec4<u32>'),
      dy: fromScratch(dy, 'vec4<u32>'),
      factors: fromScratch(factors),
      ...bindings,
    },
    words: { scale: { f32: shape.scale } },
    enable: subgroupFeatures,
    ...forEachGroup(
      shape.pairs * Math.ceil(count / ownedLines(cut)),
      threadsOf(cut),
      (n) => body(n, shape, cut),
      source,
      subgroupParameters,
    ),
  });
  const queryPrelude = prelude(cut, ['k', 'v']);
  return [
    ...halfCommands(shape, kinds, operands, pieces.slice(0, 2 + kinds.length)),
    command(shape.rows, statisticsBody, { statistics: toScratch(statistics) }, queryPrelude),
    command(shape.rows, queryBody, { statistics: fromScratch(statistics), dq }, queryPrelude),
    command(
      shape.S,
      keyBody,
      { statistics: fromScratch(statistics, 'vec4<f32>'), dk, dv },
      prelude(cut, ['q', 'dy'], rowSource(cut)),
    ),
  ];
}
