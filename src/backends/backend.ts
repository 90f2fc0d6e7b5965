// The interface that every backend implements, and all that the rest of the project may use of one.
//
// A backend owns memory (Buffers) and compiles a graph with its parameters bound into an Executable that can be
// replayed without allocating. An op without a kernel is a SubbyteError naming op and backend at compile time, never
// a silent detour.

import type { Graph, ValueType } from '../graph/graph.ts';
import type { AnyTensor, Tensor } from '../tensor/tensor.ts';

/** Memory on a backend, shareable between executables (weights, KV caches). */
export interface Buffer {
  readonly type: ValueType;
  readonly byteLength: number;
  dispose(): void;
}

export interface MemoryPlan {
  /** Bytes of intermediate values at the fullest moment, after sharing memory between values. */
  readonly arenaBytes: number;
  readonly parameterBytes: number;
  readonly stateBytes: number;
  /** inputs + outputs */
  readonly boundaryBytes: number;
  /** Everything together: what a run needs, known before it. */
  readonly peakBytes: number;
}

export interface Bindings {
  readonly params: ReadonlyMap<string, Buffer>;
  readonly states?: ReadonlyMap<string, Buffer>;
}

export interface Executable {
  readonly plan: MemoryPlan;
  /** Copies the values of one graph input; the length must match its type. */
  write(input: string, data: Float32Array | Int32Array): void;
  /** Runs every node once. CPU backends return when done; GPU backends when submitted work is done. */
  run(): void | Promise<void>;
  /** Copies one graph output into `out` (allocated when missing). */
  read(output: string, out?: Float32Array | Int32Array): Promise<Tensor>;
  /**
   * Starts a run and the reading of some outputs, and returns at once; absent where run() waits. The next run may be
   * started before: runs happen in order, each with the inputs written before it was started. Runs that are under way
   * when one meets a data error or holds its updates (graph/ops/hold-updates.ts) update nothing either, and a data error
   * is theirs too.
   */
  start?(outputs: readonly string[]): Promise<readonly Tensor[]>;
  dispose(): void;
}

export interface Backend {
  readonly name: 'reference' | 'wasm' | 'webgpu';
  /** One line for people: `wasm, 2 threads, relaxed SIMD`. */
  readonly description: string;
  upload(tensor: AnyTensor): Promise<Buffer>;
  /** Zero-filled memory, for states. */
  allocate(type: ValueType): Buffer;
  /**
   * Lays values side by side, so that kernels over many of them (optimizer steps) take few dispatches; absent where that
   * makes no difference. Before graphs over them are compiled: what a compiled graph uses stays where it is.
   */
  pack?(buffers: Iterable<Buffer>): Promise<void>;
  compile(graph: Graph, bindings: Bindings): Promise<Executable>;
  dispose(): void;
}
