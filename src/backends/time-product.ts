// The rate of a backend's f32 matrix product, as graphs use it.

import { matmul } from '../graph/ops/matmul.ts';
import { trace } from '../graph/trace.ts';
import { f32 } from '../graph/value-type.ts';
import type { Backend } from './backend.ts';

/**
 * Doubles the size from 256 until a product takes `atLeast` milliseconds, at most 4096.
 *
 * Returns the size and multiplications and additions a second; throws what the backend throws.
 */
export async function timeProduct(
  backend: Backend,
  { atLeast }: { atLeast: number },
): Promise<{ size: number; flops: number }> {
  for (let size = 256; ; size *= 2) {
    const graph = trace((g) => {
      g.output('y', matmul(g.input('a', f32([size, size])), g.input('b', f32([size, size]))));
    });
    const executable = await backend.compile(graph, { params: new Map() });
    try {
      await executable.run();
      let best = Infinity;
      const start = performance.now();
      for (let i = 0; i < 3 || performance.now() - start < atLeast; i++) {
        const before = performance.now();
        await executable.run();
        best = Math.min(best, performance.now() - before);
      }
      if (best >= atLeast || size === 4096) return { size, flops: (2 * size ** 3) / (best / 1000) };
    } finally {
      executable.dispose();
    }
  }
}
