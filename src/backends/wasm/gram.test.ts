import { afterAll, describe, expect, it } from 'vitest';
import { gramUpdate } from '../../graph/ops/gram.ts';
import { slice } from '../../graph/ops/layout.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { createWasmBackend } from './backend.ts';

const backend = await createWasmBackend({ threads: 2 });
afterAll(() => backend.dispose());

describe('gramUpdate', () => {
  it('names an expert that does not exist', async () => {
    const graph = trace((g) => {
      const gram = g.state('gram', f32([3, 2, 2]));
      const sum = gramUpdate(gram, g.input('a', f32([7, 2])), { indices: g.input('indices', i32([7, 1])) });
      g.output('y', slice(sum, 0, 0, 1));
    });
    const executable = await backend.compile(graph, { params: new Map() });
    executable.write('indices', Int32Array.of(0, 1, 2, 3, 0, 0, 0));
    expect(() => executable.run()).toThrow(/an expert index is out of range in gramUpdate#0, got 3, expected 0 … 2/);
    executable.dispose();
  });
});
