// Text of a product of few rows with a weight, y[m, n] = Σ_k a[m, k] · w[n, k], bound by reading the weight once.
//
// Thread map: a cluster of L lanes holds neighbouring rows of w; lane l takes units l, l + L, … of K (vector-weight.ts), so
// that neighbouring lanes read neighbouring bytes of w. The lanes' sums are added by halving, with subgroup exchanges or in
// workgroup memory (M · rows · 4 bytes a thread). Each result has a fixed order of summation.
//
// a passes through workgroup memory in segments of K: vector v of all units lies together (plane v), so that lanes read
// neighbouring vectors. Units of 32 are permuted within the plane by v: the threads that write the eights of two units then
// meet in no bank.

import type { VectorWeight } from './vector-weight.ts';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

export interface VectorTile {
  /** Rows of w that a cluster holds. */
  readonly rows: number;
  readonly threads: number;
  /** Threads of a cluster, a power of two; with subgroups, each holds whole clusters. */
  readonly lanes: number;
  /** Units of K in workgroup memory, a multiple of 8; 4 · M · unit bytes each. */
  readonly segment: number;
}

export interface VectorProduct {
  readonly M: number;
  readonly K: number;
  /** Columns of y and workgroups across them, WGSL expressions. */
  readonly N: string;
  readonly across: string;
  readonly weight: VectorWeight;
  readonly tile: VectorTile;
  readonly subgroups: boolean;
  /** WGSL names of the arrays: a is array<vec4<f32>> where K is a multiple of 4, else array<f32>. */
  readonly a: string;
  readonly y: string;
  /** Row of all of a for row `m` of the product, and the matrix of w, expressions that may read `batch`. */
  rowOfA(m: string): string;
  readonly matrix: string;
  /** Statements that run first, after `batch` is known. */
  readonly setup?: string;
}

/** Rows of w that a workgroup multiplies. */
export const rowsOfGroup = ({ rows, threads, lanes }: VectorTile): number => (threads / lanes) * rows;

/** Module scope, and the body of an entry point that knows `item` (a workgroup's, uniform) and `thread`. */
export function vectorProduct(product: VectorProduct): { prelude: string; body: string } {
  const { M, K, N, across, weight, tile, subgroups, y, matrix, setup = '' } = product;
  const { rows, threads, lanes, segment } = tile;
  const sums = range(M).flatMap((m) => range(rows).map((r) => ({ m, r, name: `sum${m}_${r}`, s: m * rows + r })));
  const units = Math.ceil(K / weight.unit);
  const cut = units > segment;
  const step = weight.step({
    M,
    rows,
    number: 'first + b',
    sum: (m, r) => `sum${m}_${r}`,
    a: (m, v) => `staged[${(m * weight.unit * segment) / 4}u + ${place(weight, segment, 'b', `${v}u`)}]`,
  });
  const segmentText = `${stage(product)}
    workgroupBarrier();
    for (var b = lane; b < min(${segment}u, ${units}u - first); b += ${lanes}u) {
      ${step}
    }`;
  const add = subgroups
    ? `for (var half = 1u; half < ${lanes}u; half <<= 1u) {
    ${sums.map(({ name }) => `${name} += subgroupShuffleXor(${name}, half);`).join('\n    ')}
  }`
    : `${sums.map(({ name, s }) => `parts[${s * threads}u + thread] = ${name};`).join('\n  ')}
  for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) {
      for (var s = 0u; s < ${sums.length}u; s++) { parts[s * ${threads}u + thread] += parts[s * ${threads}u + thread + half]; }
    }
  }
  workgroupBarrier();`;
  const total = (name: string, s: number) => (subgroups ? name : `parts[${s * threads}u + thread - lane]`);
  const factor = weight.factor ? ` * ${weight.factor}` : '';
  return {
    prelude: `${weight.declarations}
var<workgroup> staged: array<vec4<f32>, ${(M * weight.unit * segment) / 4}>;
${subgroups ? '' : `var<workgroup> parts: array<f32, ${threads * sums.length}>;`}
`,
    body: `
  let batch = item / ${across};
  let lane = thread % ${lanes}u;
  let n0 = item % ${across} * ${rowsOfGroup(tile)}u + thread / ${lanes}u * ${rows}u;
  ${setup}
  ${
    /* beyond N the last row is read again */ range(rows)
      .map((r) => `let row${r} = ${matrix} * ${N} + min(n0 + ${r}u, ${N} - 1u);`)
      .join('\n  ')
  }
  ${sums.map(({ name }) => `var ${name}: f32 = 0.0;`).join(' ')}
  ${
    cut
      ? `for (var first = 0u; first < ${units}u; first += ${segment}u) {
    ${segmentText}
    workgroupBarrier();
  }`
      : `let first = 0u;
    ${segmentText}`
  }
  ${add}
  ${sums
    .map(
      ({ m, r, name, s }) =>
        `if (lane == ${s % lanes}u && n0 + ${r}u < ${N}) { ${y}[(batch * ${M}u + ${m}u) * ${N} + n0 + ${r}u] = ${total(name, s)}${factor}; }`,
    )
    .join('\n  ')}`,
  };
}

/** Where vector v of a unit lies among those of its row of a. */
const place = ({ unit }: VectorWeight, segment: number, b: string, v: string) =>
  `${v} * ${segment}u + (${unit === 32 ? `${b} ^ ${v}` : b})`;

/** Copies the segment from `first` of all rows of a: eights of neighbouring threads are neighbours. Zeros follow K. */
function stage({ M, K, a, weight, tile: { segment, threads }, rowOfA }: VectorProduct): string {
  const { unit, paired } = weight;
  const eights = (segment * unit) / 8;
  const load =
    K % 4 === 0
      ? `low = ${a}[(row + k) / 4u];
        ${K % 8 === 0 ? '' : `if (k + 4u < ${K}u) `}{ high = ${a}[(row + k) / 4u + 1u]; }`
      : `for (var j = 0u; j < 8u && k + j < ${K}u; j++) {
          if (j < 4u) { low[j] = ${a}[row + k + j]; } else { high[j - 4u] = ${a}[row + k + j]; }
        }`;
  const [even, odd] = paired
    ? ['vec4<f32>(low.x, high.x, low.y, high.y)', 'vec4<f32>(low.z, high.z, low.w, high.w)']
    : ['low', 'high'];
  const inUnit = unit / 8;
  return `for (var i = thread; i < ${M * eights}u; i += ${threads}u) {
      let m = i / ${eights}u;
      let eight = i % ${eights}u;
      let k = first * ${unit}u + eight * 8u;
      if (k < ${K}u) {
        let row = (${rowOfA('m')}) * ${K}u;
        var low = vec4<f32>();
        var high = vec4<f32>();
        ${load}
        let b = eight / ${inUnit}u;
        let v = eight % ${inUnit}u * 2u;
        let to = m * ${(unit * segment) / 4}u;
        staged[to + ${place(weight, segment, 'b', 'v')}] = ${even};
        staged[to + ${place(weight, segment, 'b', '(v + 1u)')}] = ${odd};
      }
    }`;
}
