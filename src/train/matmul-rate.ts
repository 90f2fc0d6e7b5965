// The rate of matrix products on a backend, which a training step's rate is compared with.

import type { Backend } from '../backends/backend.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { trace } from '../graph/trace.ts';
import { f32 } from '../graph/value-type.ts';

const size = 1024;
const flops = 2 * size ** 3;
const seconds = 0.3;

/**
 * Multiplications and additions a second of f32 products [1024, 1024] · [1024, 1024]ᵀ: the fastest of the runs that fit
 * into 0.3 seconds, three at least.
 */
export function measureMatmulRate(backend: Backend): Promise<number> {
  const found = known.get(backend) ?? measure(backend);
  known.set(backend, found);
  return found;
}

/** Trainings one after another on a backend share the figure. */
const known = new WeakMap<Backend, Promise<number>>();

async function measure(backend: Backend): Promise<number> {
  const graph = trace((g) => {
    const [a, b] = ['a', 'b'].map((name) => g.input(name, f32([size, size])));
    g.output('y', matmul(a, b, { transposeB: true }));
  });
  const executable = await backend.compile(graph, { params: new Map() });
  try {
    for (const name of ['a', 'b']) executable.write(name, new Float32Array(size * size).fill(0.5));
    await executable.run();
    const start = performance.now();
    let best = Number.POSITIVE_INFINITY;
    for (let runs = 0; runs < 3 || performance.now() - start < 1000 * seconds; runs++) {
      const before = performance.now();
      await executable.run();
      best = Math.min(best, performance.now() - before);
    }
    return flops / (best / 1000);
  } finally {
    executable.dispose();
  }
}
