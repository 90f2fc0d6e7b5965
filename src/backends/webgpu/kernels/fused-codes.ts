// The second half of the fused quantizer's text: from v0 … v7 to scales, codes and bits.

import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import type { Names } from '../kernel.ts';
import { readsTile } from '../wgsl/encode.ts';
import { hasFp4Search } from '../wgsl/search-fp4.ts';
import { eachVector, heldValues, heldVectors } from '../wgsl/turn.ts';
import type { FusedShape } from './fused-shape.ts';

/** Which of a chunk's scales covers vector j. */
const scaleOf = ({ perChunk }: FusedShape, j: number) => Math.floor((j * perChunk) / heldVectors);

const eachScale = ({ perChunk }: FusedShape, text: (s: number) => string) =>
  Array.from({ length: perChunk }, (_, s) => text(s)).join('\n  ');

/** Statements that declare own0 …: statistics of the values of each scale, or of the tensor. */
function gathered(shape: FusedShape, n: Names): string {
  const { group, share } = shape;
  if (group === 0)
    return `var own0 = noStatistics();
  own0.amax = ${n.largest}[0];`;
  const place = (j: number, k: number) =>
    `${share > 1 ? `thread % ${share}u * ${heldValues}u + ` : ''}${(4 * j + k) % group}u`;
  const gather = (v: string, j: number) =>
    [0, 1, 2, 3]
      .map((k) => `gather(own${scaleOf(shape, j)}, bitcast<u32>(${v}.${'xyzw'[k]}), ${place(j, k)})`)
      .map((text) => `own${scaleOf(shape, j)} = ${text};`)
      .join(' ');
  const joined = `parts[thread] = own0;
  workgroupBarrier();
  let first = thread - thread % ${share}u;
  own0 = parts[first];
  for (var k = 1u; k < ${share}u; k++) { own0 = join(own0, parts[first + k]); }`;
  return `${eachScale(shape, (s) => `var own${s} = noStatistics();`)}
  ${eachVector(gather)}
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
export function fitScales(shape: FusedShape, n: Names): string {
  const { spec, group, share, eden } = shape;
  const each = (s: number) => {
    if (eden)
      return `let scale${s} = scaleValue(scaleCode(divided(own${s}.amax, ${n.largest}[1])));
  let tile${s} = tileOf(0u, scale${s} * g, 0.0, 0, 0u);`;
    const place = `groupFirst = vec2u(thread - thread % ${share}u, ${s * group}u);`;
    return `${readsTile(spec) ? place : ''} let tile${s} = fitTile(own${s}, g);`;
  };
  return `${gathered(shape, n)}
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
  const mark = (v: string, j: number) =>
    `let m${j} = select(vec4u(), vec4u(1u, 2u, 4u, 8u), abs(${v}) < vec4f(limit${scaleOf(shape, j)}));
    marks |= (m${j}.x | m${j}.y | m${j}.z | m${j}.w) << ${4 * j}u;`;
  return `if (alive) {
    ${eachScale(shape, limit)}
    var marks = 0u;
    ${eachVector(mark)}
    ${n.bits}[chunk] = marks;
  }`;
}
