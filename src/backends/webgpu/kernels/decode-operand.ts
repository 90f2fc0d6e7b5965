// A packed operand as f16 in scratch memory, for products that would decode each of its numbers many times over.
//
// A workgroup of a product decodes the tiles it reads, so a weight is decoded once for every 128 rows of the other operand.
// Where those are thousands, decoding it once beforehand costs less: two bytes written and read for each of its numbers.
// The numbers are those that the product would have decoded (operand-storage.ts): same order, same factor, same bits.
//
// Thread map: 256 threads a workgroup, a thread decodes chunks of 8 to 32 numbers along K. Features: shader-f16, subgroups.

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

/** Of an operand of `lines` × K numbers, stored so, whose other side has `rows` rows and is dense or not. */
export function decodesFirst(storage: OperandStorage, other: OperandStorage, rows: number): boolean {
  return !isElementwise(storage) && isElementwise(other) && rows >= manyRows;
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
  const chunk = chunkNumbers(storage);
  const perLine = K / chunk;
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
    return `${setup(n).body}
  for (var at = item * ${threads}u + thread; at < ${lines * perLine}u; at += ${groups * threads}u) {
    ${registers(0)}
    ${load(0, `(at / ${perLine}u)`, `(at % ${perLine}u * ${chunk}u)`, K)}
    ${decode(0, (value, part) => `${n.y}[at * ${chunk / 8}u + ${part}u] = ${value};`)}
  }`;
  };
  const prelude = (n: Names) =>
    setup(n).prelude +
    (packed ? decodeSource([{ prefix: name, array: n.numbers, matrix: packed }]) : '') +
    code(n).declarations;
  return {
    command: {
      label: 'decode',
      bindings,
      enable: subgroupFeatures.slice(0, 2),
      ...forEachGroup(groups, threads, body, prelude, subgroupParameters),
    },
    side: {
      storage: isFp4(storage) ? 'f16-pairs' : 'f16',
      contiguous: 'k',
      numbers: fromScratch(memory, 'vec4<u32>'),
      tensorScale: side.tensorScale,
      bound,
      batched: side.batched,
    },
  };
}
