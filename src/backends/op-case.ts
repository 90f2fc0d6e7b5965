// Test cases that every backend runs: a small graph, its data, and how closely results must agree with the reference.
//
// Not a test itself; the backends' tests loop over opCases (op-cases.ts):
//
//   const expected = await runOpCase(createReferenceBackend(), opCase);
//   const found = await runOpCase(backend, opCase);
//   expect(differences(found, expected, opCase.tolerance)).toEqual([]);

import { uniformSource } from '../formats/random.ts';
import type { GraphBuilder } from '../graph/trace.ts';
import { trace } from '../graph/trace.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';
import type { AnyTensor, Tensor } from '../tensor/tensor.ts';
import type { Backend } from './backend.ts';

export interface OpCase {
  /** Op and what is special: `matmul transposed, K 37`. */
  name: string;
  build(g: GraphBuilder): void;
  /** Values by input name for each run in turn; states live on from run to run. */
  runs: readonly Readonly<Record<string, Float32Array | Int32Array>>[];
  params?: Readonly<Record<string, AnyTensor>>;
  /**
   * exact: equal bits (signs of zero and NaN payloads aside). A number: |found − expected| may be that times the
   * largest finite magnitude of the expected tensor; infinities and NaN must be the same.
   */
  tolerance: 'exact' | number;
  /** A run adds to a state, so the same run twice does not give the same numbers. */
  accumulates?: boolean;
}

export type Outputs = ReadonlyMap<string, Tensor>;

/** Runs a case on a backend: its outputs after each run. */
export async function runOpCase(backend: Backend, { build, runs, params = {} }: OpCase): Promise<Outputs[]> {
  const graph = trace(build);
  const buffers = new Map<string, Awaited<ReturnType<Backend['upload']>>>();
  for (const [name, tensor] of Object.entries(params)) buffers.set(name, await backend.upload(tensor));
  const executable = await backend.compile(graph, { params: buffers });
  const results: Outputs[] = [];
  for (const inputs of runs) {
    for (const [name, data] of Object.entries(inputs)) executable.write(name, data);
    await executable.run();
    const outputs = new Map<string, Tensor>();
    for (const name of graph.outputs.keys()) outputs.set(name, await executable.read(name));
    results.push(outputs);
  }
  executable.dispose();
  for (const buffer of buffers.values()) buffer.dispose();
  return results;
}

/** One line for each output that differs by more than the tolerance; empty when all agree. */
export function differences(
  found: readonly Outputs[],
  expected: readonly Outputs[],
  tolerance: OpCase['tolerance'],
): string[] {
  return expected.flatMap((outputs, run) =>
    [...outputs].flatMap(([name, tensor]) => {
      const problem = difference(found[run]?.get(name), tensor, tolerance);
      return problem ? [`run ${run}, output ${name}: ${problem}`] : [];
    }),
  );
}

function difference(found: Tensor | undefined, expected: Tensor, tolerance: OpCase['tolerance']): string | undefined {
  if (!found) return 'missing';
  if (String(found.shape) !== String(expected.shape)) return `shape [${found.shape}], expected [${expected.shape}]`;
  if (found.data.length !== expected.data.length) return `${found.data.length} values`;
  const relative = tolerance === 'exact' || expected.dtype === 'i32' ? 0 : tolerance;
  let largest = 0;
  for (const e of expected.data) if (Number.isFinite(e)) largest = Math.max(largest, Math.abs(e));
  let worst: string | undefined;
  let worstError = relative * largest;
  expected.data.forEach((e, i) => {
    const f = found.data[i];
    if (f === e || (Number.isNaN(f) && Number.isNaN(e))) return;
    const error = Number.isFinite(f) && Number.isFinite(e) ? Math.abs(f - e) : Infinity;
    if (error <= worstError) return;
    worstError = error;
    worst = `element ${i} is ${f}, expected ${e} (error ${error.toExponential(2)}, allowed ${(relative * largest).toExponential(2)})`;
  });
  return worst;
}

/** Reproducible numbers of the normal distribution (Box-Muller over the counter-based generator), times `scale`. */
export function gaussian(seed: number, shape: Shape, scale = 1): Float32Array {
  const random = uniformSource(seed, 0x6a5);
  return Float32Array.from({ length: elementCount(shape) }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(1 - random.at(2 * i)));
    return scale * radius * Math.cos(2 * Math.PI * random.at(2 * i + 1));
  });
}

/** Reproducible whole numbers low … high − 1. */
export function integers(seed: number, shape: Shape, low: number, high: number): Int32Array {
  const random = uniformSource(seed, 0x1d7);
  return Int32Array.from({ length: elementCount(shape) }, (_, i) => low + Math.floor(random.at(i) * (high - low)));
}
