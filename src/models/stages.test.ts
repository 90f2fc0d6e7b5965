import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { reshape } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { rmsNorm } from '../graph/ops/norm.ts';
import { trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import { paramSource } from './block.ts';
import { buildDecoder } from './decoder.ts';
import { type LoadedDecoder, loadDecoder } from './loaded.ts';
import { blockSites, buildStage, rowWidth, type StageValue, stages, stageValues } from './stages.ts';

const B = 2;
const T = 9;
const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 37 + 11) % 96);
const collectAll = () => ({ gram: true, cross: false, input: true });

async function run(backend: Backend, graph: ReturnType<typeof trace>, model: LoadedDecoder, inputs: object) {
  const executable = await backend.compile(graph, { params: model.buffers });
  for (const [name, data] of Object.entries(inputs)) executable.write(name, data);
  await executable.run();
  const outputs = new Map<string, Float32Array>();
  for (const name of graph.outputs.keys()) outputs.set(name, (await executable.read(name)).data as Float32Array);
  executable.dispose();
  return outputs;
}

/** Only what the graph declares: unused parameters of a block are bound all the same. */
async function throughStages(backend: Backend, model: LoadedDecoder) {
  const { config, types } = model;
  const start = trace((g) => {
    const table = paramSource(g, { types }).param('model.embed_tokens.weight');
    const h = embedding(table, g.input('ids', i32([B, T])));
    g.output('hidden', reshape(h, [B * T, config.hiddenSize]));
  });
  let hidden = (await run(backend, start, model, { ids })).get('hidden')!;
  const observed: Map<string, Float32Array>[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const values = new Map<StageValue, Float32Array>([['hidden', hidden]]);
    const seen = new Map<string, Float32Array>();
    for (const stage of stages) {
      const graph = buildStage(config, layer, stage, types, { batch: B, tokens: T, collect: collectAll });
      const { reads, gives } = stageValues(config, layer, stage);
      const found = await run(backend, graph, model, Object.fromEntries(reads.map((name) => [name, values.get(name)])));
      for (const name of gives) {
        values.set(name, found.get(name)!);
        expect(found.get(name)).toHaveLength(B * T * rowWidth(config, layer, name));
      }
      for (const [name, data] of found) if (!gives.includes(name as StageValue)) seen.set(name, data);
    }
    hidden = values.get('next')!;
    observed.push(seen);
  }
  const end = trace((g) => {
    const source = paramSource(g, { types });
    const norm = source.param('model.norm.weight');
    const h = rmsNorm(g.input('hidden', f32([B * T, config.hiddenSize])), norm, { epsilon: config.epsilon });
    const head = source.param(config.tiedEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight');
    g.output('logits', matmul(h, head, { transposeB: true }));
  });
  return { logits: (await run(backend, end, model, { hidden })).get('logits')!, observed };
}

const backends: Backend[] = [createReferenceBackend(), await createWasmBackend({ threads: 2 })];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

describe('a block in stages', () => {
  for (const backend of backends)
    for (const [name, config] of Object.entries(tinyConfigs))
      it(`gives the bits of the whole decoder on ${backend.name}: ${name}`, async () => {
        const model = await loadDecoder(await tinyWeights(tinyModel(config, 7)), backend);
        const graph = buildDecoder(model.config, model.types, { batch: B, tokens: T, mode: 'logits' });
        const whole = (await run(backend, graph, model, { ids })).get('logits');
        const { logits, observed } = await throughStages(backend, model);
        expect(logits).toEqual(whole);
        for (const [layer, seen] of observed.entries())
          for (const site of blockSites(model.config, layer)) checkGram(site, seen);
        model.dispose();
      });
});

/** The gram of a site is Σ x xᵀ of the inputs it reports, summed by plain loops. */
function checkGram(
  { name, features: K, experts }: ReturnType<typeof blockSites>[number],
  seen: Map<string, Float32Array>,
) {
  const x = seen.get(`${name}.x`)!;
  const gram = seen.get(`${name}.sum`)!;
  const chosen = seen.get(`${name}.experts`) as Int32Array | undefined;
  expect(chosen !== undefined).toBe(experts > 0);
  const rowOf = (i: number) => (chosen && x.length === B * T * K ? Math.floor((i * B * T) / chosen.length) : i);
  const expected = new Float64Array(gram.length);
  for (let i = 0; i < (chosen?.length ?? B * T); i++) {
    const row = x.subarray(rowOf(i) * K, (rowOf(i) + 1) * K);
    const matrix = (chosen?.[i] ?? 0) * K * K;
    for (let j = 0; j < K; j++) for (let k = j; k < K; k++) expected[matrix + j * K + k] += row[j] * row[k];
  }
  const largest = expected.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  expect(largest).toBeGreaterThan(0);
  let worst = 0;
  for (let i = 0; i < gram.length; i++)
    if (i % K >= Math.floor((i % (K * K)) / K)) worst = Math.max(worst, Math.abs(gram[i] - expected[i]));
  expect(worst / largest).toBeLessThan(1e-6);
}

describe('sites', () => {
  it('cover the linear layers of a block once, experts included', async () => {
    for (const config of Object.values(tinyConfigs)) {
      const weights = await tinyWeights(tinyModel(config, 1));
      for (let layer = 0; layer < weights.config.layers; layer++) {
        const covered = blockSites(weights.config, layer).flatMap((site) =>
          site.layers.map((name) => `${name}.weight`),
        );
        const linear = weights
          .names()
          .filter((name) => name.startsWith(`model.layers.${layer}.`) && weights.role(name) === 'linear');
        expect([...covered].sort()).toEqual(linear.sort());
      }
    }
  });
});
