// Rounding to a grid, bit for bit where it is decided: on the middles between levels, next to them, on the bounds.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../../test/support/software-gpu.ts';
import { fakeQuantize, fakeQuantizeBackward, type Grid } from '../../../graph/ops/fake-quantize.ts';
import { trace } from '../../../graph/trace.ts';
import { f32 } from '../../../graph/value-type.ts';
import type { Backend } from '../../backend.ts';
import { gaussian } from '../../op-case.ts';
import { createReferenceBackend } from '../../reference/reference-backend.ts';
import type { WebgpuBackend } from '../backend.ts';

/** x itself and its neighbours in float32. */
function neighbours(x: number): number[] {
  const bits = new Int32Array(Float32Array.of(x).buffer);
  return [-1, 0, 1].map((step) => new Float32Array(Int32Array.of(bits[0] + step).buffer)[0]);
}

const grids: Record<string, Grid> = {
  'four bits': { low: -8, high: 7 },
  'unsigned, eight bits': { low: 0, high: 255 },
  'eleven bits': { low: -1024, high: 1023 },
  'levels between whole steps': { low: -1.98, high: 1.98, shift: 0.5 },
};
/** The smallest step, a float32 number. */
const epsilon = 2 ** -26;
const steps = [1, 0.1, 0.3333, 1.7e-3, 2 ** -20, 3e4, 0];

/** Every middle between levels times the step, rounded to float32, with its neighbours; then ordinary numbers. */
function operands({ low, high, shift = 0 }: Grid, step: number): Float32Array {
  const middles = Array.from({ length: 2 * (high - low) + 6 }, (_, i) => Math.floor(low) - 1 + i / 2 + shift);
  const s = Math.max(Math.fround(step), epsilon);
  const near = [...middles, low, high].flatMap((m) => neighbours(m * s));
  return Float32Array.from([...near, ...gaussian(1, [500], high * s), Infinity, -Infinity, 0]);
}

const missing = missingGpu();

describe.skipIf(missing)(`fakeQuantize is exact${missing ? ` (${missing})` : ''}`, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => backend.dispose());

  async function run(on: Backend, levels: Grid, x: Float32Array, step: number) {
    const grid = { ...levels, epsilon };
    const graph = trace((g) => {
      const input = g.input('x', f32([x.length]));
      const s = g.input('step', f32([1]));
      g.output('y', fakeQuantize(input, s, grid));
      g.output('dx', fakeQuantizeBackward(input, s, g.input('dy', f32([x.length])), grid)[0]);
    });
    const executable = await on.compile(graph, { params: new Map() });
    executable.write('x', x);
    executable.write('step', Float32Array.of(step));
    executable.write('dy', new Float32Array(x.length).fill(1));
    await executable.run();
    const results = [(await executable.read('y')).data, (await executable.read('dx')).data];
    executable.dispose();
    return results.map((data) => Float32Array.from(data, (v) => v + 0)); // −0 and 0 are one
  }

  it.each(Object.entries(grids))('%s', async (_, grid) => {
    for (const step of steps) {
      const x = operands(grid, step);
      const [y, dx] = await run(backend, grid, x, step);
      const expected = await run(createReferenceBackend(), grid, x, step);
      expect(y, `y, step ${step}`).toEqual(expected[0]);
      expect(dx, `dx, step ${step}`).toEqual(expected[1]);
    }
  });

  it('refuses a grid that it could not round exactly', async () => {
    await expect(run(backend, { low: 0, high: 4095 }, Float32Array.of(1), 1)).rejects.toThrow(
      'the webgpu backend has no kernel for a grid beyond ±2047 steps',
    );
  });
});
