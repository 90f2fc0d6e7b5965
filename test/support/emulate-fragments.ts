// WGSL with 16 × 16 subgroup matrices (f16 operands, f32 results) as WGSL without.
//
// A result fragment is an array of eight f32 in each of 32 threads: half a row, thread l having row l / 2 and the columns
// from l % 2 · 8. Operands are not loaded: a product reads them where they lie, in arrays of vec4<u32>, eight f16 each.
// So nothing may change them in between: a barrier between the load of a fragment from workgroup memory and a product
// with it is an error. Sums go along K one by one.

import { replaceCalls } from './wgsl-calls.ts';

interface Operand {
  readonly array: string;
  readonly major: string;
  readonly place: string;
}

const halfOf = (array: string) => `
fn fragment_half_${array}(at: u32) -> f32 {
  return emulated_value((${array}[at / 8u][at / 2u % 4u] >> (at % 2u * 16u)) & 0xffffu);
}`;

/** Index of the f16 at `row`, `column`, for an offset and a stride in vectors of eight. */
const halfAt = (major: string, side: string, row: string, column: string) =>
  major === 'row_major'
    ? `(${side}.x + (${row}) * ${side}.y) * 8u + ${column}`
    : `(${side}.x + (${column}) * ${side}.y) * 8u + ${row}`;

const productOf = (name: string, left: Operand, right: Operand) => `
fn ${name}(left: vec2<u32>, right: vec2<u32>, sum: array<f32, 8>) -> array<f32, 8> {
  let row = emulated_thread / 2u % 16u;
  let column = emulated_thread % 2u * 8u;
  var result = sum;
  for (var k = 0u; k < 16u; k++) {
    let x = fragment_half_${left.array}(${halfAt(left.major, 'left', 'row', 'k')});
    for (var j = 0u; j < 8u; j++) {
      result[j] += x * fragment_half_${right.array}(${halfAt(right.major, 'right', 'k', 'column + j')});
    }
  }
  return result;
}`;

const scaleSource = `
fn fragment_scale(value: array<f32, 8>, factor: f32) -> array<f32, 8> {
  var result = value;
  for (var j = 0u; j < 8u; j++) { result[j] *= factor; }
  return result;
}`;

/** Functions that load and store results, for arrays of f32 and of vec4<u32> that hold their bits. */
function memoryOf(array: string, type: string): { load: string; store: string } {
  const element = (j: string) => {
    if (type === 'f32') return { read: `${array}[at + ${j}]`, write: (x: string) => `${array}[at + ${j}] = ${x};` };
    if (type !== 'vec4<u32>') throw new Error(`a result in ${array}, an array of ${type}`);
    const word = `${array}[at / 4u + ${j} / 4u][${j} % 4u]`;
    return { read: `bitcast<f32>(${word})`, write: (x: string) => `${word} = bitcast<u32>(${x});` };
  };
  const perElement = type === 'f32' ? '' : ' * 4u';
  const start = `let at = (offset + emulated_thread / 2u % 16u * stride)${perElement} + emulated_thread % 2u * 8u;`;
  return {
    load: `
fn fragment_load_${array}(offset: u32, stride: u32) -> array<f32, 8> {
  ${start}
  var result: array<f32, 8>;
  for (var j = 0u; j < 8u; j++) { result[j] = ${element('j').read}; }
  return result;
}`,
    store: `
fn fragment_store_${array}(offset: u32, value: array<f32, 8>, stride: u32) {
  ${start}
  for (var j = 0u; j < 8u; j++) { ${element('j').write('value[j]')} }
}`,
  };
}

function typeOf(code: string, pointer: string): { array: string; type: string; shared: boolean } {
  const array = pointer.slice(1);
  const found = code.match(new RegExp(`var<(workgroup|storage)[^>]*> ${array}\\s*: array<(vec4<u32>|\\w+)[,>]`));
  if (!pointer.startsWith('&') || !found) throw new Error(`${pointer} is no array that can be found`);
  return { array, type: found[2], shared: found[1] === 'workgroup' };
}

export function emulateFragments(code: string): string {
  const functions = new Map<string, string>();
  const operands: Operand[] = [];
  let text = replaceCalls(code, 'subgroupMatrixLoad', ({ template, args: [pointer, offset, stride] }) => {
    const [, side, component, major] =
      template.match(/^subgroup_matrix_(left|right|result)<(f16|f32), 16, 16>, (row_major|col_major)$/) ?? [];
    const { array, type } = typeOf(code, pointer);
    if (side === 'result' && component === 'f32' && major === 'row_major') {
      functions.set(`load ${array}`, memoryOf(array, type).load);
      return `fragment_load_${array}(${offset}, ${stride})`;
    }
    if (component !== 'f16' || type !== 'vec4<u32>') throw new Error(`a fragment of ${template} in ${type}`);
    functions.set(`half ${array}`, halfOf(array));
    return `fragment_${operands.push({ array, major, place: `vec2<u32>(${offset}, ${stride})` }) - 1}_`;
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
    functions.set(name, productOf(name, left, right));
    return `${name}(${left.place}, ${right.place}, ${sum})`;
  });
  text = replaceCalls(text, 'subgroupMatrixStore', ({ template, args: [pointer, offset, value, stride] }) => {
    const { array, type } = typeOf(code, pointer);
    if (template !== 'row_major') throw new Error(`a store in ${template}`);
    functions.set(`store ${array}`, memoryOf(array, type).store);
    return `fragment_store_${array}(${offset}, ${value}, ${stride})`;
  });
  text = replaceCalls(text, 'subgroupMatrixScalarMultiply', ({ args: [value, factor] }) => {
    functions.set('scale', scaleSource);
    return `fragment_scale(${value}, ${factor})`;
  });
  text = text.replaceAll('subgroup_matrix_result<f32, 16, 16>', 'array<f32, 8>');
  const left = text.match(/subgroup_?[mM]atrix\w*|\bfragment_\d+_/);
  if (left) throw new Error(`${left[0]} in an unknown place`);
  return [text, ...functions.values()].join('\n');
}
