// A packed operand as f16 in scratch memory, for products that would decode each of its numbers many times over.
//
// A workgroup of a product decodes the tiles it reads, so a weight is decoded once for every 128 rows of the other operand.
// Where those are thousands, decoding it once beforehand costs less: two bytes written and read for each of its numbers.
// The numbers are those that the product would have decoded (operand-storage.ts): same factor, same bits. E2M1's pairs are
// put apart here, once, so that the other operand need not be put in pairs by every tile that reads it.
//
// Thread map: 256 threads a workgroup, a thread decodes eight neighbours along K, so that neighbouring threads write side
// by side; the chunk they are part of is read by up to four of them. Features: shader-f16, subgroups.

import { forEachGroup } from '../entry.ts';
import type { Binding, Command, MemoryRange, Names } from '../kernel.ts';
import { fromScratch, toScratch } from '../scratch.ts';
import { decodeSource } from '../wgsl/decode.ts';
import { boundSetup, readBound } from './matmul-bound.ts';
import { subgroupFeatures, subgroupParameters } from './matmul-subgroup.ts';
import { chunkNumbers, isElementwise, isFp4, type OperandStorage, storageCode } from './operand-storage.ts';
import type { ProductSide } from './tensor-product.ts';

const threads = 256;
const mostGroups = 4096;

/** Rows of the other operand from which decoding first is worth it. */
const manyRows = 2048;

/** Whether an operand stored so is decoded first beside `rows` rows of another. INT4 costs products little (bench). */
export function decodesFirst(storage: OperandStorage, other: OperandStorage, rows: number): boolean {
  const costly = !isElementwise(storage) && !storage.startsWith('int4');
  return costly && isElementwise(other) && rows >= manyRows;
}

export const decodedWords = (lines: number, K: number): number => (lines * K) / 2;

/** The command that decodes the operand into `memory`, and the operand as it then is. */
export function decodeOperand(
  name: 'a' | 'b',
  side: ProductSide,
  [lines, K]: readonly [number, number],
  lanes: number,
  memory: MemoryRange,
): { command: Command; side: ProductSide } {
  const { storage, numbers, scales, packed, bound } = side;
  const parts = chunkNumbers(storage) / 8;
  const perLine = K / 8;
  const groups = Math.min(mostGroups, Math.ceil((lines * perLine) / threads));
  const bindings: Record<string, Binding> = { numbers, y: toScratch(memory, 'vec4<u32>') };
  if (scales) bindings.scales = scales;
  if (bound) bindings.bound = fromScratch(bound, 'u32');
  const setup = (n: Names) => {
    const part = bound && readBound(n.bound);
    return boundSetup(threads / lanes, lanes, name === 'a' ? [part, undefined] : [undefined, part]);
  };
  const code = (n: Names) =>
    storageCode({ name, array: n.numbers, scales: n.scales, storage, alongK: true, paired: isFp4(storage) });
  const body = (n: Names) => {
    const { registers, load, decode } = code(n);
    const put = (value: string, part: number) =>
      part > 0 ? '' : `${n.y}[at] = ${isFp4(storage) ? `put_apart(${value})` : value};`;
    return `${setup(n).body}
  for (var at = item * ${threads}u + thread; at < ${lines * perLine}u; at += ${groups * threads}u) {
    let part = at % ${parts}u;
    ${registers(0)}
    ${load(0, `(at / ${perLine}u)`, `((at - part) % ${perLine}u * 8u)`, K)}
    ${bringForward(`${name}_0`, storage, parts)}
    ${decode(0, put)}
  }`;
  };
  const prelude = (n: Names) =>
    setup(n).prelude +
    (packed ? decodeSource([{ prefix: name, array: n.numbers, matrix: packed }]) : '') +
    code(n).declarations +
    (isFp4(storage) ? apartSource : '');
  return {
    command: {
      label: 'decode',
      bindings,
      enable: subgroupFeatures.slice(0, 2),
      ...forEachGroup(groups, threads, body, prelude, subgroupParameters),
    },
    side: {
      storage: 'f16',
      contiguous: 'k',
      numbers: fromScratch(memory, 'vec4<u32>'),
      tensorScale: side.tensorScale,
      bound,
      batched: side.batched,
    },
  };
}

/** Makes the eight number `part` of a chunk its first. */
function bringForward(words: string, storage: OperandStorage, parts: number): string {
  if (parts === 4) {
    const scale = storage === 'nvfp4' ? ` ${words}_s >>= 8u * (part / 2u);` : '';
    return `${words} = vec4<u32>(${words}[part]);${scale}`;
  }
  return parts === 2 ? `if (part == 1u) { ${words} = ${words}.zwzw; }` : '';
}

/** Eight f16 in the order 0 4 1 5 2 6 3 7 as neighbours. */
const apartSource = `
fn put_apart(w: vec4<u32>) -> vec4<u32> {
  return vec4<u32>((w.x & 0xffffu) | (w.y << 16u), (w.z & 0xffffu) | (w.w << 16u),
    (w.x >> 16u) | (w.y & 0xffff0000u), (w.z >> 16u) | (w.w & 0xffff0000u));
}
`;
