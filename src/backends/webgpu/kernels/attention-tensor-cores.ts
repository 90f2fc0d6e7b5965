// Attention, forward, on tensor cores: f16 operands (attention-halves.ts), f32 scores and sums, no T×S scores in memory
// (Dao et al. 2022, "FlashAttention").
//
// A workgroup of 4 or 8 subgroups makes 64 or 128 query rows (of 16 × 16 matrices) of one batch and key head
// (wgsl/attention-fragments.ts: thread map); a row is a query of one of the heads that share the key head. For each tile of 32 keys: scores on tensor cores,
// weights p' = 2^(3 + score − m) as f16, result += p' · values on tensor cores; the row is divided by Σ p' at the end.
// Fragments cannot be scaled row by row, so m is not the running maximum but an earlier one: it stays while scores exceed
// it by less than 12 binades, which f16 holds beside weights 26 binades below; else the subgroup's results pass through
// workgroup memory once and are scaled there.
// Workgroups with many keys come first. Workgroup memory: two tiles, one staging area, one accumulator a subgroup; 24 KB for D 64.
// Features: shader-f16, subgroups, chromium-experimental-subgroup-matrix (fragments.ts).

import { forEachGroup } from '../entry.ts';
import { type Command, dense, type EncodeContext, type Names, write } from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize } from '../scratch.ts';
import {
  accumulators,
  type Cut,
  fitting,
  fragmentSource,
  gatherTile,
  joined,
  laneVectors,
  largestOf,
  lineLanes,
  lines,
  masked,
  ownedFragments,
  ownedLines,
  placement,
  range,
  readStaging,
  result,
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
import { type AttentionShape, halfCommands, halfWords, halvesSource } from './attention-halves.ts';
import { subgroupFeatures, subgroupParameters } from './matmul-subgroup.ts';

const kinds = ['query', 'key', 'key'] as const;

/** 16-byte vectors of a row of `spare`: one accumulator, and one more so that rows fall into different banks. */
const spareStride = ({ edge }: Cut) => edge / 4 + 1;

const bytes = (cut: Cut) =>
  16 * (2 * tileVectors(cut) + stagingVectors(cut) + ownedLines(cut) * spareStride(cut)) + 4 * cut.subgroups;
/** Long lines cost more to read again, short ones leave more workgroups on a core. */
const cutFor = (shape: AttentionShape): Cut => fitting(shape, shape.D <= 64 ? 4 : 8, bytes);

/** Block of query rows of a workgroup, the keys that it sees and, for its lane's row, the first and the last. */
export function queryPlacement(shape: AttentionShape, cut: Cut): string {
  const { heads, rows, S, pairs, causal, window, queryLines } = shape;
  const owned = ownedLines(cut);
  const { tileLines } = cut;
  const blocks = Math.ceil(rows / owned);
  return `let block = ${blocks - 1}u - item / ${pairs}u;
  let pair = item % ${pairs}u;
  ${placement(cut)}
  let line0 = block * ${owned}u;
  let firstQuery = line0 / ${heads}u;
  let lastQuery = min(line0 + ${owned - 1}u, ${rows - 1}u) / ${heads}u;
  let end = ${causal ? 'lastQuery + 1u' : `${S}u`};
  let begin = ${window > 0 ? `u32(max(0, i32(firstQuery) - ${window - 1})) / ${tileLines}u * ${tileLines}u` : '0u'};
  let query = i32((line0 + strip + own) / ${heads}u);
  let last = ${causal ? `min(query, ${S - 1})` : `${S - 1}`};
  let first = ${window > 0 ? `query - ${window - 1}` : '0'};
  let stored = pair * ${queryLines}u + line0;`;
}

/** Whether some row does not see some key of the tile at tile0. */
export function someHidden({ S, causal, window }: AttentionShape, { tileLines }: Cut): string {
  const tileEnd = `tile0 + ${tileLines}u`;
  return [
    `${tileEnd} > ${S}u`,
    ...(causal ? [`${tileEnd} > firstQuery + 1u`] : []),
    ...(window > 0 ? [`tile0 + ${window}u <= lastQuery`] : []),
  ].join(' || ');
}

/** Where a query row begins in q, in vectors of four. */
export const queryStart =
  ({ T, H, G, D, heads }: AttentionShape) =>
  (line: string) =>
    `((pair / ${G}u * ${T}u + ${line} / ${heads}u) * ${H}u + pair % ${G}u * ${heads}u + ${line} % ${heads}u) * ${D / 4}u`;

/** Scales the accumulators row by row through workgroup memory. */
function decayed(cut: Cut): string {
  const { edge } = cut;
  const stride = spareStride(cut);
  const place = `&spare, subgroup * ${edge * stride}u`;
  return lines(
    cut.D / edge,
    (d) => `subgroupMatrixStore<row_major>(${place}, y_${d}, ${stride}u);
      workgroupBarrier();
      for (var i = lane / ${edge}u; i < ${edge / 4}u; i += ${lineLanes(cut)}u) {
        let at = (subgroup * ${edge}u + own) * ${stride}u + i;
        spare[at] = bitcast<vec4<u32>>(bitcast<vec4f>(spare[at]) * decay);
      }
      workgroupBarrier();
      y_${d} = subgroupMatrixLoad<${result(cut)}, row_major>(${place}, ${stride}u);
      workgroupBarrier();`,
  );
}

function body(n: Names, shape: AttentionShape, cut: Cut): string {
  const { keyLines, D } = shape;
  const [keys, values] = ['k', 'v'].map((name) => tileLoader(cut, name));
  const at = (tile: string) => `(pair * ${keyLines}u + ${tile}) * ${D / 8}u`;
  const vectors = laneVectors(cut);
  const { subgroups, tileLines } = cut;
  return `${queryPlacement(shape, cut)}
  ${sharpness(n)}
  ${keys.registers}
  ${values.registers}
  ${keys.load(n.k, at('begin'))}
  ${values.load(n.v, at('begin'))}
  ${ownedFragments(cut, 'q', n.q, 'stored')}
  ${accumulators(cut, 'y')}
  var most = lowest;
  var sum = 0.0;
  for (var tile0 = begin; tile0 < end; tile0 += ${tileLines}u) {
    ${keys.store}
    ${values.store}
    workgroupBarrier();
    if (tile0 + ${tileLines}u < end) {
      ${keys.load(n.k, at(`tile0 + ${tileLines}u`))}
      ${values.load(n.v, at(`tile0 + ${tileLines}u`))}
    }
    ${scoresToStaging(cut, 'q', 'k_tile', 'staging')}
    workgroupBarrier();
    ${readStaging(cut, 'x', 'staging')}
    ${lines(vectors, (i) => `x${i} *= sharpness;`)}
    if (${someHidden(shape, cut)}) {
      ${masked(cut, 'first', 'last', (i) => `x${i} = select(vec4f(lowest), x${i}, seen);`)}
    }
    var top = ${largestOf(vectors, (i) => `x${i}`)};
    ${joined(cut, 'top', (a, b) => `max(${a}, ${b})`)}
    let grows = top > most + 12.0;
    let next = select(most, top, grows);
    let decay = select(1.0, exp2(most - next), grows);
    let scales = subgroupAny(grows && most > lowest);
    if (lane == 0u) { grown[subgroup] = select(0u, 1u, scales); }
    most = next;
    /* A row that has seen no key yet. */
    let shift = select(most - 3.0, 0.0, most <= lowest);
    ${lines(vectors, (i) => `x${i} = exp2(x${i} - shift);`)}
    sum = sum * decay + ${sumOf(vectors, (i) => `x${i}`)};
    ${writeHalves(cut, 'staging', (i) => `x${i}`)}
    let flags = workgroupUniformLoad(&grown);
    if ((${range(subgroups)
      .map((i) => `flags[${i}]`)
      .join(' | ')}) != 0u) {
      ${decayed(cut)}
    }
    ${gatherTile(cut, 'y', 'staging', 'v_tile')}
    workgroupBarrier();
  }
  ${joined(cut, 'sum', (a, b) => `(${a} + ${b})`)}
  let share = 1.0 / sum;
  ${storeOwned(cut, 'y', 'staging', n.y, queryStart(shape), shape.rows, 'share', ` * ${n.factors}[2]`)}`;
}

const prelude = (cut: Cut) => `${halvesSource}${fragmentSource}
var<workgroup> k_tile: array<vec4<u32>, ${tileVectors(cut)}>;
var<workgroup> v_tile: array<vec4<u32>, ${tileVectors(cut)}>;
var<workgroup> staging: array<vec4<u32>, ${stagingVectors(cut)}>;
var<workgroup> spare: array<vec4<u32>, ${ownedLines(cut) * spareStride(cut)}>;
var<workgroup> grown: array<u32, ${cut.subgroups}>;
`;

export const tensorAttentionBytes = (shape: AttentionShape) => scratchSize(halfWords(shape, kinds));

export function encodeTensorAttention({ inputs, outputs, scratch }: EncodeContext, shape: AttentionShape): Command[] {
  const pieces = cutScratch(scratch, halfWords(shape, kinds));
  const [, factors, q, k, v] = pieces;
  const cut = cutFor(shape);
  const count = shape.pairs * Math.ceil(shape.rows / ownedLines(cut));
  return [
    ...halfCommands(
      shape,
      kinds,
      kinds.map((_, i) => dense(inputs, i)),
      pieces,
    ),
    {
      bindings: {
        q: fromScratch(q, 'vec4<u32>'),
        k: fromScratch(k, 'vec4<u32>'),
        v: fromScratch(v, 'vec4<u32>'),
        factors: fromScratch(factors),
        y: write(dense(outputs, 0), 'vec4<f32>'),
      },
      words: { scale: { f32: shape.scale } },
      enable: subgroupFeatures,
      ...forEachGroup(count, threadsOf(cut), (n) => body(n, shape, cut), prelude(cut), subgroupParameters),
    },
  ];
}
