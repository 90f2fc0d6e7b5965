// Gradients of attention on tensor cores, third command: owners are keys; dk = scale Σ ds · q and dv = Σ p dy, over the
// query rows that see a key (attention-backward-tensor-cores.ts; thread map in wgsl/attention-fragments.ts).

import type { Names } from '../kernel.ts';
import {
  accumulators,
  type Cut,
  gatherTile,
  laneVectors,
  lines,
  masked,
  ownedFragments,
  ownedLines,
  placement,
  range,
  readStaging,
  scoresToStaging,
  sharpness,
  storeOwned,
  threadsOf,
  tileLoader,
  writeHalves,
} from '../wgsl/attention-fragments.ts';
import type { AttentionShape } from './attention-halves.ts';

export function keyBody(n: Names, shape: AttentionShape, cut: Cut): string {
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

/** Workgroup variables of keyBody besides tiles and staging. */
export const rowSource = ({ subgroups, tileLines }: Cut) => `var<workgroup> row_tile: array<vec4f, ${tileLines / 2}>;
var<workgroup> bounds: array<u32, ${subgroups}>;
`;
