// How a graph node becomes commands of the WASM engine.
//
// A compiled step is a table of commands in shared memory; each names a kernel (kernel-ids.ts) and a block of 32-bit
// argument words. Every thread walks the table and calls kernel(args, thread, threads); a barrier follows every
// command. An OpEncoder knows one op: which kernels run it, and which scratch memory they need. Encoders run once, at compile time; addresses are final then.
//
// Words: integers (addresses, sizes) are written as u32, `f32(x)` as float bits. Kernels read them by
// load<u32>(args, 4 * i) and load<f32>(args, 4 * i).
// Determinism: the result must not depend on `threads`: every output element is computed by one thread in a fixed
// order of summation.

import type { Format } from '../../formats/format.ts';
import type { Node } from '../../graph/graph.ts';
import type { Shape } from '../../tensor/shape.ts';

/** A float argument word; plain numbers are u32 (or i32) words. */
export interface FloatWord {
  readonly f32: number;
}

export const f32 = (value: number): FloatWord => ({ f32: value });

export type Word = number | FloatWord;

export interface Command {
  readonly kernel: number;
  readonly args: readonly Word[];
}

/** A dense value in memory: row-major, contiguous, address aligned to 64 bytes. */
export interface DenseOperand {
  readonly dtype: 'f32' | 'i32';
  readonly shape: Shape;
  readonly address: number;
}

/** A packed value in memory: the parts of `Quantized` at their addresses (0 where the format has no such part). */
export interface PackedOperand {
  readonly dtype: 'packed';
  readonly shape: Shape;
  readonly format: Format;
  /** Product of all dimensions but the last, and the last. */
  readonly rows: number;
  readonly cols: number;
  readonly codes: number;
  readonly scales: number;
  readonly zeroPoints: number;
  /** Address of the f32 tensor scale (1 where the format has none). */
  readonly tensorScale: number;
}

export type Operand = DenseOperand | PackedOperand;

export interface EncodeContext {
  readonly node: Node;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
  readonly threads: number;
  /** Address of the bytes asked for by scratchBytes; shared with other nodes, so nothing survives in it. */
  readonly scratch: number;
}

export interface OpEncoder {
  /** Bytes of scratch memory, needed only while the node runs. */
  scratchBytes?(node: Node, threads: number): number;
  encode(context: EncodeContext): readonly Command[];
}

/** The dense operand `i` of a list, for encoders whose op admits nothing else there. */
export function dense(operands: readonly Operand[], i: number): DenseOperand {
  const operand = operands[i];
  if (operand?.dtype === 'packed' || operand === undefined) throw new Error(`encoder: operand ${i} is not dense`);
  return operand;
}

/** Rows and columns of a shape: the product of all dimensions but the last, and the last. */
export function rowsAndColumns(shape: Shape): [rows: number, columns: number] {
  const columns = shape.at(-1) ?? 1;
  let rows = 1;
  for (const d of shape.slice(0, -1)) rows *= d;
  return [rows, columns];
}
