// WGSL of attention on tensor cores: tiles, fragments and what lanes own of them.
//
// Thread map: four subgroups of 32 lanes; a subgroup owns `strips` times 16 lines (query rows or keys) and walks with the
// others over the lines of the other side in tiles of 32. Its 16 × 16 fragments are opaque, so scores go through
// `staging`, a row of 32 f32 for each owned line: with two strips a lane reads its own row, with one strip half of it, and
// writes what it made of each 16 numbers as f16 in place, over the first half of them; nobody else reads or writes there
// before the next barrier. From there they are the left operand of the next product.
// Rows of tiles and of staging are apart by an odd number of 16-byte banks, so that eight rows at a time do not collide.
// Workgroup memory: 32 · (D + 8) · 2 bytes a tile, 64 · strips · 144 bytes a staging area.

export const subgroups = 4;
export const threads = subgroups * 32;
/** Lines of the other side at a time. */
export const tileLines = 32;
/** 16-byte vectors of a staging row. */
export const stagingStride = tileLines / 4 + 1;

/** How one kernel cuts its work. */
export interface Cut {
  readonly D: number;
  /** Sixteens of lines that a subgroup owns. */
  readonly strips: 1 | 2;
}

export const range = (n: number) => Array.from({ length: n }, (_, i) => i);
export const lines = (n: number, of: (i: number) => string) => range(n).map(of).join('\n    ');

export const ownedLines = ({ strips }: Cut) => subgroups * 16 * strips;
/** 16-byte vectors of a line, in storage and in a tile. */
const lineVectors = ({ D }: Cut) => D / 8;
export const tileStride = (cut: Cut) => lineVectors(cut) + 1;
export const tileVectors = (cut: Cut) => tileLines * tileStride(cut);
export const stagingVectors = (cut: Cut) => ownedLines(cut) * stagingStride;
/** Vectors of four scores that a lane reads of a tile. */
export const laneVectors = ({ strips }: Cut) => 4 * strips;

/** Where this subgroup and this lane stand: `strip`, `own` (line of the subgroup), `mine` (its staging), `column`. */
export const placement = (cut: Cut) => `let strip = subgroup * ${16 * cut.strips}u;
  ${
    cut.strips === 2 ? 'let own = lane;\n  let column = 0u;' : 'let own = lane % 16u;\n  let column = lane / 16u * 16u;'
  }
  let mine = (strip + own) * ${stagingStride}u + column / 4u;`;

/** Registers, loads and stores that bring a tile of 32 lines from storage to workgroup memory. */
export function tileLoader(cut: Cut, name: string) {
  const vectors = tileLines * lineVectors(cut);
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

const left = 'subgroup_matrix_left<f16, 16, 16>';
const right = 'subgroup_matrix_right<f16, 16, 16>';
export const result = 'subgroup_matrix_result<f32, 16, 16>';

/** The owned lines of an operand as left fragments NAME_r_k; `first`: the workgroup's first line in storage. */
export const ownedFragments = (cut: Cut, name: string, array: string, first: string) =>
  lines(cut.strips * (cut.D / 16), (i) => {
    const [r, k] = [i % cut.strips, Math.floor(i / cut.strips)];
    return `let ${name}_${r}_${k} = ${ownedFragment(cut, array, first, r, k)};`;
  });

const ownedFragment = (cut: Cut, array: string, first: string, r: number, k: number) =>
  `subgroupMatrixLoad<${left}, row_major>(&${array}, (${first} + strip + ${16 * r}u) * ${lineVectors(cut)}u + ${2 * k}u, ${lineVectors(cut)}u)`;

/** staging = owned · tileᵀ: scores of the owned lines with the 32 of the tile. */
export function scoresToStaging(cut: Cut, owned: string, tile: string, staging: string): string {
  const columns = tileLines / 16;
  const each = (of: (r: number, j: number) => string) =>
    lines(cut.strips * columns, (i) => of(i % cut.strips, Math.floor(i / cut.strips)));
  return `{
    ${each((r, j) => `var s${r}_${j}: ${result} = ${result}();`)}
    ${lines(
      cut.D / 16,
      (k) => `{
      ${lines(columns, (j) => `let b${j} = subgroupMatrixLoad<${right}, col_major>(&${tile}, ${j * 16 * tileStride(cut) + 2 * k}u, ${tileStride(cut)}u);`)}
      ${each((r, j) => `s${r}_${j} = subgroupMatrixMultiplyAccumulate(${owned}_${r}_${k}, b${j}, s${r}_${j});`)}
    }`,
    )}
    ${each((r, j) => `subgroupMatrixStore<row_major>(&${staging}, (strip + ${16 * r}u) * ${stagingStride}u + ${4 * j}u, s${r}_${j}, ${stagingStride}u);`)}
  }`;
}

/** Accumulators NAME_r_d of the owned lines, zero. */
export const accumulators = (cut: Cut, name: string) =>
  eachAccumulator(cut, (r, d) => `var ${name}_${r}_${d}: ${result} = ${result}();`);

export const eachAccumulator = (cut: Cut, of: (r: number, d: number) => string) =>
  lines((cut.strips * cut.D) / 16, (i) => of(i % cut.strips, Math.floor(i / cut.strips)));

/** NAME += weights · tile, the weights being f16 in staging. */
export const gatherTile = (cut: Cut, name: string, staging: string, tile: string) =>
  lines(
    tileLines / 16,
    (k) => `{
    ${lines(cut.strips, (r) => `let w${r} = subgroupMatrixLoad<${left}, row_major>(&${staging}, (strip + ${16 * r}u) * ${stagingStride}u + ${4 * k}u, ${stagingStride}u);`)}
    ${lines(
      cut.D / 16,
      (d) => `{
      let b = subgroupMatrixLoad<${right}, row_major>(&${tile}, ${k * 16 * tileStride(cut) + 2 * d}u, ${tileStride(cut)}u);
      ${lines(cut.strips, (r) => `${name}_${r}_${d} = subgroupMatrixMultiplyAccumulate(w${r}, b, ${name}_${r}_${d});`)}
    }`,
    )}
  }`,
  );

/** Declares NAME0 …: the four-vectors of this lane's part of its staging row. */
export const readStaging = (cut: Cut, name: string, staging: string) =>
  lines(laneVectors(cut), (i) => `var ${name}${i} = bitcast<vec4f>(${staging}[mine + ${i}u]);`);

/** Writes four-vectors over the place they were made from, as f16. */
export const writeHalves = (cut: Cut, staging: string, of: (i: number) => string) =>
  lines(
    laneVectors(cut) / 4,
    (b) => `${staging}[mine + ${4 * b}u] = halves(${of(4 * b)}, ${of(4 * b + 1)});
    ${staging}[mine + ${4 * b + 1}u] = halves(${of(4 * b + 2)}, ${of(4 * b + 3)});`,
  );

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

/** Combines the two halves of a row, where two lanes share one. */
export const joined = (cut: Cut, name: string, combine: (a: string, b: string) => string) =>
  cut.strips === 2 ? '' : `${name} = ${combine(name, `subgroupShuffleXor(${name}, 16u)`)};`;

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

/**
 * Writes accumulators through staging: line `own` of `target` gets them times `share` of its lane, times `factors`.
 * `start(line)`: vector of four where a line begins in the target. Staging must be free; it is free afterwards.
 */
export const storeOwned = (
  cut: Cut,
  name: string,
  staging: string,
  target: string,
  start: (line: string) => string,
  count: string,
  share: string,
  factors: string,
) =>
  lines(
    Math.ceil(cut.D / 32),
    (p) => `${lines(Math.min(2, cut.D / 16 - 2 * p), (j) =>
      lines(
        cut.strips,
        (r) =>
          `subgroupMatrixStore<row_major>(&${staging}, (strip + ${16 * r}u) * ${stagingStride}u + ${4 * j}u, ${name}_${r}_${2 * p + j}, ${stagingStride}u);`,
      ),
    )}
  workgroupBarrier();
  for (var i = 0u; i < ${4 * cut.strips}u; i++) {
    let local = i * 4u + lane / 8u;
    let factor = subgroupShuffle(${share}, local);
    let line = line0 + strip + local;
    let d = ${8 * p}u + lane % 8u;
    if (line < ${count} && d < ${cut.D / 4}u) {
      ${target}[${start('line')} + d] = bitcast<vec4f>(${staging}[(strip + local) * ${stagingStride}u + lane % 8u]) * factor${factors};
    }
  }
  workgroupBarrier();`,
  );
