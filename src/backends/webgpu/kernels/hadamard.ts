// Block Hadamard transform by butterflies, in the order of the WASM kernel: passes at distance 1, 2, 4, …, then · 1/√n.
//
// Additions and subtractions in that order and one product at the end: the bits are those of every backend that computes
// in f32 so. Thread map: a workgroup of 256 threads transforms 1024 values or one block of up to 16384. A thread holds
// vec4s of neighbouring values, 1024 apart: passes at distance 1 and 2 stay within a vec4, those from 1024 on within the
// thread, and the others exchange vec4s through workgroup memory (4 KB). Blocks of 1 and 2 take one thread a block.
// No features.

import type { HadamardAttributes } from '../../../graph/ops/hadamard.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import { type DenseOperand, dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';

const threads = 256;
const perThread = 4;
const mostBlock = threads * perThread * 16;

function small(n: number, count: number, signed: boolean) {
  const value = (k: Names, j: number) => `${k.x}[${n}u * i + ${j}u]${signed ? ` * ${k.signs}[${j}u]` : ''}`;
  if (n === 1) return forEachItem(count, (k) => `${k.y}[i] = ${value(k, 0)};`);
  return forEachItem(
    count / 2,
    (k) => `let u = ${value(k, 0)};
  let v = ${value(k, 1)};
  ${k.y}[2u * i] = (u + v) * words.factor;
  ${k.y}[2u * i + 1u] = (u - v) * words.factor;`,
  );
}

/** Four values where their bits are 1, else 0. */
const selected = (k: Names) => {
  const four = `(vec4u(${k.bits}[at >> 3u] >> (4u * (at & 7u))) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)`;
  return `select(vec4f(), ${k.x}[at], (${four}) == vec4u(1u))`;
};

/** `load`: the four values with number `at`, whose place in a block of `vectors` fours is at % vectors. */
function large(n: number, count: number, load: (k: Names, vectors: number) => string) {
  const held = Math.max(1, n / (threads * perThread));
  const vectors = n / perThread;
  const exchanges = Math.min(vectors, threads);
  const far = `for (var half = 1u; half < ${held}u; half <<= 1u) {
    for (var j = 0u; j < ${held}u; j++) {
      if ((j & half) == 0u) {
        let u = v[j];
        let w = v[j + half];
        v[j] = u + w;
        v[j + half] = u - w;
      }
    }
  }`;
  const body = (k: Names) => `
  var v: array<vec4f, ${held}>;
  for (var j = 0u; j < ${held}u; j++) {
    let at = (item * ${held}u + j) * ${threads}u + thread;
    if (at < ${count / perThread}u) { v[j] = ${load(k, vectors)}; }
    let first = vec4f(v[j].x + v[j].y, v[j].x - v[j].y, v[j].z + v[j].w, v[j].z - v[j].w);
    v[j] = vec4f(first.x + first.z, first.y + first.w, first.x - first.z, first.y - first.w);
    for (var half = 1u; half < ${exchanges}u; half <<= 1u) {
      workgroupBarrier();
      exchange[thread] = v[j];
      workgroupBarrier();
      let other = exchange[thread ^ half];
      v[j] = select(v[j] + other, other - v[j], (thread & half) != 0u);
    }
  }
  ${held > 1 ? far : ''}
  for (var j = 0u; j < ${held}u; j++) {
    let at = (item * ${held}u + j) * ${threads}u + thread;
    if (at < ${count / perThread}u) { ${k.y}[at] = v[j] * words.factor; }
  }`;
  const groups = Math.ceil(count / (held * threads * perThread));
  return forEachGroup(groups, threads, body, `var<workgroup> exchange: array<vec4f, ${threads}>;\n`);
}

const hadamard: OpKernel = {
  unsupported({ attributes }) {
    const { blockSize } = attributes as unknown as HadamardAttributes;
    return blockSize > mostBlock ? `Hadamard blocks of more than ${mostBlock}` : undefined;
  },
  encode({ node, inputs, outputs }) {
    const { blockSize: n } = node.attributes as unknown as HadamardAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const signs: DenseOperand | undefined = inputs.length > 1 ? dense(inputs, 1) : undefined;
    const type = n < 4 ? 'f32' : 'vec4<f32>';
    const count = elementCount(y.shape);
    return [
      {
        bindings: { x: read(x, type), y: write(y, type), ...(signs ? { signs: read(signs, type) } : {}) },
        words: { factor: { f32: 1 / Math.sqrt(n) } },
        ...(n < 4
          ? small(n, count, signs !== undefined)
          : large(n, count, (k, vectors) => `${k.x}[at]${signs ? ` * ${k.signs}[at % ${vectors}u]` : ''}`)),
      },
    ];
  },
};

/** Of values that bits select (fuse-selected.ts); blocks of 4 or more. */
export const selectedHadamard: OpKernel = {
  unsupported: hadamard.unsupported,
  encode({ node, inputs, outputs }) {
    const { blockSize: n } = node.attributes as unknown as HadamardAttributes;
    const [x, bits, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    return [
      {
        label: 'selected',
        bindings: { x: read(x, 'vec4<f32>'), bits: read(bits, 'u32'), y: write(y, 'vec4<f32>') },
        words: { factor: { f32: 1 / Math.sqrt(n) } },
        ...large(n, elementCount(y.shape), selected),
      },
    ];
  },
};

export const hadamardKernels: KernelTable = { hadamard };
