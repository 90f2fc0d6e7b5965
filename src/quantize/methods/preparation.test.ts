import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import type { Format } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { buildDecoder } from '../../models/decoder.ts';
import { loadDecoder } from '../../models/loaded.ts';
import { denseF32 } from '../../models/stack.ts';
import { type ModelWeights, mapWeights } from '../../models/weights.ts';
import type { CalibrationMethod } from '../calibration/calibrate.ts';
import { openProfile } from '../calibration/profile.ts';
import { solveModel } from '../solve-model.ts';
import { referenceQuantizer } from '../tensor-quantizer.ts';
import { type ScalingStep, scalingPreparation } from './preparation.ts';

const root = mkdtempSync(path.join(tmpdir(), 'subbyte-preparation-'));
const backend = await createWasmBackend({ threads: 2 });
const quantizer = referenceQuantizer();
afterAll(() => {
  expect(backend.usedBytes).toBe(0);
  backend.dispose();
  rmSync(root, { recursive: true });
});

const T = 16;
const ids = Int32Array.from({ length: 8 * T }, (_, i) => (i * 37 + (i >> 3)) % 96);
const format = parseFormat('int3-g8-asym');

async function logitsOf(weights: ModelWeights): Promise<Float32Array> {
  const model = await loadDecoder(weights, backend);
  const graph = buildDecoder(model.config, model.types, { batch: 2, tokens: T, mode: 'logits' });
  const executable = await backend.compile(graph, { params: model.buffers });
  executable.write('ids', ids.subarray(0, 2 * T));
  await executable.run();
  const logits = (await executable.read('logits')).data as Float32Array;
  executable.dispose();
  model.dispose();
  return logits;
}

let folders = 0;
async function scale(weights: ModelWeights, steps: ScalingStep[], round: boolean) {
  const formats = new Map<string, Format>();
  for (const name of weights.names()) if (weights.role(name) === 'linear') formats.set(name, format);
  const { config } = weights;
  const method: CalibrationMethod = {
    preparation: scalingPreparation({ config, formats, steps, quantizer, seed: 0 }),
    needs: () => undefined,
    round: async (_, tasks) =>
      Promise.all(
        tasks.map(async ({ name, weight }) => ({
          tensor: round ? await quantizer.quantize(weight, format, { seed: 0, stream: 0, name }) : weight,
          report: { name, format: '', tokens: 0, notes: [] },
        })),
      ),
    propagate: 'rounded',
    floatStream: false,
  };
  const solved = await solveModel({
    weights,
    formats,
    method,
    ids,
    window: T,
    backend,
    folder: path.join(root, `${folders++}`),
    fingerprint: 'one',
    memory: 1e9,
    profile: openProfile(),
    splitProfile: false,
  });
  return solved;
}

/** Planted outliers, as trained models have them: a few channels of every norm's gain are large. */
function withOutliers(weights: ModelWeights): ModelWeights {
  return mapWeights(weights, (name, t) => {
    if (!name.endsWith('layernorm.weight')) return t;
    return {
      kind: 'dense',
      shape: t.shape,
      dtype: 'f32',
      data: denseF32(t).map((x, i) => (i % 16 === 5 ? 12 * x : x)),
    };
  });
}

const error = (a: Float32Array, b: Float32Array) => {
  let [d, n] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    d += (a[i] - b[i]) ** 2;
    n += b[i] ** 2;
  }
  return Math.sqrt(d / n);
};

const smooth: ScalingStep = { kind: 'smooth', alpha: 0.6 };
const awq: ScalingStep = { kind: 'awq', grid: 10, duo: false, tokens: 100 };

describe('scaling from calibration statistics', () => {
  const cases = Object.entries(tinyConfigs).filter(([name]) => !name.includes('yarn') && !name.includes('linear rope'));
  it.each(cases)('leaves what the model computes as it was: %s', async (_, config) => {
    const weights = withOutliers(await tinyWeights(tinyModel(config, 5)));
    const before = await logitsOf(weights);
    for (const steps of [[smooth], [awq], [smooth, awq]]) {
      const solved = await scale(weights, steps, false);
      const norm = await solved.weights.load('model.layers.0.input_layernorm.weight');
      expect(denseF32(norm)).not.toEqual(denseF32(await weights.load('model.layers.0.input_layernorm.weight')));
      expect(error(await logitsOf(solved.weights), before)).toBeLessThan(1e-5);
      await solved.remove();
    }
  });

  it('AWQ brings the rounded model nearer to the original than plain rounding', async () => {
    for (const [, config] of cases) {
      const weights = withOutliers(await tinyWeights(tinyModel(config, 5)));
      const before = await logitsOf(weights);
      const plain = await scale(weights, [], true);
      const scaled = await scale(weights, [awq], true);
      const [worse, better] = [await logitsOf(plain.weights), await logitsOf(scaled.weights)];
      expect(error(better, before)).toBeLessThan(error(worse, before));
      await plain.remove();
      await scaled.remove();
    }
  });

  it('says which layers nothing can take the scales of', async () => {
    const weights = await tinyWeights(tinyModel(cases[0][1], 5));
    const solved = await scale(weights, [awq], true);
    expect(solved.reports[0].notes.join()).toMatch(/o_proj is not scaled: several query heads share a value head/);
    await solved.remove();
  });
});
