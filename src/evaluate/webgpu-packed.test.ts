// A trained model with packed weights gives the same logits on the GPU backend as on WASM: a whole window, and a step
// of one token, which takes the matrix-vector kernels.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../test/support/software-gpu.ts';
import type { Backend } from '../backends/backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { openCheckpoint } from '../io/open.ts';
import { loadDecoder } from '../models/loaded.ts';
import { denseF32 } from '../models/stack.ts';
import { openWeights } from '../models/weights.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../tensor/tensor.ts';
import { windowLogits } from './verify.ts';

const missing = missingGpu();

/** Every matrix in the format, embedding and head included; vectors in f32. */
function stored(shape: readonly number[], values: Float32Array, format: string): AnyTensor {
  const [rows, cols] = shape;
  if (cols === undefined) return tensorF32(shape, values);
  return qtensor(shape, quantize(values, rows, cols, parseFormat(format)));
}

describe.skipIf(missing)(`qwen3-6m with packed weights${missing ? ` (${missing})` : ''}`, () => {
  const backends: Backend[] = [];
  beforeAll(async () => {
    backends.push(await createWasmBackend({ threads: 2 }), await createTestBackend());
  });
  afterAll(() => {
    for (const backend of backends) backend.dispose();
  });

  it.each([
    ['mxfp4', 40],
    ['int4-g64-asym', 40],
    ['bf16', 1],
    ['mxfp4', 1],
  ])(
    '%s, %i tokens: the same logits on wasm and webgpu',
    async (format, tokens) => {
      const ids = Int32Array.from({ length: tokens }, (_, i) => (i * i * 31 + 7 * i + 5) % 2048);
      const logits: Float32Array[] = [];
      for (const backend of backends) {
        const checkpoint = await openCheckpoint('models/qwen3-6m');
        const weights = await openWeights(checkpoint);
        const load = async (name: string) => stored(weights.shape(name), denseF32(await weights.load(name)), format);
        const model = await loadDecoder({ ...weights, load }, backend);
        await checkpoint.close();
        logits.push(await windowLogits({ model }, ids));
        model.dispose();
      }
      const [wasm, webgpu] = logits;
      const worst = webgpu.reduce((most, x, i) => Math.max(most, Math.abs(x - wasm[i])), 0);
      const largest = wasm.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      if (process.env.SUBBYTE_SHOW) console.log(format, tokens, worst, largest);
      expect(largest).toBeGreaterThan(1);
      expect(worst).toBeLessThan(1e-4);
    },
    300_000,
  );
});
