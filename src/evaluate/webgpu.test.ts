// A trained model with dense weights gives the same logits on the GPU backend as on the others.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../test/support/software-gpu.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { openCheckpoint } from '../io/open.ts';
import { loadDecoder } from '../models/loaded.ts';
import { denseF32 } from '../models/stack.ts';
import { openWeights } from '../models/weights.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { windowLogits } from './verify.ts';

const missing = missingGpu();

describe.skipIf(missing)(`qwen3-6m with f32 weights${missing ? ` (${missing})` : ''}`, () => {
  const backends: Backend[] = [];
  beforeAll(async () => {
    backends.push(createReferenceBackend(), await createWasmBackend({ threads: 2 }), await createTestBackend());
  });
  afterAll(() => {
    for (const backend of backends) backend.dispose();
  });

  it('has the same logits on reference, wasm and webgpu', async () => {
    const ids = Int32Array.from({ length: 40 }, (_, i) => (i * i * 31 + 7 * i) % 2048);
    const logits: Float32Array[] = [];
    for (const backend of backends) {
      const checkpoint = await openCheckpoint('models/qwen3-6m');
      const weights = await openWeights(checkpoint);
      const load = async (name: string) => tensorF32(weights.shape(name), denseF32(await weights.load(name)));
      const model = await loadDecoder({ ...weights, load }, backend);
      await checkpoint.close();
      logits.push(await windowLogits({ model }, ids));
      model.dispose();
    }
    const [reference, wasm, webgpu] = logits;
    expect(worst(webgpu, reference)).toBeLessThan(1e-4);
    expect(worst(webgpu, wasm)).toBeLessThan(1e-4);
  });
});

/** Largest absolute difference. */
function worst(a: Float32Array, b: Float32Array): number {
  const value = a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
  if (process.env.SUBBYTE_SHOW) console.log(value);
  return value;
}
