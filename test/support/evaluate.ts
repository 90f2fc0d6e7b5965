// Runs one op function on the reference backend, for tests that compare it with an independent computation.

import { createReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { Value } from '../../src/graph/graph.ts';
import { trace } from '../../src/graph/trace.ts';
import { f32, i32 } from '../../src/graph/value-type.ts';
import type { Shape } from '../../src/tensor/shape.ts';

export interface Operand {
  shape: Shape;
  data: Float32Array | Float64Array | Int32Array;
}

/** A dense f32 operand. */
export const real = (shape: Shape, data: ArrayLike<number>): Operand => ({ shape, data: Float32Array.from(data) });

/** An i32 operand. */
export const whole = (shape: Shape, data: ArrayLike<number>): Operand => ({ shape, data: Int32Array.from(data) });

/** Traces `op` on inputs of the operands' types, runs it in float64 and returns each result as plain numbers. */
export async function evaluateAll(
  op: (...values: Value[]) => readonly Value[],
  ...operands: Operand[]
): Promise<{ shape: Shape; data: number[] }[]> {
  const graph = trace((g) => {
    const inputs = operands.map(({ shape, data }, i) =>
      g.input(`input ${i}`, data instanceof Int32Array ? i32(shape) : f32(shape)),
    );
    for (const [i, y] of op(...inputs).entries()) g.output(`output ${i}`, y);
  });
  const executable = await createReferenceBackend({ precision: 'f64' }).compile(graph, { params: new Map() });
  for (const [i, { data }] of operands.entries()) executable.write(`input ${i}`, data);
  executable.run();
  const results = [];
  for (const name of graph.outputs.keys()) {
    const { shape, data } = await executable.read(name);
    results.push({ shape, data: [...data] });
  }
  return results;
}

/** The numbers of an op with one result. */
export async function evaluate(op: (...values: Value[]) => Value, ...operands: Operand[]): Promise<number[]> {
  const [result] = await evaluateAll((...values) => [op(...values)], ...operands);
  return result.data;
}

/** The largest absolute difference of two lists of one length. */
export function largestDifference(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) throw new Error(`${a.length} and ${b.length} numbers`);
  return a.reduce((most, x, i) => Math.max(most, Number.isNaN(x - b[i]) ? Infinity : Math.abs(x - b[i])), 0);
}
