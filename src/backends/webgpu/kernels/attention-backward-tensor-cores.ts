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
// Features: shader-f16, subgroups, chromium-experimental-subgroup-matrix (fragments.ts).

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
  readStaging,
  scoresToStaging,
  sharpness,
  stagingVectors,
  storeOwned,
  sumOf,
  threadsOf,
  tileLoader,
  tileVectors,
  writeHalves,
} from '../wgsl/attention-fragments.ts';
import { keyBody, rowSource } from './attention-backward-keys.ts';
import { type AttentionShape, halfCommands, halfWords, halvesSource } from './attention-halves.ts';
import { queryPlacement, queryStart, someHidden } from './attention-tensor-cores.ts';
import { subgroupFeatures, subgroupParameters } from './matmul-subgroup.ts';

const kinds = ['query', 'key', 'key', 'query'] as const;

const bytes = (cut: Cut) =>
  16 * (2 * tileVectors(cut) + 2 * stagingVectors(cut) + cut.tileLines / 2) + 4 * cut.subgroups;
const cutFor = (shape: AttentionShape): Cut => fitting(shape, 8, bytes);

/** Statistics of a query row: ℓ, δ and the bound, each an array over all lines. */
const statisticsWords = ({ pairs, queryLines }: AttentionShape) => 3 * pairs * queryLines;

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
  const join = `var whole = most;
  ${joined(cut, 'whole', (a, b) => `max(${a}, ${b})`)}
  let part = exp2(most - select(whole, 0.0, whole <= lowest));
  most = whole;
  sum *= part;
  mean *= part;
  ${joined(cut, 'sum', (a, b) => `(${a} + ${b})`)}
  ${joined(cut, 'mean', (a, b) => `(${a} + ${b})`)}
  ${joined(cut, 'steepest', (a, b) => `max(${a}, ${b})`)}`;
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

const slopeSource = `
fn slope_exponent(bits: u32) -> i32 { return clamp(140 - i32(bits >> 23u), -100, 100); }
fn two_to(exponent: i32) -> f32 { return bitcast<f32>(u32(127 + exponent) << 23u); }
`;

const prelude = (cut: Cut, tiles: readonly string[], more = '') => `${halvesSource}${fragmentSource}${slopeSource}
${tiles.map((name) => `var<workgroup> ${name}_tile: array<vec4<u32>, ${tileVectors(cut)}>;`).join('\n')}
var<workgroup> scores: array<vec4<u32>, ${stagingVectors(cut)}>;
var<workgroup> slopes: array<vec4<u32>, ${stagingVectors(cut)}>;
${more}`;

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
