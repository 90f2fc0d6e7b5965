// Runs the matrix kernels on their own, for tests: operands go into a pool's memory, an encoder's commands run as one
// program.

import type { Quantized } from '../../formats/format.ts';
import type { Node } from '../../graph/graph.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import type { Command, DenseOperand, Operand, PackedOperand } from './encoder.ts';
import { matmulEncoder } from './matmul.ts';
import type { Pool } from './pool.ts';

/** Copies bytes into the pool's memory; 64 guard bytes follow. */
function put(pool: Pool, data: Uint8Array | Float32Array): number {
  const address = pool.allocator.allocate(data.byteLength + 64);
  new Uint8Array(pool.memory.buffer).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), address);
  return address;
}

export function denseOperand(pool: Pool, shape: Shape, data: Float32Array): DenseOperand {
  return { dtype: 'f32', shape, address: put(pool, data) };
}

export function packedOperand(pool: Pool, shape: Shape, q: Quantized): PackedOperand {
  return {
    dtype: 'packed',
    shape,
    format: q.format,
    rows: q.rows,
    cols: q.cols,
    codes: put(pool, q.codes),
    scales: put(pool, q.scales),
    zeroPoints: q.zeroPoints ? put(pool, q.zeroPoints) : 0,
    tensorScale: put(pool, Float32Array.of(q.tensorScale)),
  };
}

/** Writes commands as a program into memory; the result runs it. */
export function program(pool: Pool, commands: readonly Command[]): () => void {
  const table = pool.allocator.allocate(8 * commands.length);
  commands.forEach(({ kernel, args }, i) => {
    const at = pool.allocator.allocate(4 * args.length);
    const words = new Uint32Array(pool.memory.buffer);
    const floats = new Float32Array(pool.memory.buffer);
    args.forEach((word, j) => {
      if (typeof word === 'number') words[at / 4 + j] = word;
      else floats[at / 4 + j] = word.f32;
    });
    words.set([kernel, at], table / 4 + 2 * i);
  });
  return () => pool.run('run', table, commands.length);
}

export interface PreparedProduct {
  readonly commands: readonly Command[];
  run(): void;
  read(): Float32Array;
}

/** a × b as matmul's attributes say; `edit` may change the commands before they are written. */
export function prepareProduct(
  pool: Pool,
  a: Operand,
  b: Operand,
  outShape: Shape,
  attributes = { transposeA: false, transposeB: true },
  edit = (commands: readonly Command[]) => commands,
): PreparedProduct {
  const count = elementCount(outShape);
  const out = denseOperand(pool, outShape, new Float32Array(count).fill(Number.NaN));
  const node = {
    attributes,
    inputs: [{ type: a }, { type: b }],
    outputs: [{ type: out }],
  } as unknown as Node;
  const scratch = pool.allocator.allocate(matmulEncoder.scratchBytes?.(node, pool.threads) ?? 0);
  const context = { node, inputs: [a, b], outputs: [out], threads: pool.threads, scratch, repacked: new Map() };
  const commands = edit(matmulEncoder.encode(context));
  return {
    commands,
    run: program(pool, commands),
    read: () => new Float32Array(pool.memory.buffer, out.address, count).slice(),
  };
}
