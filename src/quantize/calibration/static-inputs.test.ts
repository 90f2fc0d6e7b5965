import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../../test/fixtures/models/plain-forward.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { windowLogits } from '../../evaluate/verify.ts';
import type { FixedScale } from '../../formats/fixed-scale.ts';
import type { Format, QuantSpec } from '../../formats/format.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { loadDecoder } from '../../models/loaded.ts';
import { runtimeName } from '../../models/runtime-layers.ts';
import { blockSites } from '../../models/stages.ts';
import { mapWeights } from '../../models/weights.ts';
import { withFixedInputs } from '../methods/static-activations.ts';
import { withRuntime } from '../methods/transform-model.ts';
import { createRecipe } from '../recipe/recipe.ts';
import { referenceQuantizer } from '../tensor-quantizer.ts';
import { activationBudget } from './activations.ts';
import { type CalibrationMethod, calibrate } from './calibrate.ts';
import { openProfile } from './profile.ts';
import type { SiteNeeds } from './site-observer.ts';
import { openWorkFolder } from './work-folder.ts';

const root = mkdtempSync(path.join(tmpdir(), 'subbyte-static-'));
const backend = await createWasmBackend({ threads: 2 });
afterAll(() => {
  backend.dispose();
  rmSync(root, { recursive: true });
});

const quantizer = referenceQuantizer();
const weightFormat = parseFormat('int4-g8-asym');
const inputFormat = parseFormat('int8-tensor') as QuantSpec;
const recipe = createRecipe({ activations: 'int8-tensor:static' });
const family = (start: string) => Object.entries(tinyConfigs).find(([name]) => name.startsWith(start))![1];

/** Rounds weights to nearest; statistics that it asks for are kept by layer. */
function rounding(needs?: SiteNeeds, grams = new Map<string, Float32Array>()): CalibrationMethod {
  return {
    needs: () => needs,
    async round(_, tasks) {
      const results = [];
      for (const { name, weight, format, record } of tasks) {
        if (record.gram) grams.set(name, record.gram.slice());
        const tensor = await quantizer.quantize(weight, format, { seed: 0, stream: 0, name });
        results.push({ tensor, report: { name, format: 'int4-g8-asym', tokens: record.tokens, notes: [] } });
      }
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
  };
}

let folders = 0;
interface Run {
  method?: CalibrationMethod;
  windows?: number;
  T?: number;
  batch?: number;
  folder?: string;
}

async function run(model: TinyModel, { method = rounding(), windows = 6, T = 8, batch = 2, folder }: Run = {}) {
  const plain = await tinyWeights(model);
  const activations = [{ match: '.', format: inputFormat as Format }];
  const weights = withRuntime(plain, { ...plain.config.runtime, activations });
  const formats = new Map<string, Format>();
  for (const name of weights.names()) if (weights.role(name) === 'linear') formats.set(name, weightFormat);
  const work = await openWorkFolder(folder ?? path.join(root, `run-${folders++}`), 'one');
  const ids = Int32Array.from({ length: windows * T }, (_, i) => (i * 37 + 11) % 96);
  const context = {
    config: weights.config,
    backend,
    batch,
    tokens: T,
    chunks: windows / batch,
    budget: activationBudget(Infinity),
    folder: work.folder,
    profile: openProfile(),
    splitProfile: false,
  };
  try {
    const rangeOf = () => ({ format: inputFormat, clip: 'minmax' as const });
    const reports = await calibrate({ weights, formats, method, rangeOf, ids, context, work });
    const inputs = reports.flatMap((r) => r.inputs ?? []);
    return { weights, reports, inputs, ids, T };
  } finally {
    await work.close();
  }
}

const roundedRows = (rows: Float64Array[], fixed: FixedScale): Float64Array[] =>
  rows.map((row) =>
    Float64Array.from(dequantize(quantize(Float32Array.from(row), 1, row.length, inputFormat, { fixed }))),
  );

/** The model with the values of its rounded linear layers, all of them or those that `which` names. */
function rounded(model: TinyModel, which: (name: string) => boolean): TinyModel {
  const weights: TinyModel['weights'] = new Map();
  for (const [name, { shape, data }] of model.weights) {
    const q = which(name) && quantize(Float32Array.from(data), shape[0], shape[1], weightFormat);
    weights.set(name, { shape, data: q ? Float64Array.from(dequantize(q)) : data });
  }
  return { ...model, weights };
}

describe('static ranges of inputs', () => {
  it.each(['qwen3, q/k norm', 'mixtral', 'qwen2_moe, shared'])(
    'are those of a plain forward pass, layer after layer: %s',
    async (name) => {
      const model = tinyModel(family(name), 3);
      const grams = new Map<string, Float32Array>();
      const { weights, inputs, ids, T } = await run(model, { method: rounding({ gram: true }, grams) });
      const { config } = weights;
      const layerOf = (layer: string) => runtimeName(config, `${layer}.weight`);
      const found = new Map(inputs.map((input) => [input.layer, input]));
      const done = new Set<string>();
      const sites = Array.from({ length: config.layers }, (_, l) => blockSites(config, l)).flat();
      expect([...found.keys()]).toEqual([...new Set(sites.flatMap((site) => site.layers.map(layerOf)))]);
      for (const [i, site] of sites.entries()) {
        const names = new Set(site.layers);
        let amax = 0;
        let square = 0;
        const values = rounded(model, (weight) => done.has(weight.replace('.weight', '')));
        for (let w = 0; w < ids.length; w += T)
          plainForward(values, [...ids.subarray(w, w + T)], (rows, layer) => {
            if (names.has(layer)) for (const row of rows) for (const v of row) amax = Math.max(amax, Math.abs(v));
            const input = done.has(layer) || names.has(layer) ? found.get(layerOf(layer)) : undefined;
            if (!input) return rows;
            const { scale } = input;
            const codes = roundedRows(rows, { scale });
            if (layer === site.layers[0]) for (const row of codes) square += row[0] ** 2;
            return codes;
          });
        // before the first input nothing is rounded; later a code may fall the other way in f32
        const tolerance = i === 0 ? 1e-6 : 2e-2;
        const layers = [...new Set(site.layers.map(layerOf))].map((layer) => found.get(layer)!);
        for (const layer of layers) {
          expect(Math.abs(layer.amax / amax - 1), layer.layer).toBeLessThan(tolerance);
          // one scale for all that read the same
          expect(layer.scale).toBe(layers[0].scale);
          expect(layer.scale).toBe(Math.fround(Math.fround(layer.amax) / 127));
        }
        // second moments are those of the rounded input
        const gram = grams.get(`${site.layers[0]}.weight`)!;
        expect(Math.abs(gram[0] - square)).toBeLessThan(10 * tolerance * Math.max(square, 1e-3));
        for (const layer of site.layers) done.add(layer);
      }
    },
  );

  it('are the same whether or not a method collects something besides, and however windows are cut', async () => {
    const model = tinyModel(family('qwen3, q/k norm'), 3);
    const alone = await run(model);
    const beside = await run(model, { method: rounding({ gram: true, moments: true }) });
    const cut = await run(model, { batch: 3 });
    const crossed = { ...rounding({ gram: true, cross: true }), floatStream: true };
    expect((await run(model, { method: crossed })).inputs).toEqual(alone.inputs);
    expect(beside.inputs).toEqual(alone.inputs);
    expect(cut.inputs).toEqual(alone.inputs);
    expect(alone.reports[0].layers[0].tokens).toBe(48);
  });

  it('come from the reports of finished blocks when a run continues, also without the saved activations', async () => {
    const model = tinyModel(family('qwen3, q/k norm'), 3);
    const whole = await run(model);
    for (const lost of [false, true]) {
      const folder = path.join(root, `resume-${lost}`);
      const stopped = rounding();
      const failing: CalibrationMethod = {
        ...stopped,
        round: (site, tasks) => {
          if (tasks[0].name.startsWith('model.layers.1.')) throw new Error('killed');
          return stopped.round(site, tasks);
        },
      };
      await expect(run(model, { method: failing, folder })).rejects.toThrow('killed');
      if (lost) rmSync(path.join(folder, 'hidden-0000.f32'));
      expect((await run(model, { folder })).reports).toEqual(whole.reports);
    }
  });

  it('of experts that no token reached are those of the others, and the report says so', async () => {
    // one token takes two of four experts
    const { reports, inputs } = await run(tinyModel(family('mixtral'), 3), { windows: 1, T: 1, batch: 1 });
    expect(reports[0].notes).toEqual([
      expect.stringMatching(
        /^experts \d, \d saw no token: they have the others' range \(.*experts\.gate, .*experts\.up\)$/,
      ),
      expect.stringMatching(/^experts \d, \d saw no token: they have the others' range \(.*experts\.down\)$/),
    ]);
    expect(inputs.every(({ scale }) => scale > 0)).toBe(true);
  });

  it('of an input that is zero throughout are a guess, and the report says so', async () => {
    const model = tinyModel(family('qwen3, q/k norm'), 3);
    const v = 'model.layers.0.self_attn.v_proj.weight';
    const { shape, data } = model.weights.get(v)!;
    model.weights.set(v, { shape, data: new Float64Array(data.length) });
    const { reports, inputs } = await run(model);
    expect(reports[0].notes).toEqual([
      'the input was zero throughout, its range is a guess: -1 to 1 (model.layers.0.self_attn.o_proj)',
    ]);
    expect(inputs.find(({ layer }) => layer.endsWith('layers.0.self_attn.o_proj'))).toMatchObject({
      amax: 0,
      scale: Math.fround(1 / 127),
    });
  });

  it('name the layer whose input is not finite', async () => {
    const model = tinyModel(family('qwen3, q/k norm'), 3);
    const v = 'model.layers.1.self_attn.v_proj.weight';
    const { shape, data } = model.weights.get(v)!;
    model.weights.set(v, { shape, data: data.map((x) => x * 3e38) });
    const method: CalibrationMethod = { ...rounding(), propagate: 'float' };
    await expect(run(model, { method })).rejects.toThrow(/not finite.*model\.layers\.1\.self_attn\.o_proj\.weight/);
  });

  it.each(['qwen3, q/k norm', 'mixtral'])(
    'make a model that runs as plain loops with these scales: %s',
    async (name) => {
      const model = tinyModel(family(name), 3);
      const { weights, reports, inputs, ids, T } = await run(model);
      const linear = (weight: string) => weights.role(weight) === 'linear';
      const fixed = withFixedInputs(weights, recipe, reports);
      expect(fixed.hfConfig.subbyte).toEqual(
        expect.objectContaining({
          activations: expect.arrayContaining([expect.objectContaining({ format: 'int8-tensor' })]),
        }),
      );
      const values = rounded(model, linear);
      const direct = mapWeights(fixed, (weight, tensor) =>
        linear(weight) ? quantizer.quantize(tensor, weightFormat, { seed: 0, stream: 0, name: weight }) : tensor,
      );
      const decoder = await loadDecoder(direct, backend);
      const first = ids.subarray(0, T);
      const logits = await windowLogits({ model: decoder }, first);
      decoder.dispose();
      const scales = new Map(inputs.map(({ layer, scale }) => [layer, { scale }]));
      const round = (rows: Float64Array[], layer: string) => {
        const scale = linear(`${layer}.weight`) && scales.get(runtimeName(weights.config, `${layer}.weight`));
        return scale ? roundedRows(rows, scale) : rows;
      };
      const distance = (rows: Float64Array[]) =>
        Math.hypot(...rows.flatMap((row, t) => [...row].map((v, i) => v - logits[t * row.length + i])));
      const same = distance(plainForward(values, [...first], round));
      expect(same).toBeLessThan(0.2 * distance(plainForward(values, [...first])));
    },
  );
});
