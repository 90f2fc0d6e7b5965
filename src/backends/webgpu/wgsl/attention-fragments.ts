// WGSL of attention on tensor cores: tiles, fragments and what lanes own of them.
//
// Thread map: a subgroup owns as many lines (query rows or keys) as its matrices have rows, 16 or 8, and walks with the
// others of its workgroup over the lines of the other side in tiles. Fragments are opaque, so scores go through `staging`,
// a row of f32 for each owned line: the lanes that share a row (two of 32 where matrices have 16 rows) each read their
// part of it and write what they made of each 16 (8) numbers as f16 in place, over the first half of them; nobody else
// reads or writes there before the next barrier. From there they are the left operand of the next product.
// Rows of tiles and of staging are apart by an odd number of 16-byte banks, so that eight rows at a time do not collide.
// Workgroup memory: tileLines · (D + 8) · 2 bytes a tile, subgroups · edge · 4 · (tileLines + 4) bytes a staging area.

import type { Fragments } from '../fragments.ts';
import type { Names } from '../kernel.ts';

/** How one kernel cuts its work. */
export interface Cut extends Fragments {
  readonly D: number;
  /** Subgroups of a workgroup, which own `edge` lines each. */
  readonly subgroups: number;
  /** Lines of the other side at a time, a multiple of 32. */
  readonly tileLines: number;
}

const subgroupCounts = [8, 6, 4, 2] as const;
/** Owned lines of the workgroups that fitting chooses among. */
export const blockLines = ({ edge }: Fragments) => subgroupCounts.map((count) => edge * count);

/** The cut with the most subgroups up to `most` whose workgroup memory fits: more read a tile less often. */
export function fitting(
  { D, fragments, memory }: { D: number; fragments: Fragments; memory: number },
  most: number,
  bytes: (cut: Cut) => number,
): Cut {
  const cuts = subgroupCounts.map((subgroups) => ({ ...fragments, D, subgroups, tileLines: 32 }));
  const found = cuts.find((cut) => cut.subgroups <= most && bytes(cut) <= memory);
  if (!found) throw new Error(`attention: ${memory} bytes of workgroup memory are too few for ${D} dimensions`);
  return found;
}

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
export const lines = (n: number, of: (i: number) => string) => range(n).map(of).join('\n    ');

export const threadsOf = ({ subgroups, lanes }: Cut) => subgroups * lanes;
export const ownedLines = ({ subgroups, edge }: Cut) => subgroups * edge;
/** Lanes that share an owned line. */
export const lineLanes = ({ lanes, edge }: Cut) => lanes / edge;
/** 16-byte vectors of a staging row. */
export const stagingStride = ({ tileLines }: Cut) => tileLines / 4 + 1;
/** 16-byte vectors of a line, in storage and in a tile. */
const lineVectors = ({ D }: Cut) => D / 8;
export const tileStride = (cut: Cut) => lineVectors(cut) + 1;
export const tileVectors = (cut: Cut) => cut.tileLines * tileStride(cut);
export const stagingVectors = (cut: Cut) => ownedLines(cut) * stagingStride(cut);
/** Vectors of four scores that a lane reads of a tile. */
export const laneVectors = (cut: Cut) => cut.tileLines / 4 / lineLanes(cut);

/** Where this subgroup and this lane stand: `strip`, `own` (line of the subgroup), `mine` (its staging), `column`. */
export const placement = (cut: Cut) => `let strip = subgroup * ${cut.edge}u;
  let own = lane % ${cut.edge}u;
  let column = lane / ${cut.edge}u * ${4 * laneVectors(cut)}u;
  let mine = (strip + own) * ${stagingStride(cut)}u + column / 4u;`;

/** Registers, loads and stores that bring a tile from storage to workgroup memory. */
export function tileLoader(cut: Cut, name: string) {
  const vectors = cut.tileLines * lineVectors(cut);
  const threads = threadsOf(cut);
  const each = (of: (i: number) => string) =>
    lines(Math.ceil(vectors / threads), (i) =>
      (i + 1) * threads > vectors ? `if (thread + ${i * threads}u < ${vectors}u) { ${of(i)} }` : of(i),
    );
  return {
    registers: lines(Math.ceil(vectors / threads), (i) => `var ${name}_${i} = vec4<u32>();`),
    /** `first`: the tile's first vector in `array`. */
    load: (array: string, first: string) =>
      each((i) => `${name}_${i} = ${array}[${first} + thread + ${i * threads}u];`),
    store: each(
      (i) =>
        `${name}_tile[(thread + ${i * threads}u) / ${lineVectors(cut)}u * ${tileStride(cut)}u + (thread + ${i * threads}u) % ${lineVectors(cut)}u] = ${name}_${i};`,
    ),
  };
}

const left = ({ edge }: Cut) => `subgroup_matrix_left<f16, ${edge}, ${edge}>`;
const right = ({ edge }: Cut) => `subgroup_matrix_right<f16, ${edge}, ${edge}>`;
export const result = ({ edge }: Cut) => `subgroup_matrix_result<f32, ${edge}, ${edge}>`;

/** The owned lines of an operand as left fragments NAME_k; `first`: the workgroup's first line in storage. */
export const ownedFragments = (cut: Cut, name: string, array: string, first: string) =>
  lines(
    cut.D / cut.edge,
    (k) =>
      `let ${name}_${k} = subgroupMatrixLoad<${left(cut)}, row_major>(&${array}, (${first} + strip) * ${lineVectors(cut)}u + ${(cut.edge / 8) * k}u, ${lineVectors(cut)}u);`,
  );

/** Fragment `j` of the owned rows of staging: its first vector and the distance of rows. */
const stagingPlace = (cut: Cut, j: number) =>
  `strip * ${stagingStride(cut)}u + ${(cut.edge / 4) * j}u, ${stagingStride(cut)}u`;
const stagingTarget = (cut: Cut, staging: string, j: number, value: string) =>
  `subgroupMatrixStore<row_major>(&${staging}, strip * ${stagingStride(cut)}u + ${(cut.edge / 4) * j}u, ${value}, ${stagingStride(cut)}u);`;

/** staging = owned · tileᵀ: scores of the owned lines with those of the tile. */
export function scoresToStaging(cut: Cut, owned: string, tile: string, staging: string): string {
  const columns = cut.tileLines / cut.edge;
  return `{
    ${lines(columns, (j) => `var s${j}: ${result(cut)} = ${result(cut)}();`)}
    ${lines(cut.D / cut.edge, (k) =>
      lines(
        columns,
        (j) =>
          `s${j} = subgroupMatrixMultiplyAccumulate(${owned}_${k}, subgroupMatrixLoad<${right(cut)}, col_major>(&${tile}, ${cut.edge * (j * tileStride(cut) + k / 8)}u, ${tileStride(cut)}u), s${j});`,
      ),
    )}
    ${lines(columns, (j) => stagingTarget(cut, staging, j, `s${j}`))}
  }`;
}

/** Accumulators NAME_d of the owned lines, zero. */
export const accumulators = (cut: Cut, name: string) =>
  lines(cut.D / cut.edge, (d) => `var ${name}_${d}: ${result(cut)} = ${result(cut)}();`);

/** NAME += weights · tile, the weights being f16 in staging. */
export const gatherTile = (cut: Cut, name: string, staging: string, tile: string) =>
  lines(
    cut.tileLines / cut.edge,
    (k) => `{
    let weights = subgroupMatrixLoad<${left(cut)}, row_major>(&${staging}, ${stagingPlace(cut, k)});
    ${lines(
      cut.D / cut.edge,
      (d) =>
        `${name}_${d} = subgroupMatrixMultiplyAccumulate(weights, subgroupMatrixLoad<${right(cut)}, row_major>(&${tile}, ${cut.edge * (k * tileStride(cut) + d / 8)}u, ${tileStride(cut)}u), ${name}_${d});`,
    )}
  }`,
  );

/** Declares NAME0 …: the four-vectors of this lane's part of its staging row. */
export const readStaging = (cut: Cut, name: string, staging: string) =>
  lines(laneVectors(cut), (i) => `var ${name}${i} = bitcast<vec4f>(${staging}[mine + ${i}u]);`);

/** Writes four-vectors over the place they were made from, as f16. */
export const writeHalves = (cut: Cut, staging: string, of: (i: number) => string) =>
  lines(laneVectors(cut) / 2, (pair) => {
    const perFragment = cut.edge / 8;
    const to = Math.floor(pair / perFragment) * 2 * perFragment + (pair % perFragment);
    return `${staging}[mine + ${to}u] = halves(${of(2 * pair)}, ${of(2 * pair + 1)});`;
  });

/** Statements `of(i)` where lines of the tile may be out of sight; `seen` says which. `first` and `last` are i32. */
export const masked = (cut: Cut, first: string, last: string, of: (i: number) => string) =>
  lines(
    laneVectors(cut),
    (i) => `{
      let line = vec4i(i32(tile0 + column) + ${4 * i}) + vec4i(0, 1, 2, 3);
      let seen = (line >= vec4i(${first})) & (line <= vec4i(${last}));
      ${of(i)}
    }`,
  );

/** Combines what the lanes of a row have. */
export const joined = (cut: Cut, name: string, combine: (a: string, b: string) => string) =>
  lines(
    Math.log2(lineLanes(cut)),
    (i) => `${name} = ${combine(name, `subgroupShuffleXor(${name}, ${cut.edge << i}u)`)};`,
  );

export const sumOf = (n: number, of: (i: number) => string): string =>
  `dot(${range(n).map(of).join(' + ')}, vec4f(1.0))`;
export const largestOf = (n: number, of: (i: number) => string): string => {
  const all = range(n)
    .map(of)
    .reduce((a, b) => `max(${a}, ${b})`);
  return `largest_component(${all})`;
};

export const fragmentSource = `
const lowest = -3.0e38;
const log2e = 1.4426950408889634;
fn largest_component(x: vec4f) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }
`;

/** Scores to the base of exp2, without the operands' factors. */
export const sharpness = (n: Names) => `let sharpness = words.scale * log2e * ${n.factors}[0] * ${n.factors}[1];`;

/**
 * Writes accumulators through staging: an owned line of `target` gets them times `share` of its lane, times `factors`.
 * `start(line)`: vector of four where a line begins in the target. Staging must be free; it is free afterwards.
 */
export const storeOwned = (
  cut: Cut,
  name: string,
  staging: string,
  target: string,
  start: (line: string) => string,
  count: number,
  share: string,
  factors: string,
) =>
  lines(Math.ceil(cut.D / 32), (p) => {
    const perPass = 32 / cut.edge;
    const fragments = Math.min(perPass, cut.D / cut.edge - perPass * p);
    return `${lines(fragments, (j) => stagingTarget(cut, staging, j, `${name}_${perPass * p + j}`))}
  workgroupBarrier();
  for (var i = 0u; i < ${(8 * cut.edge) / cut.lanes}u; i++) {
    let local = i * ${cut.lanes / 8}u + lane / 8u;
    let factor = subgroupShuffle(${share}, local);
    let line = line0 + strip + local;
    let d = ${8 * p}u + lane % 8u;
    if (line < ${count}u && d < ${cut.D / 4}u) {
      ${target}[${start('line')} + d] = bitcast<vec4f>(${staging}[(strip + local) * ${stagingStride(cut)}u + lane % 8u]) * factor${factors};
    }
  }
  workgroupBarrier();`;
  });
