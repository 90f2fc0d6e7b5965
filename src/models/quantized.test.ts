// Quantized decoders on both backends against plain loops over the dequantized weights.

import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../test/fixtures/models/plain-forward.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { windowLogits } from '../evaluate/verify.ts';
import type { Format } from '../formats/format.ts';
import { dequantize, quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { qtensor } from '../tensor/tensor.ts';
import { loadDecoder } from './loaded.ts';
import { denseF32 } from './stack.ts';
import { mapWeights } from './weights.ts';

const backends: Backend[] = [createReferenceBackend(), await createWasmBackend()];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const ids = Array.from({ length: 12 }, (_, i) => (i * 29 + 5) % 96);
const isLinear = (layer: string) => /(_proj|\.w[123])(\.weight)?$/.test(layer);

/** The model with the values of its quantized linear layers. */
function dequantized(model: TinyModel, format: Format): TinyModel {
  const weights: TinyModel['weights'] = new Map();
  for (const [name, { shape, data }] of model.weights) {
    const q = isLinear(name) && quantize(Float32Array.from(data), shape[0], shape[1], format);
    weights.set(name, { shape, data: q ? Float64Array.from(dequantize(q)) : data });
  }
  return { ...model, weights };
}

async function loadQuantized(model: TinyModel, format: Format, backend: Backend) {
  const weights = mapWeights(await tinyWeights(model), (name, tensor) => {
    if (!isLinear(name)) return tensor;
    const [rows, cols] = tensor.shape;
    return qtensor(tensor.shape, quantize(denseF32(tensor), rows, cols, format));
  });
  return loadDecoder(weights, backend);
}

function differences(rows: Float64Array[], logits: Float32Array) {
  const all = rows.flatMap((row, t) => [...row].map((v, i) => v - logits[t * row.length + i]));
  return {
    worst: Math.max(...all.map(Math.abs)),
    rms: Math.sqrt(all.reduce((sum, v) => sum + v * v, 0) / all.length),
  };
}

const families = [
  'qwen3, q/k norm, head_dim 24, tied',
  'mixtral, 4 experts, 2 a token',
  'qwen2_moe, shared expert, first layer dense, probabilities not renormalised',
];

describe.each(backends)('quantized weights on $name', (backend) => {
  // Block sizes that divide every K of the three models (64, 96, 40 for the experts of qwen2_moe).
  for (const name of ['int8-channel', 'int8-tensor', 'int4-g8-asym', 'nf4-g8', 'bf16'])
    for (const family of families)
      it(`${name}: ${family}`, async () => {
        const format = parseFormat(name);
        const model = tinyModel(tinyConfigs[family], 4);
        const decoder = await loadQuantized(model, format, backend);
        const logits = await windowLogits({ model: decoder }, Int32Array.from(ids));
        expect(differences(plainForward(dequantized(model, format), ids), logits).worst).toBeLessThan(3e-4);
        decoder.dispose();
      });

  for (const name of ['mxfp4', 'nvfp4', 'mxfp8', 'q8_0', 'fp8-e4m3-tile32x32'])
    it(`${name}: ${families[1]}`, async () => {
      const format = parseFormat(name);
      const model = tinyModel(tinyConfigs[families[1]], 4);
      const decoder = await loadQuantized(model, format, backend);
      const logits = await windowLogits({ model: decoder }, Int32Array.from(ids));
      expect(differences(plainForward(dequantized(model, format), ids), logits).worst).toBeLessThan(3e-4);
      decoder.dispose();
    });
});

describe.each(backends)('quantized weights and activations on $name', (backend) => {
  // A rounding that falls the other way in f32 than in f64 moves a logit by a step's worth, so the bound is on the
  // difference to the quantized loops as a share of what the quantization of the activations does.
  // The loops run experts token by token, so a scale over all tokens (NVFP4) is not theirs.
  for (const [weight, input] of [
    ['int8-channel', 'int8-token'],
    ['mxfp4', 'mxfp4'],
    ['nvfp4', 'nvfp4'],
    ['mxfp4', 'mxfp8'],
    ['bf16', 'int8-token'],
  ])
    for (const family of families.slice(0, input === 'nvfp4' ? 1 : 2))
      it(`${weight} × ${input}: ${family}`, async () => {
        const format = parseFormat(weight);
        const activation = parseFormat(input);
        const model = tinyModel(tinyConfigs[family], 4);
        const decoder = await loadQuantized(model, format, backend);
        const logits = await windowLogits(
          { model: decoder, activation: () => ({ format: activation }) },
          Int32Array.from(ids),
        );
        const values = dequantized(model, format);
        const round = (x: Float64Array[], layer: string) => {
          if (!isLinear(layer)) return x;
          const q = quantize(Float32Array.from(x.flatMap((row) => [...row])), x.length, x[0].length, activation);
          const rounded = Float64Array.from(dequantize(q));
          return x.map((row, t) => rounded.subarray(t * row.length, (t + 1) * row.length));
        };
        const same = differences(plainForward(values, ids, round), logits).rms;
        const without = differences(plainForward(values, ids), logits).rms;
        expect(same).toBeLessThan(0.2 * without);
        decoder.dispose();
      });
});
