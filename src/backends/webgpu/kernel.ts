// What a kernel author writes: how a graph node becomes dispatches.
//
// An OpKernel knows one op. At compile time it turns a node into Commands: WGSL text, the memory it binds, and the
// number of workgroups. kernels.ts says how to write one.

import type { Format } from '../../formats/format.ts';
import type { Node } from '../../graph/graph.ts';
import type { Shape } from '../../tensor/shape.ts';
import type { PackedLayout } from '../packed-layout.ts';
import type { GpuTraits } from './device.ts';

/** A piece of a GPUBuffer; offset and bytes are multiples of 256. */
export interface MemoryRange {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: number;
}

/** A dense value: row-major, contiguous. */
export interface DenseOperand {
  readonly dtype: 'f32' | 'i32';
  readonly shape: Shape;
  readonly range: MemoryRange;
}

/** A packed value: all its parts in one range, at the byte offsets of `layout` (codes at 0). */
export interface PackedOperand {
  readonly dtype: 'packed';
  readonly shape: Shape;
  readonly format: Format;
  /** Product of all dimensions but the last, and the last. */
  readonly rows: number;
  readonly cols: number;
  readonly range: MemoryRange;
  readonly layout: PackedLayout;
}

export type Operand = DenseOperand | PackedOperand;

/** WGSL element type of a bound array. */
export type ElementType =
  | 'f32'
  | 'i32'
  | 'u32'
  | 'vec4<f32>'
  | 'vec4<u32>'
  | 'vec2<f32>'
  | 'vec2<u32>'
  | 'vec4<f16>'
  | 'f16';

export interface Binding {
  readonly range: MemoryRange;
  readonly access: 'read' | 'write';
  readonly type: ElementType;
}

const elementType = (operand: Operand): ElementType => (operand.dtype === 'packed' ? 'u32' : operand.dtype);

/** Binds an operand that the kernel reads; the element type is the operand's own (u32 for packed) when absent. */
export function read(operand: Operand, type: ElementType = elementType(operand)): Binding {
  return { range: operand.range, access: 'read', type };
}

/** Binds an operand that the kernel writes, or reads and writes. */
export function write(operand: Operand, type: ElementType = elementType(operand)): Binding {
  return { range: operand.range, access: 'write', type };
}

/** A number that the text does not fix: u32 (or i32 bits), or `{ f32 }`. */
export type Word = number | { readonly f32: number };

/** WGSL names of a command's bindings. */
export type Names = Readonly<Record<string, string>>;

export interface Command {
  /** Which version of the op's kernel this is (`tiled 128×128`), for profiles. */
  readonly label?: string;
  /** Memory by the name that the text asks for it. */
  readonly bindings: Readonly<Record<string, Binding>>;
  /** Numbers in `words.name`: what differs between nodes that should share a pipeline, and floats. */
  readonly words?: Readonly<Record<string, Word>>;
  /** Arrays of u32 that the kernel reads by their names, written before the first run. */
  readonly tables?: Readonly<Record<string, Uint32Array<ArrayBuffer>>>;
  /** How many items the threads or workgroups stand for (entry.ts): `words.items`. */
  readonly items: number;
  /** Declares `report(code, value)` and `failed()` (wgsl/report.ts). */
  readonly reports?: boolean;
  /** WGSL extensions: f16, subgroups, … */
  readonly enable?: readonly string[];
  /**
   * Functions, workgroup variables and the entry point `main`. `names` gives the WGSL name of each binding; two
   * bindings of the same memory (an output that took over an input's place) have one name.
   */
  readonly code: (names: Names) => string;
  readonly workgroups: Workgroups;
}

export type Workgroups = readonly [x: number, y: number, z: number];

export interface EncodeContext {
  readonly node: Node;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
  readonly gpu: GpuTraits;
  /** The bytes asked for by scratchBytes; shared with other nodes, so nothing survives in it. */
  readonly scratch: MemoryRange | undefined;
}

export interface OpKernel {
  /** Bytes of scratch memory, needed only while the node runs. */
  scratchBytes?(node: Node, gpu: GpuTraits): number;
  /** Why this node (a format, a shape) cannot run here; undefined when it can. */
  unsupported?(node: Node, gpu: GpuTraits): string | undefined;
  encode(context: EncodeContext): readonly Command[];
  /** Whether `next`, which follows in the run, can share dispatches with `first`; neither reads what the other writes. */
  joins?(first: Node, next: Node): boolean;
  /** The commands of nodes that joined the first of them, in place of each node's own. */
  encodeTogether?(contexts: readonly EncodeContext[]): readonly Command[];
}

/** Kernels by op name. */
export type KernelTable = Readonly<Record<string, OpKernel>>;

/** The dense operand `i` of a list, for kernels whose op admits nothing else there. */
export function dense(operands: readonly Operand[], i: number): DenseOperand {
  const operand = operands[i];
  if (operand === undefined || operand.dtype === 'packed') throw new Error(`webgpu: operand ${i} is not dense`);
  return operand;
}

/** Rows and columns of a shape: the product of all dimensions but the last, and the last. */
export function rowsAndColumns(shape: Shape): [rows: number, columns: number] {
  const columns = shape.at(-1) ?? 1;
  let rows = 1;
  for (const d of shape.slice(0, -1)) rows *= d;
  return [rows, columns];
}

/** The packed operand `i` of a list. */
export function packedOperand(operands: readonly Operand[], i: number): PackedOperand {
  const operand = operands[i];
  if (operand?.dtype !== 'packed') throw new Error(`webgpu: operand ${i} is not packed`);
  return operand;
}
