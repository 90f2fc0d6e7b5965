// The second half of the fused quantizer's text: from v0 … v7 to scales, codes and bits.

import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import type { Names } from '../kernel.ts';
import { readsTile } from '../wgsl/encode.ts';
import { hasFp4Search } from '../wgsl/search-fp4.ts';
import { eachVector, heldValues, heldVectors } from '../wgsl/turn.ts';
import type { FusedShape } from './fused-shape.ts';
import { type FusedTile, freeTile, keepStatements, takeAgain } from './fused-tile.ts';

/** Which of a chunk's scales covers vector j. */
const scaleOf = ({ perChunk }: FusedShape, j: number) => Math.floor((j * perChunk) / heldVectors);

const eachScale = ({ perChunk }: FusedShape, text: (s: number) => string) =>
  Array.from({ length: perChunk }, (_, s) => text(s)).join('\n  ');

/** The vectors that a scale covers. */
const vectorsOf = (shape: FusedShape, s: number): string[] =>
  Array.from({ length: heldVectors }, (_, j) => j).flatMap((j) => (scaleOf(shape, j) === s ? [`v${j}`] : []));

/** The sum of a vec4f's numbers, as text. */
const total = (v: string) => `(${v}.x + ${v}.y) + (${v}.z + ${v}.w)`;

/** Statements that declare own0 …, the largest magnitude of the values of each scale as bits: of a NaN and infinities too. */
const largestOf = (shape: FusedShape, s: number): string => {
  const bits = vectorsOf(shape, s).map((v) => `(bitcast<vec4u>(${v}) & vec4u(0x7fffffffu))`);
  return `let most${s} = ${bits.reduce((most, a) => `max(${most}, ${a})`)};
  var own${s} = Statistics(max(max(most${s}.x, most${s}.y), max(most${s}.z, most${s}.w)));`;
};

/**
 * The same with their sums, and sums of squares. The largest magnitude is found in floats, where a NaN may be lost; it shows
 * in the sum of squares, which nothing else makes NaN.
 */
function sumsOf(shape: FusedShape, s: number): string {
  const held = vectorsOf(shape, s);
  const largest = held.map((v) => `abs(${v})`).reduce((most, a) => `max(${most}, ${a})`);
  return `let most${s} = ${largest};
  let amax${s} = bitcast<u32>(max(max(most${s}.x, most${s}.y), max(most${s}.z, most${s}.w)));
  let fours${s} = ${held.map((v) => `${v} * ${v}`).join(' + ')};
  let squares${s} = ${total(`fours${s}`)};
  let sums${s} = ${held.join(' + ')};
  let isNaN${s} = (bitcast<u32>(squares${s}) & 0x7fffffffu) > 0x7f800000u;
  var own${s} = Statistics(select(amax${s}, 0x7fc00000u, isNaN${s}), ${total(`sums${s}`)}, squares${s});`;
}

/** Statements that declare own0 …: statistics of the values of each scale, or of the tensor. */
function gathered(shape: FusedShape, n: Names): string {
  const { spec, group, share } = shape;
  if (group === 0)
    return `var own0 = noStatistics();
  own0.amax = ${n.largest}[0];`;
  const gather = (s: number) => (readsTile(spec) ? sumsOf(shape, s) : largestOf(shape, s));
  const joined = `parts[thread] = own0;
  workgroupBarrier();
  let first = thread - thread % ${share}u;
  own0 = parts[first];
  for (var k = 1u; k < ${share}u; k++) { own0 = join(own0, parts[first + k]); }`;
  return `${eachScale(shape, gather)}
  ${share > 1 ? joined : ''}
  ${eachScale(
    shape,
    (s) => `if (own${s}.amax >= 0x7f800000u) {
    if (alive) { report(${nonFiniteError}u, i32(chunk)); }
    own${s} = noStatistics();
  }`,
  )}`;
}

/** Statements that declare tile0 … (wgsl/encode.ts) under the second-level scale g. */
export function fitScales(shape: FusedShape, tile: FusedTile, n: Names): string {
  const { spec, group, share, eden } = shape;
  const each = (s: number) => {
    if (eden)
      return `let scale${s} = scaleValue(scaleCode(divided(own${s}.amax, ${n.largest}[1])));
  let tile${s} = tileOf(0u, scale${s} * g, 0.0, 0, 0u);`;
    if (!readsTile(spec)) return `let tile${s} = fitTile(own${s}, g);`;
    const place = `groupFirst = vec2u(thread - thread % ${share}u, ${s * group}u);`;
    if (share > 1) return `${place} let tile${s} = fitTile(own${s}, g);`;
    // the few tiles that need their values again are read from workgroup memory by their thread alone
    return `var found${s} = estimatedCode(own${s});
  if (found${s} == undecided) {
    ${keepStatements(tile)}
    ${place}
    found${s} = exactCode();
    ${takeAgain(tile)}
  }
  let tile${s} = tileWith(found${s}, g);`;
  };
  const keep = share > 1 ? `${keepStatements(tile)}\n  workgroupBarrier();` : '';
  return `${gathered(shape, n)}
  ${readsTile(spec) ? `${freeTile(tile)}\n  ${keep}` : ''}
  ${eachScale(shape, each)}`;
}

const wordsOf = ({ spec }: FusedShape): string[] =>
  elementBits(spec.element) === 8
    ? [0, 1, 2, 3, 4, 5, 6, 7].map((j) => `four${j}`)
    : [0, 2, 4, 6].map((j) => `(four${j} | (four${j + 1} << 16u))`);

/** Statements that round v0 … v7 and declare their codes, four0 …, and the codes of the scales, code0 …. */
export function roundValues(shape: FusedShape): string {
  const { spec, group, perChunk, eden } = shape;
  const bits = elementBits(spec.element);
  const search = hasFp4Search(spec);
  const four = (v: string, j: number) => {
    const [s, element] = [scaleOf(shape, j), `chunk * ${heldValues}u + ${4 * j}u`];
    if (search) return `let four${j} = fp4Of(${v}, levels${s}, ${element});`;
    return `let codes${j} = codesOf(bitcast<vec4u>(${v}), tile${s}, ${element});
  let four${j} = codes${j}.x | (codes${j}.y << ${bits}u) | (codes${j}.z << ${2 * bits}u) | (codes${j}.w << ${3 * bits}u);`;
  };
  const code = (s: number) => {
    if (!eden) return `let code${s} = tile${s}.code;`;
    const [vectors, words] = [group / 4, group / 8];
    const held = Array.from({ length: vectors }, (_, k) => `bitcast<vec4u>(v${s * vectors + k})`).join(', ');
    const codes = wordsOf(shape)
      .slice(s * words, (s + 1) * words)
      .join(', ');
    return `let code${s} = edenCode(
    array<vec4u, ${vectors}>(${held}), array<u32, ${words}>(${codes}), scale${s}, tile${s}.step,
    uniformOf((chunk * ${perChunk}u + ${s}u) * ${group}u));`;
  };
  return `${search ? eachScale(shape, (s) => `let levels${s} = levelsOf(tile${s}.step);`) : ''}
  ${eachVector(four)}
  ${eachScale(shape, code)}`;
}

/** Statements that store the scales: whole words, or one after another in scratch. */
export function storeScales(shape: FusedShape, n: Names): string {
  const { spec, group, perChunk, share, whole } = shape;
  const bytes = scaleBytes(spec.scale.format);
  if (group === 0) return `if (item == 0u && thread == 0u) { ${n.scales}[0] = code0; }`;
  const index = perChunk > 1 ? `chunk * ${perChunk}u` : `chunk / ${share}u`;
  const first = share > 1 ? ` && thread % ${share}u == 0u` : '';
  if (bytes === 4 || !whole) {
    const array = whole ? n.scales : n.codes;
    return `if (alive${first}) { ${eachScale(shape, (s) => `${array}[${index} + ${s}u] = code${s};`)} }`;
  }
  const chunks = group / (8 * bytes);
  const word = Array.from({ length: 4 / bytes }, (_, k) => `(scaleCodes[at + ${k}u] << ${8 * bytes * k}u)`).join(' | ');
  const at = perChunk > 1 ? `thread * ${perChunk}u` : `thread / ${share}u`;
  return `{
    let at = ${at};
    ${share > 1 ? `if (thread % ${share}u == 0u)` : ''} { ${eachScale(shape, (s) => `scaleCodes[at + ${s}u] = select(0u, code${s}, alive);`)} }
    workgroupBarrier();
    if (alive && thread % ${chunks}u == 0u) { ${n.scales}[chunk / ${chunks}u] = ${word}; }
  }`;
}

/** Statements that store the codes. */
export function storeCodes(shape: FusedShape, n: Names): string {
  const words = wordsOf(shape);
  const vectors = words.flatMap((_, j) => (j % 4 === 0 ? [words.slice(j, j + 4).join(', ')] : []));
  const stores = vectors.map((four, j) => `${n.y}[chunk * ${vectors.length}u + ${j}u] = vec4u(${four});`);
  return `if (alive) { ${stores.join(' ')} }`;
}

/** Statements that store one bit for each value, 1 where |v| < fl(step · bound). */
export function storeBits(shape: FusedShape, n: Names): string {
  const limit = (s: number) =>
    `let limit${s} = ${shape.eden ? `scaleValue(code${s}) * g` : `tile${s}.step`} * words.bound;`;
  const mark = (v: string, j: number) => {
    const ones = [0, 1, 2, 3].map((k) => `${2 ** (4 * j + k)}u`).join(', ');
    return `marks |= select(vec4u(), vec4u(${ones}), abs(${v}) < vec4f(limit${scaleOf(shape, j)}));`;
  };
  return `if (alive) {
    ${eachScale(shape, limit)}
    var marks = vec4u();
    ${eachVector(mark)}
    ${n.bits}[chunk] = (marks.x | marks.y) | (marks.z | marks.w);
  }`;
}
