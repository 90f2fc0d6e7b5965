// A 64 × 64 tile of a matrix product in WGSL, for kernels that do more with the results than store them.
//
// A workgroup of 256 threads computes it; thread t holds the results (row 4⌊t/16⌋ + j, column t mod 16 + 16 l) of the
// tile in sums[j][l], j and l from 0 to 3. The depth passes through workgroup memory in steps of 16: 2 · 16 · 65 f32,
// 8.3 KB. Elements outside are zeros. Sums are over k in ascending order.

const side = 64;
const step = 16;
const stride = side + 1;

/** Rows and columns of a tile. */
export const tileSide = side;
export const tileThreads = 256;

/** Workgroup memory of tileProduct. */
export const tileSource = `
var<workgroup> leftTile: array<f32, ${step * stride}>;
var<workgroup> rightTile: array<f32, ${step * stride}>;
`;

/** One operand, a [rows, depth] matrix. */
export interface TileOperand {
  /** The element at `row` and `k`, both within bounds; of a packed matrix eight of them along its last dimension. */
  readonly element: (row: string, k: string) => string;
  /** How many rows there are. */
  readonly rows: string;
  /** Neighbouring elements lie along k; otherwise along rows. */
  readonly kLast: boolean;
  /** `element` is an Eight (wgsl/decode.ts) whose first value is at row and k. */
  readonly packed?: boolean;
}

/** Copies [step, side] elements to workgroup memory; neighbouring threads read neighbouring elements. */
function load(shared: string, operand: TileOperand, first: string, depth: string): string {
  const { element, rows, kLast, packed } = operand;
  if (packed) return loadEights(shared, operand, first, depth);
  const [k, row] = kLast ? [`at % ${step}u`, `at / ${step}u`] : [`at / ${side}u`, `at % ${side}u`];
  return `for (var at = thread; at < ${side * step}u; at += ${tileThreads}u) {
      let k = k0 + ${k};
      let row = ${first} + ${row};
      var value = 0.0;
      if (k < ${depth} && row < ${rows}) { value = ${element('row', 'k')}; }
      ${shared}[(${k}) * ${stride}u + ${row}] = value;
    }`;
}

/** The same from a packed matrix: 128 threads bring eight values each, the others wait. */
function loadEights(shared: string, { element, rows, kLast }: TileOperand, first: string, depth: string): string {
  const [k, row] = kLast ? ['thread % 2u * 8u', 'thread / 2u'] : ['thread / 8u', 'thread % 8u * 8u'];
  const place = kLast ? `(toK + j) * ${stride}u + toRow` : `toK * ${stride}u + toRow + j`;
  // Values beyond the last column are undefined.
  const inside = kLast ? `k + j < ${depth}` : `row + j < ${rows}`;
  return `if (thread < ${(side * step) / 8}u) {
      let toK = ${k};
      let toRow = ${row};
      let k = k0 + toK;
      let row = ${first} + toRow;
      var eight = Eight();
      if (k < ${depth} && row < ${rows}) { eight = ${element('row', 'k')}; }
      for (var j = 0u; j < 8u; j++) {
        ${shared}[${place}] = select(0.0, select(eight.high[j & 3u], eight.low[j & 3u], j < 4u), ${inside});
      }
    }`;
}

/**
 * Statements that declare `sums` and fill it: Σ_k left[m0 + i, k] · right[n0 + j, k]. `m0`, `n0` and `thread` are in
 * scope; depth is uniform.
 */
export function tileProduct(left: TileOperand, right: TileOperand, depth: string): string {
  return `var sums = array<vec4f, 4>();
  for (var k0 = 0u; k0 < ${depth}; k0 += ${step}u) {
    ${load('leftTile', left, 'm0', depth)}
    ${load('rightTile', right, 'n0', depth)}
    workgroupBarrier();
    for (var k = 0u; k < ${step}u; k++) {
      let right = k * ${stride}u + thread % 16u;
      let across = vec4f(rightTile[right], rightTile[right + 16u], rightTile[right + 32u], rightTile[right + 48u]);
      let left = k * ${stride}u + thread / 16u * 4u;
      for (var j = 0u; j < 4u; j++) { sums[j] += leftTile[left + j] * across; }
    }
    workgroupBarrier();
  }`;
}

/** Statements for each result of the tile within bounds: they see `row`, `column` and `sum`. */
export function forEachSum(rows: string, columns: string, body: string): string {
  return `for (var j = 0u; j < 4u; j++) {
    let row = m0 + thread / 16u * 4u + j;
    for (var l = 0u; l < 4u; l++) {
      let column = n0 + thread % 16u + 16u * l;
      if (row < ${rows} && column < ${columns}) {
        let sum = sums[j][l];
        ${body}
      }
    }
  }`;
}

/** How many tiles cover a length. */
export const tilesOf = (length: number) => Math.ceil(length / side);
