// The reference backend: every op in plain TypeScript with float64 arithmetic. Slow, and the meaning of each op that
// all other backends are compared with.

import type { Graph, ValueType } from '../../graph/graph.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Backend, Bindings, Buffer } from '../backend.ts';
import { checkBindings, checkKernels } from '../bindings.ts';
import { copyTensor, type Precision, ReferenceBuffer, stateTensor } from './buffer.ts';
import { ReferenceExecutable } from './executable.ts';
import { kernels } from './kernels.ts';

export interface ReferenceOptions {
  /**
   * f32 (default): the result of each op is rounded to float32, as other backends store it. f64: nothing is rounded,
   * for gradient checks; f32 values then take twice the bytes.
   */
  precision?: Precision;
}

/** A Backend whose executables also take float64 input values. */
export interface ReferenceBackend extends Backend {
  compile(graph: Graph, bindings: Bindings): Promise<ReferenceExecutable>;
}

/**
 * @example
 * const backend = createReferenceBackend();
 * const run = await backend.compile(graph, { params: new Map([['w', await backend.upload(weight)]]) });
 * run.write('x', values);
 * run.run();
 * const y = await run.read('y');
 */
export function createReferenceBackend({ precision = 'f32' }: ReferenceOptions = {}): ReferenceBackend {
  return {
    name: 'reference',
    description: `reference, float64 arithmetic, results in ${precision}`,
    async upload(tensor: AnyTensor): Promise<Buffer> {
      return new ReferenceBuffer(copyTensor(tensor, precision));
    },
    allocate(type: ValueType): Buffer {
      return new ReferenceBuffer(stateTensor(type, precision));
    },
    async compile(graph: Graph, bindings: Bindings): Promise<ReferenceExecutable> {
      checkKernels(graph, 'reference', (op) => kernels.has(op));
      checkBindings(graph, bindings);
      return new ReferenceExecutable(graph, bindings, precision);
    },
    dispose() {},
  };
}
