// How a tile of a matrix product's operand comes from storage into workgroup memory as f16.
//
// Problem: tensor cores take f16; operands lie in storage as f32, bf16 or f16, or packed in few bits with block scales.
// Method: a thread moves chunks along the contiguous axis with 16-byte loads. A load goes to registers while the previous
// tile is multiplied; conversion to f16, with the block's scale folded in, happens on the way to workgroup memory.
//
// Range: f16 has 30 binades of normal numbers, so numbers are multiplied by a power of two on the way, `factor`, which puts
// the largest of the operand below 2^15; the product is multiplied by its inverse. Codes of E2M1 under E8M0 scales, and
// bf16, then stay exact over at least 26 binades below the operand's largest number; what is smaller loses bits or becomes
// zero, an error below 2^-38 of the largest for bf16 and below 2^-34 for E2M1. Codes of E2M1 under E4M3 scales (NVFP4) need no factor: all are normal f16;
// nor do E4M3 and E5M2 by themselves, which are numbers of f16 (E5M2 below 2^-14 are subnormal ones).
//
// Order along K: E2M1 codes are decoded in pairs (i, i + 4) of a word of eight, which takes half the instructions of
// neighbours. All that matters is that both operands agree: `paired` puts every operand's eights in this order.

import { chunkNumbers, isElementwise, type OperandStorage, storageCode } from './operand-storage.ts';

/** `k`: consecutive numbers of the reduction axis lie together (A as [M, K], B as [N, K]); `outer`: those of M or N. */
export type OperandAxis = 'k' | 'outer';

export interface TileOperand {
  /** Prefix of variables in WGSL. */
  readonly name: 'a' | 'b';
  /** WGSL names of the bound arrays: numbers or codes (vec4<f32> or vec4<u32>), scales (u32, or f16 for int4). */
  readonly array: string;
  readonly scales?: string;
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** Rows (columns) of the whole operand along M or N, and along K. */
  readonly outer: number;
  readonly k: number;
  /** The tile's sizes along both. */
  readonly tileOuter: number;
  readonly tileK: number;
  readonly threads: number;
  /** First row of the workgroup's tile, a WGSL expression. */
  readonly origin: string;
  /** Line of the whole array where the operand's matrix begins, a WGSL expression. */
  readonly firstLine: string;
  /** Eights along K in the order 0 4 1 5 2 6 3 7. */
  readonly paired: boolean;
}

/** WGSL pieces of one operand. They read `thread`, `k0`, and the f32 `NAME_factor` or i32 `NAME_exponent` of the operand. */
export interface TileCode {
  /** Functions and constants at module scope. */
  readonly declarations: string;
  /** Elements of the workgroup array `NAME_tile`: vec4<u32>, eight f16 each. */
  readonly tileVectors: number;
  /** Distance of two lines of the tile, in f16; lines go along the contiguous axis. */
  readonly stride: number;
  /** Registers that a load fills. */
  readonly registers: string;
  /** Loads the tile that starts at the variable `k0` into the registers. */
  readonly load: string;
  /** Writes the registers to workgroup memory, `offset` vectors behind its start. */
  store(offset: number): string;
}

// Workgroup memory is declared as vec4<u32>, not as f16: a compiler then knows that lines are aligned to 16 bytes and
// may move eight numbers with one instruction.

/** Eight f16 of padding make the addresses of eight successive lines fall into different banks. */
const padding = 8;
/** f16 in an element of workgroup memory. */
export const perVector = 8;

/** Throws where the tile cannot be cut into chunks of whole threads. */
export function tileCode(operand: TileOperand): TileCode {
  const { name, storage, contiguous, tileOuter, tileK, threads, paired, outer, k, origin, firstLine } = operand;
  if (!isElementwise(storage) && contiguous !== 'k') throw new Error(`matmul: ${storage} is packed along K`);
  const chunk = chunkNumbers(storage);
  const [lines, length] = contiguous === 'k' ? [tileOuter, tileK] : [tileK, tileOuter];
  const chunks = (lines * length) / chunk / threads;
  if (chunks < 1 || chunks % 1 !== 0 || length % chunk !== 0)
    throw new Error(`matmul: a ${lines} × ${length} tile of ${storage} does not divide among ${threads} threads`);
  const stride = length + padding;
  const code = storageCode({ ...operand, alongK: contiguous === 'k' });
  const perLine = length / chunk;
  const at = Array.from({ length: chunks }, (_, i) => {
    const vectors = length / perVector;
    const line = spreadLine(`((thread + ${i * threads}u) / ${perLine}u)`, stride / perVector, vectors, perLine);
    const column = `((thread + ${i * threads}u) % ${perLine}u * ${chunk}u)`;
    return { i, line, column };
  });
  const load = (i: number, line: string, column: string) => {
    const isK = contiguous === 'k';
    const [row, first] = isK ? [`${origin} + ${line}`, `k0 + ${column}`] : [`k0 + ${line}`, `${origin} + ${column}`];
    const [rows, columns] = isK ? [outer, k] : [k, outer];
    const [tileRows, tileColumns] = isK ? [tileOuter, tileK] : [tileK, tileOuter];
    // Beyond M or N the last numbers are read again, whose results nobody stores; beyond K numbers must be zero.
    const clamped = (index: string, size: number, step: number) => `min(${index}, ${size - step}u)`;
    const safeRow = isK && rows % tileRows ? clamped(row, rows, 1) : row;
    const safeFirst = !isK && columns % tileColumns ? clamped(first, columns, chunk) : first;
    const read = code.load(i, `(${firstLine} + ${safeRow})`, `(${safeFirst})`, columns);
    if (k % tileK === 0) return read;
    return `if (${isK ? first : row} < ${k}u) { ${read} } else { ${code.clear(i)} }`;
  };
  const tileLine = (line: string) => (contiguous === 'outer' && paired ? `paired_line(${line})` : line);
  return {
    declarations: code.declarations + (contiguous === 'outer' && paired ? pairedLine : ''),
    tileVectors: (lines * stride) / perVector,
    stride,
    registers: at.map(({ i }) => code.registers(i)).join('\n'),
    load: at.map(({ i, line, column }) => load(i, line, column)).join('\n'),
    store: (offset) =>
      at
        .map(
          ({ i, line, column }) =>
            `{ let to = ${offset}u + ${tileLine(line)} * ${stride / perVector}u + ${column} / ${perVector}u;\n${code.decode(i, (v, part) => `${name}_tile[to + ${part}u] = ${v};`)} }`,
        )
        .join('\n'),
  };
}

/** Where line 8 i + j of K goes when eights are paired. */
const pairedLine = `
fn paired_line(line: u32) -> u32 { return (line & ~7u) | ((line & 3u) << 1u) | ((line >> 2u) & 1u); }
`;

/**
 * Which line of a tile the threads of one line take; lines of `vectors` · 16 bytes lie `apart` · 16 bytes apart, cut among
 * `perLine` threads. Sixteen-byte stores are served eight threads at a time, without delay where these fall into different
 * places of 16 bytes modulo 128. Lines of four vectors, five apart: eight threads that store lines 0 and 1 would meet in
 * one place, those of lines 0 and 4 do not. So the low three bits of the line's number change places.
 */
export function spreadLine(line: string, apart: number, vectors: number, perLine: number): string {
  if (apart !== 5 || vectors !== 4) return line;
  if (perLine === 4) return `((${line} & ~7u) | ((${line} & 1u) << 2u) | ((${line} >> 1u) & 3u))`;
  if (perLine === 2) return `((${line} & ~6u) | ((${line} & 2u) << 1u) | ((${line} >> 1u) & 2u))`;
  return line;
}
