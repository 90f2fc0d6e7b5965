// WGSL with subgroup matrices of 16 × 16 or 8 × 8 (f16 operands and f32 results), or of i8, 16 × 32 × 16, as WGSL without.
//
// A result fragment is eight f32 in a thread: of 16 × 16 half a row, thread l of the subgroup having row l / 2 and the
// columns from l % 2 · 8; of 8 × 8 a row, in the first eight threads. Operands are not loaded: a product reads them where they lie, in arrays of vec4<u32>, eight f16 or sixteen i8
// each.
// So nothing may change them in between: a barrier between the load of a fragment from workgroup memory and a product
// with it is an error. Sums go along K, one by one or in eights.

import type { Fragments } from '../../src/backends/webgpu/fragments.ts';
import { replaceCalls } from './wgsl-calls.ts';

interface Operand {
  readonly component: string;
  readonly array: string;
  readonly major: string;
  readonly place: string;
}

/** What a thread has of a result. */
const fragment = 'array<vec4<f32>, 2>';
const integers = 'array<vec4<i32>, 2>';

/** Reads of eight f16 and of one. */
const readsOf = (array: string) => `
fn fragment_eight_${array}(at: u32) -> array<vec4<f32>, 2> {
  let words = ${array}[at];
  return array(
    vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
    vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)));
}
fn fragment_half_${array}(at: u32) -> f32 { return unpack2x16float(${array}[at / 8u][at / 2u % 4u])[at % 2u]; }`;

/** The left number at `k` of this thread's row. */
interface Place {
  readonly edge: number;
  /** This thread's row and first column. */
  readonly row: string;
  readonly column: string;
  /** Whether the thread's part is not another's too. */
  readonly owns: string;
}

function placeOf({ edge, lanes }: Fragments): Place {
  const parts = edge / 8;
  const lane = `emulated_thread % ${lanes}u`;
  return {
    edge,
    row: `${lane} / ${parts}u % ${edge}u`,
    column: `emulated_thread % ${parts}u * 8u`,
    owns: `${lane} < ${edge * parts}u`,
  };
}

const leftHalf = ({ array, major }: Operand) =>
  `fragment_half_${array}(${major === 'row_major' ? '(left.x + row * left.y) * 8u + k' : '(left.x + k * left.y) * 8u + row'})`;

/** Right operand with columns side by side: eight of them for each k. */
const alongColumns = (left: Operand, right: Operand, edge: number) => `for (var k = 0u; k < ${edge}u; k++) {
    let x = ${leftHalf(left)};
    let y = fragment_eight_${right.array}(right.x + k * right.y + column / 8u);
    result[0] += x * y[0];
    result[1] += x * y[1];
  }`;

/** Right operand with K side by side: eight along K for each column. */
const alongK = (left: Operand, right: Operand, edge: number) => `for (var part = 0u; part < ${edge / 8}u; part++) {
    ${
      left.major === 'row_major'
        ? `let x = fragment_eight_${left.array}(left.x + row * left.y + part);`
        : `var x: array<vec4<f32>, 2>;
    for (var i = 0u; i < 8u; i++) {
      let k = 8u * part + i;
      x[i / 4u][i % 4u] = ${leftHalf(left)};
    }`
    }
    for (var j = 0u; j < 8u; j++) {
      let y = fragment_eight_${right.array}(right.x + (column + j) * right.y + part);
      result[j / 4u][j % 4u] += dot(x[0], y[0]) + dot(x[1], y[1]);
    }
  }`;

/** 32 bytes of K on both sides, two vectors a line. */
const integerProduct = (name: string, left: Operand, right: Operand, { row, column }: Place) => `
fn ${name}(left: vec2<u32>, right: vec2<u32>, sum: ${integers}) -> ${integers} {
  let row = ${row};
  let column = ${column};
  var result = sum;
  for (var part = 0u; part < 2u; part++) {
    let x = ${left.array}[left.x + row * left.y + part];
    for (var j = 0u; j < 8u; j++) {
      let y = ${right.array}[right.x + (column + j) * right.y + part];
      for (var w = 0u; w < 4u; w++) { result[j / 4u][j % 4u] += dot4I8Packed(x[w], y[w]); }
    }
  }
  return result;
}`;

const productOf = (name: string, left: Operand, right: Operand, { edge, row, column }: Place) => `
fn ${name}(left: vec2<u32>, right: vec2<u32>, sum: ${fragment}) -> ${fragment} {
  let row = ${row};
  let column = ${column};
  var result = sum;
  ${right.major === 'row_major' ? alongColumns(left, right, edge) : alongK(left, right, edge)}
  return result;
}`;

const scaleSource = `
fn fragment_scale(value: ${fragment}, factor: f32) -> ${fragment} {
  return array(value[0] * factor, value[1] * factor);
}`;

/** Functions that load and store results, for arrays of f32 and of vec4<u32> that hold their bits. */
function memoryOf(array: string, type: string, { row, column, owns }: Place): { load: string; store: string } {
  if (!['f32', 'i32', 'vec4<u32>'].includes(type)) throw new Error(`a result in ${array}, an array of ${type}`);
  const held = type === 'i32' ? integers : fragment;
  const start = `let at = offset + ${row} * stride + ${column}${type === 'vec4<u32>' ? ' / 4u' : ''};`;
  const four = (h: number) =>
    type !== 'vec4<u32>'
      ? `vec4<${type}>(${[0, 1, 2, 3].map((j) => `${array}[at + ${4 * h + j}u]`).join(', ')})`
      : `bitcast<vec4<f32>>(${array}[at + ${h}u])`;
  const put = (h: number) =>
    type !== 'vec4<u32>'
      ? `for (var j = 0u; j < 4u; j++) { ${array}[at + ${4 * h}u + j] = value[${h}][j]; }`
      : `${array}[at + ${h}u] = bitcast<vec4<u32>>(value[${h}]);`;
  return {
    load: `
fn fragment_load_${array}(offset: u32, stride: u32) -> ${held} {
  ${start}
  return array(${four(0)}, ${four(1)});
}`,
    store: `
fn fragment_store_${array}(offset: u32, value: ${held}, stride: u32) {
  if (!(${owns})) { return; }
  ${start}
  ${put(0)}
  ${put(1)}
}`,
  };
}

function typeOf(code: string, pointer: string): { array: string; type: string; shared: boolean } {
  const array = pointer.slice(1);
  const found = code.match(new RegExp(`var<(workgroup|storage)[^>]*> ${array}\\s*: array<(vec4<u32>|\\w+)[,>]`));
  if (!pointer.startsWith('&') || !found) throw new Error(`${pointer} is no array that can be found`);
  return { array, type: found[2], shared: found[1] === 'workgroup' };
}

export function emulateFragments(code: string, fragments: Fragments): string {
  const place = placeOf(fragments);
  const { edge } = fragments;
  const functions = new Map<string, string>();
  const operands: Operand[] = [];
  const operandText = (operand: Operand) => `fragment_${operands.push(operand) - 1}_`;
  let text = replaceCalls(code, 'subgroupMatrixLoad', ({ template, args: [pointer, offset, stride] }) => {
    const [, side, component, size, major] =
      template.match(
        /^subgroup_matrix_(left|right|result)<(f16|f32|i8), (8, 8|16, 16|32, 16|16, 32)>, (row_major|col_major)$/,
      ) ?? [];
    const { array, type } = typeOf(code, pointer);
    if (side === 'result' && component === 'f32' && major === 'row_major') {
      functions.set(`load ${array}`, memoryOf(array, type, place).load);
      return `fragment_load_${array}(${offset}, ${stride})`;
    }
    const alongK = side === 'left' ? ['32, 16', 'row_major'] : ['16, 32', 'col_major'];
    if (component === 'i8' && type === 'vec4<u32>' && String([size, major]) === String(alongK))
      return operandText({ component, array, major, place: `vec2<u32>(${offset}, ${stride})` });
    if (component !== 'f16' || type !== 'vec4<u32>' || size !== `${edge}, ${edge}`)
      throw new Error(`a fragment of ${template} in ${type}`);
    functions.set(`reads ${array}`, readsOf(array));
    return operandText({ component, array, major, place: `vec2<u32>(${offset}, ${stride})` });
  });
  const named = new Map<string, Operand>();
  // names come again in other blocks: each use has the last definition before it
  text = text.replace(/\blet (\w+) = fragment_(\d+)_;/g, (_, name, i) => {
    const key = `${name}_fragment${i}`;
    named.set(key, operands[Number(i)]);
    return `let ${key} = ${operands[Number(i)].place};`;
  });
  const operandOf = (value: string, before: string): Operand => {
    const inPlace = value.match(/^fragment_(\d+)_$/);
    if (inPlace) return operands[Number(inPlace[1])];
    const [, key] = [...before.matchAll(new RegExp(`\\blet (${value}_fragment\\d+) = `, 'g'))].at(-1) ?? [];
    const operand = key && named.get(key);
    if (!operand) throw new Error(`${value} is no fragment`);
    const since = before.slice(before.lastIndexOf(`let ${key} = `));
    if (/workgroupBarrier|workgroupUniformLoad/.test(since) && typeOf(code, `&${operand.array}`).shared)
      throw new Error(`a barrier between the load of ${value} and a product with it`);
    return { ...operand, place: key };
  };
  text = replaceCalls(text, 'subgroupMatrixMultiplyAccumulate', ({ args: [a, b, sum], before }) => {
    const [left, right] = [operandOf(a, before), operandOf(b, before)];
    const name = `fragment_product_${left.array}_${left.major}_${right.array}_${right.major}`;
    functions.set(name, (left.component === 'i8' ? integerProduct : productOf)(name, left, right, place));
    return `${name}(${left.place}, ${right.place}, ${sum})`;
  });
  text = replaceCalls(text, 'subgroupMatrixStore', ({ template, args: [pointer, offset, value, stride] }) => {
    const { array, type } = typeOf(code, pointer);
    if (template !== 'row_major') throw new Error(`a store in ${template}`);
    functions.set(`store ${array}`, memoryOf(array, type, place).store);
    return `fragment_store_${array}(${offset}, ${value}, ${stride})`;
  });
  text = replaceCalls(text, 'subgroupMatrixScalarMultiply', ({ args: [value, factor] }) => {
    functions.set('scale', scaleSource);
    return `fragment_scale(${value}, ${factor})`;
  });
  text = text
    .replaceAll(`subgroup_matrix_result<f32, ${edge}, ${edge}>`, fragment)
    .replaceAll(`subgroup_matrix_result<i32, ${edge}, ${edge}>`, integers);
  const left = text.match(/subgroup_?[mM]atrix\w*|\bfragment_\d+_/);
  if (left) throw new Error(`${left[0]} in an unknown place`);
  return [text, ...functions.values()].join('\n');
}
