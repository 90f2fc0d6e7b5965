import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32, typeOfTensor } from '../../graph/value-type.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../../tensor/tensor.ts';
import { gaussian } from '../op-case.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

// Enough rows for whole tiles and edges, experts with none and with few rows, two panels of depth and a rest.
const [N, k, E, M, K] = [57, 2, 6, 19, 1088];

let backends: WasmBackend[];
beforeAll(async () => {
  backends = [await createWasmBackend({ threads: 1 }), await createWasmBackend({ threads: 2 })];
});
afterAll(() => backends.forEach((backend) => void backend.dispose()));

/** Expert 2 gets no row, expert 5 three rows, the others many. */
function choose(): Int32Array {
  const indices = new Int32Array(N * k);
  for (let n = 0; n < N; n++) {
    indices[n * k] = [0, 1, 3, 4][(n * 7) % 4]!;
    indices[n * k + 1] = n % 20 === 0 ? 5 : [1, 0, 4, 3][(n * 7) % 4]!;
  }
  return indices;
}

async function run(backend: WasmBackend, x: Float32Array, perSlot: boolean, weight: AnyTensor, indices: Int32Array) {
  const graph = trace((g) => {
    const w = g.param('w', typeOfTensor(weight));
    const input = g.input('x', f32(perSlot ? [N, k, K] : [N, K]));
    g.output('y', expertMatmul(input, w, g.input('indices', i32([N, k]))));
  });
  const executable = await backend.compile(graph, { params: new Map([['w', await backend.upload(weight)]]) });
  executable.write('x', x);
  executable.write('indices', indices);
  await executable.run();
  const { data } = await executable.read('y');
  executable.dispose();
  return data as Float32Array;
}

describe.each([false, true])('an input for each slot: %s', (perSlot) => {
  it.each(['f32', 'bf16', 'mxfp4', 'int4-g32-asym', 'q8_0'])('%s weights', async (format) => {
    const values = gaussian(1, [E, M, K]);
    const q = quantize(values, E * M, K, parseFormat(format));
    const weight = format === 'f32' ? tensorF32([E, M, K], values) : qtensor([E, M, K], q);
    const decoded = dequantize(q);
    const x = gaussian(2, perSlot ? [N, k, K] : [N, K]);
    const indices = choose();
    const found = await run(backends[0]!, x, perSlot, weight, indices);
    expect(await run(backends[1]!, x, perSlot, weight, indices)).toEqual(found);
    let worst = 0;
    for (let slot = 0; slot < N * k; slot++) {
      const from = (perSlot ? slot : Math.floor(slot / k)) * K;
      for (let m = 0; m < M; m++) {
        const row = (indices[slot]! * M + m) * K;
        let sum = 0;
        let size = 0;
        for (let i = 0; i < K; i++) {
          sum += x[from + i]! * decoded[row + i]!;
          size += Math.abs(x[from + i]! * decoded[row + i]!);
        }
        worst = Math.max(worst, Math.abs(found[slot * M + m]! - sum) / size);
      }
    }
    expect(worst).toBeLessThan(1e-6);
  });
});

it('reports an expert that does not exist', async () => {
  const weight = tensorF32([E, M, K], gaussian(1, [E, M, K]));
  const indices = choose();
  indices[11] = E;
  await expect(run(backends[1]!, gaussian(2, [N, K]), false, weight, indices)).rejects.toThrow('expert index');
});
