// Copying what a buffer holds to the host, on any backend.

import { trace } from '../graph/trace.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Backend, Buffer } from './backend.ts';

/** A copy of a dense buffer's values. `name` is for messages. */
export async function readBuffer(backend: Backend, name: string, buffer: Buffer): Promise<Tensor> {
  const graph = trace((g) => void g.output(name, g.param(name, buffer.type)));
  const executable = await backend.compile(graph, { params: new Map([[name, buffer]]) });
  try {
    return await executable.read(name);
  } finally {
    executable.dispose();
  }
}
