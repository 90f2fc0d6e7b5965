import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
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
import type { AnyTensor } from '../../tensor/tensor.ts';
import { referenceQuantizer } from '../tensor-quantizer.ts';
import { activationBudget } from './activations.ts';
import { type Calibration, type CalibrationMethod, calibrate } from './calibrate.ts';
import { openProfile } from './profile.ts';
import { openWorkFolder, type WorkFolder } from './work-folder.ts';

const root = mkdtempSync(path.join(tmpdir(), 'subbyte-calibrate-'));
const backend = await createWasmBackend({ threads: 2 });
afterAll(() => {
  expect(backend.usedBytes).toBe(0);
  backend.dispose();
  rmSync(root, { recursive: true });
});

const windows = 6;
const T = 8;
const ids = Int32Array.from({ length: windows * T }, (_, i) => (i * 37 + 11) % 96);
const format = parseFormat('int4-g8-asym');
const quantizer = referenceQuantizer();

/** Rounds to nearest and remembers what it was given. */
function rounding(seen: Map<string, Float32Array>, extra: Partial<CalibrationMethod> = {}): CalibrationMethod {
  return {
    needs: () => ({ gram: true, moments: true, sampleRows: 3 }),
    async round(_, tasks) {
      const results = [];
      for (const { name, weight, format, record } of tasks) {
        seen.set(name, record.gram?.slice() ?? new Float32Array(0));
        const tensor = await quantizer.quantize(weight, format, { seed: 0, stream: 0, name });
        results.push({ tensor, report: { name, format: 'int4-g8-asym', tokens: record.tokens, notes: [] } });
      }
      return results;
    },
    propagate: 'rounded',
    floatStream: false,
    ...extra,
  };
}

let folders = 0;
interface Run {
  method: CalibrationMethod;
  limit?: number;
  batch?: number;
  work?: WorkFolder;
  onProgress?: Calibration['onProgress'];
  signal?: AbortSignal;
}

async function run(weights: ModelWeights, { method, limit = Infinity, batch = 2, work, onProgress, signal }: Run) {
  const formats = new Map<string, Format>();
  for (const name of weights.names()) if (weights.role(name) === 'linear') formats.set(name, format);
  const folder = work ?? (await openWorkFolder(path.join(root, `run-${folders++}`), 'one'));
  const budget = activationBudget(limit);
  const chunks = windows / batch;
  const context = {
    config: weights.config,
    backend,
    batch,
    tokens: T,
    chunks,
    budget,
    folder: folder.folder,
    profile: openProfile(),
    splitProfile: false,
  };
  const calibration = { weights, formats, method, ids, context, work: folder, signal, onProgress };
  const reports = await calibrate(calibration).finally(() => {
    expect([budget.used, budget.spilled, budget.open.size]).toEqual([0, 0, 0]);
  });
  const tensors = new Map<string, AnyTensor>();
  for (const [name, layer] of await folder.index()) tensors.set(name, await folder.load(layer, name));
  await folder.close();
  return { reports, tensors, budget, folder: folder.folder };
}

const models = Object.entries(tinyConfigs).filter(([name]) => /biases everywhere|q\/k norm|mixtral|shared/i.test(name));

describe('calibration block by block', () => {
  it.each(models)('rounds every linear layer, the same in memory and on disk: %s', async (_, config) => {
    const weights = await tinyWeights(tinyModel(config, 3));
    const linear = weights.names().filter((name) => weights.role(name) === 'linear');
    const inMemory = new Map<string, Float32Array>();
    const first = await run(weights, { method: rounding(inMemory) });
    expect([...first.tensors.keys()].sort()).toEqual([...linear].sort());
    expect(first.reports.flatMap((r) => r.layers.map((l) => l.name)).sort()).toEqual([...linear].sort());
    expect(first.budget.spilledPeak).toBe(0);
    const onDisk = new Map<string, Float32Array>();
    const second = await run(weights, { method: rounding(onDisk), limit: 0 });
    expect(second.budget.spilledPeak).toBeGreaterThan(0);
    expect(second.tensors).toEqual(first.tensors);
    expect(onDisk).toEqual(inMemory);
    expect(second.reports).toEqual(first.reports);
    expect(readdirSync(second.folder).filter((name) => name.startsWith('activations'))).toEqual([]);
  });

  it('shows each layer what the layers rounded before it make of its input', async () => {
    const weights = await tinyWeights(tinyModel(models[0][1], 3));
    const seen = new Map<string, Float32Array>();
    const { tensors } = await run(weights, { method: rounding(seen) });
    // the model whose earlier layers are rounded, as a whole: its logits follow from the last layer's input
    const down = 'model.layers.1.mlp.down_proj.weight';
    const gram = seen.get(down)!;
    const float = new Map<string, Float32Array>();
    await run(weights, { method: rounding(float, { propagate: 'float' }) });
    expect(float.get('model.layers.0.self_attn.q_proj.weight')).toEqual(
      seen.get('model.layers.0.self_attn.q_proj.weight'),
    );
    expect(float.get('model.layers.0.self_attn.o_proj.weight')).not.toEqual(
      seen.get('model.layers.0.self_attn.o_proj.weight'),
    );
    expect(gram).not.toEqual(float.get(down));
    // running the rounded model's layers unrounded from the start gives the same statistics of the last site
    const rounded = mapWeights(weights, (name, tensor) => (name === down ? tensor : (tensors.get(name) ?? tensor)));
    const dense = mapWeights(rounded, (_, t) => ({ kind: 'dense', shape: t.shape, dtype: 'f32', data: denseF32(t) }));
    const again = new Map<string, Float32Array>();
    await run(dense, { method: rounding(again, { propagate: 'float' }) });
    const other = again.get(down)!;
    const largest = Math.max(...gram);
    for (let i = 0; i < gram.length; i++) expect(Math.abs(gram[i] - other[i])).toBeLessThan(1e-5 * largest);
  });

  it('leaves a model that runs like the decoder on its rounded tensors', async () => {
    const weights = await tinyWeights(tinyModel(models[1][1], 3));
    const { tensors } = await run(weights, { method: rounding(new Map()) });
    const direct = mapWeights(weights, (name, tensor) =>
      weights.role(name) === 'linear' ? quantizer.quantize(tensor, format, { seed: 0, stream: 0, name }) : tensor,
    );
    const solved = mapWeights(weights, (name, tensor) => tensors.get(name) ?? tensor);
    const logits = [];
    for (const w of [direct, solved]) {
      const model = await loadDecoder(w, backend);
      const graph = buildDecoder(model.config, model.types, { batch: 1, tokens: T, mode: 'logits' });
      const executable = await backend.compile(graph, { params: model.buffers });
      executable.write('ids', ids.subarray(0, T));
      await executable.run();
      logits.push((await executable.read('logits')).data);
      executable.dispose();
      model.dispose();
    }
    expect(logits[1]).toEqual(logits[0]);
  });

  it('continues after the last finished block, with the same result, also without the saved activations', async () => {
    const weights = await tinyWeights(tinyModel(models[2][1], 3));
    const whole = await run(weights, { method: rounding(new Map()) });
    for (const lost of [false, true]) {
      const folder = path.join(root, `resume-${lost}`);
      const stopped = rounding(new Map());
      const failing: CalibrationMethod = {
        ...stopped,
        round: (site, tasks) => {
          if (tasks[0].name.startsWith('model.layers.1.')) throw new Error('killed');
          return stopped.round(site, tasks);
        },
      };
      const work = await openWorkFolder(folder, 'one');
      await expect(run(weights, { method: failing, work })).rejects.toThrow('killed');
      await work.close();
      writeFileSync(path.join(folder, 'block-0001.safetensors.partial'), 'half');
      if (lost) rmSync(path.join(folder, 'hidden-0000.f32'));
      const seen = new Map<string, Float32Array>();
      const again = await openWorkFolder(folder, 'one');
      expect(again.finished).toBe(1);
      expect(existsSync(path.join(folder, 'block-0001.safetensors.partial'))).toBe(false);
      const resumed = await run(weights, { method: rounding(seen), work: again });
      expect([...seen.keys()].every((name) => name.startsWith('model.layers.1.'))).toBe(true);
      expect(resumed.tensors).toEqual(whole.tensors);
      expect(resumed.reports).toEqual(whole.reports);
    }
  });

  it('forgets what another run left in the folder', async () => {
    const weights = await tinyWeights(tinyModel(models[0][1], 3));
    const folder = path.join(root, 'other');
    await run(weights, { method: rounding(new Map()), work: await openWorkFolder(folder, 'one') });
    expect(readdirSync(folder)).toEqual(['block-0000.safetensors', 'block-0001.safetensors']);
    const other = await openWorkFolder(folder, 'two');
    expect(other.finished).toBe(0);
    expect(readdirSync(folder)).toEqual([]);
    await other.remove();
    expect(existsSync(folder)).toBe(false);
  });

  it('stops between chunks when asked to', async () => {
    const weights = await tinyWeights(tinyModel(models[0][1], 3));
    const controller = new AbortController();
    let steps = 0;
    const onProgress = () => {
      if (++steps === 5) controller.abort(new Error('stop'));
    };
    await expect(run(weights, { method: rounding(new Map()), onProgress, signal: controller.signal })).rejects.toThrow(
      'stop',
    );
    expect(steps).toBe(5);
  });

  it('names the first layer whose input is not a number', async () => {
    const weights = await tinyWeights(tinyModel(models[0][1], 3));
    // v overflows in block 1: what o reads there is the first thing that is not finite
    const huge = mapWeights(weights, (name, t) => {
      if (name !== 'model.layers.1.self_attn.v_proj.weight') return t;
      return { kind: 'dense', shape: t.shape, dtype: 'f32', data: denseF32(t).map((x) => x * 3e38) };
    });
    const float = { propagate: 'float' as const };
    for (const needs of [{ gram: true }, { moments: true }])
      await expect(run(huge, { method: rounding(new Map(), { ...float, needs: () => needs }) })).rejects.toThrow(
        /NaN or infinite.*model\.layers\.1\.self_attn\.o_proj\.weight/,
      );
  });

  it('counts the tokens of experts and sums the statistics of each over its own rows', async () => {
    const weights = await tinyWeights(tinyModel(models[2][1], 3));
    const { experts } = weights.config;
    const seen = new Map<string, Float32Array>();
    const { reports } = await run(weights, { method: rounding(seen) });
    for (const part of ['w1', 'w2', 'w3']) {
      const layers = reports[0].layers.filter((l) => l.name.endsWith(`.${part}.weight`));
      expect(layers).toHaveLength(experts!.count);
      expect(layers.reduce((n, l) => n + l.tokens, 0)).toBe(windows * T * experts!.perToken);
    }
  });
});
