// llama.cpp's own quantizer against ours: the same types for every tensor of a mixture, the same bytes, and its files
// open here.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { quantizeGgml } from '../../src/formats/ggml/quantize.ts';
import { uniformSource } from '../../src/formats/random.ts';
import { ggmlOfDtype } from '../../src/io/ggml-storage.ts';
import { openGguf } from '../../src/io/gguf.ts';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { type ImatrixEntry, importanceOf } from '../../src/io/imatrix.ts';
import { readImatrix, writeImatrix } from '../../src/io/imatrix-file.ts';
import { parseConfig } from '../../src/models/config.ts';
import { planGguf } from '../../src/models/gguf-export.ts';
import { fallbackType, fileTypes, type GgufPreset, ggufPresets, presetType } from '../../src/models/gguf-presets.ts';
import { denseF32 } from '../../src/models/stack.ts';
import { expectedTensors } from '../../src/models/tensors.ts';
import { openWeights } from '../../src/models/weights.ts';
import { openQuantizer } from '../../src/quantize/tensor-quantizer.ts';
import { tensorF32 } from '../../src/tensor/tensor.ts';
import { exportGguf, openModel, shipped } from './export-model.ts';
import { runLlamaQuantizer } from './llama-cpp.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-quantizer-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Models of zeros whose rules differ: layers, grouped queries, experts, tied embeddings, odd row lengths. */
const shapes: Record<string, Record<string, unknown>> = {
  'llama, 17 layers': { model_type: 'llama', num_hidden_layers: 17 },
  'qwen3, 24 layers, 4 queries a key, tied': {
    model_type: 'qwen3',
    num_hidden_layers: 24,
    num_key_value_heads: 1,
    tie_word_embeddings: true,
    head_dim: 64,
  },
  'mixtral, 8 experts, 9 layers': { model_type: 'mixtral', num_hidden_layers: 9, num_local_experts: 8 },
  'llama, rows of 320 and 352': { model_type: 'llama', num_hidden_layers: 8, hidden_size: 320, intermediate_size: 352 },
};

describe.each(Object.entries(shapes))('mixtures: %s', (_, changes) => {
  it(`are those of llama.cpp: ${ggufPresets.join(', ')}`, async () => {
    const config = parseConfig({
      hidden_size: 256,
      intermediate_size: 256,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      vocab_size: 8,
      num_experts_per_tok: 2,
      sliding_window: null,
      ...changes,
    });
    const tensors = expectedTensors(config);
    const shape = (name: string) => tensors.get(name)?.shape ?? [];
    const tokenizer = {
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
      model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: ['a b'] },
    };
    const plan = planGguf({
      model: { config, names: () => [...tensors.keys()], shape, role: (name) => tensors.get(name)?.role ?? 'norm' },
      format: () => ({ kind: 'float', name: 'f16' }),
      load: async (name) => tensorF32(shape(name), new Float32Array(shape(name).reduce((a, b) => a * b, 1))),
      tokenizer: { tokenizer },
      name: 'zeros',
    });
    const input = join(folder, 'zeros.gguf');
    await writeGguf({ path: input, metadata: plan.metadata, tensors: plan.tensors });
    const fileType = (preset: GgufPreset) => fileTypes[preset === 'q2_k_m' ? 'q2_k' : preset];
    const said = await runLlamaQuantizer(
      ggufPresets.map((p) => ({ input, output: join(folder, 'none.gguf'), fileType: fileType(p), dryRun: true })),
    );
    const model = {
      layers: config.layers,
      heads: config.heads,
      kvHeads: config.kvHeads,
      experts: config.experts?.count ?? 0,
      tiedEmbeddings: config.tiedEmbeddings,
    };
    for (const [i, preset] of ggufPresets.entries()) {
      const theirs = quantizedTypes(said[i]);
      expect(theirs.size).toBeGreaterThan(50);
      const ours = new Map(
        [...theirs.keys()].map((name) => {
          const cols = plan.tensors.find((t) => t.name === name)?.shape.at(-1) as number;
          return [name, fallbackType(presetType(preset, name, cols, model), cols)];
        }),
      );
      expect(Object.fromEntries(ours), preset).toEqual(Object.fromEntries(theirs));
    }
  });
});

/** Lines such as `[ 2/75] blk.0.attn_k.weight - [256, 128, 1, 1], type = f16, size = 0.1 MiB -> 0.02 MiB (q4_K)`. */
function quantizedTypes(said: string): Map<string, string> {
  const types = new Map<string, string>();
  for (const line of said.split('\n')) {
    const found = /^\[ *\d+\/ *\d+\] +(\S+) .*-> .*\((\w+)\)/.exec(line);
    if (found) types.set(found[1], found[2].toLowerCase());
  }
  return types;
}

it('writes files that we read, with the bytes of our quantizer', async () => {
  const model = await openModel(shipped, 1);
  const [input, output] = [join(folder, 'f32.gguf'), join(folder, 'q4_k_m.gguf')];
  await exportGguf(model, () => ({ kind: 'float', name: 'f32' }), input);
  await runLlamaQuantizer([{ input, output, fileType: fileTypes.q4_k_m }]);
  const checkpoint = await openGguf(output);
  const opened = await openWeights(checkpoint);
  expect(opened.config.family).toBe('qwen3');
  const compared = new Set<string>();
  const source = await openGguf(input);
  const original = await openWeights(source);
  for (const [name, info] of checkpoint.tensors) {
    const type = ggmlOfDtype(info.dtype)?.name;
    if (!type || !/blk\.[06]\./.test(name)) continue;
    const floats = source.tensors.get(name);
    expect(floats?.dtype).toBe('F32');
    const values = new Float32Array((await source.read(name)).slice().buffer);
    const [rows, cols] = info.shape;
    const ours = quantizeGgml(type, values, rows, cols);
    expect(Buffer.compare(ours, await checkpoint.read(name)), `${name} ${type}`).toBe(0);
    compared.add(type);
  }
  expect([...compared].sort()).toEqual(['q4_k', 'q5_0', 'q6_k', 'q8_0']);
  // names, rows and values survive: what comes back is close to what went in
  const name = 'model.layers.0.mlp.down_proj.weight';
  const [before, after] = [denseF32(await original.load(name)), denseF32(await opened.load(name))];
  const worst = before.reduce((most, x, i) => Math.max(most, Math.abs(x - after[i])), 0);
  expect(worst).toBeLessThan(0.03);
  await checkpoint.close();
  await source.close();
  await model.close();
}, 120_000);

/** A GGUF file of one small Mixtral layer with random weights, experts stacked. */
async function writeExperts(path: string): Promise<void> {
  const config = parseConfig({
    model_type: 'mixtral',
    hidden_size: 256,
    intermediate_size: 512,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    num_hidden_layers: 1,
    num_local_experts: 3,
    num_experts_per_tok: 2,
    vocab_size: 8,
    sliding_window: null,
  });
  const tensors = expectedTensors(config);
  const shape = (name: string) => tensors.get(name)?.shape ?? [];
  const random = uniformSource(5, 0);
  let drawn = 0;
  const plan = planGguf({
    model: { config, names: () => [...tensors.keys()], shape, role: (name) => tensors.get(name)?.role ?? 'norm' },
    format: () => ({ kind: 'float', name: 'f32' }),
    load: async (name) => {
      const count = shape(name).reduce((a, b) => a * b, 1);
      return tensorF32(
        shape(name),
        Float32Array.from({ length: count }, () => (random.at(drawn++) - 0.5) ** 3),
      );
    },
    tokenizer: {
      tokenizer: {
        pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
        model: { type: 'BPE', vocab: { a: 0, b: 1 }, merges: ['a b'] },
      },
    },
    name: 'experts',
  });
  await writeGguf({ path, metadata: plan.metadata, tensors: plan.tensors });
}

it('writes the bytes of our quantizer under an importance matrix, experts each under theirs', async () => {
  const input = join(folder, 'experts.gguf');
  await writeExperts(input);
  const source = await openGguf(input);
  const random = uniformSource(6, 0);
  let drawn = 0;
  const entries = new Map<string, ImatrixEntry>();
  for (const [name, { shape }] of source.tensors) {
    if (!name.startsWith('blk.') || shape.length < 2 || name.includes('attn_output')) continue;
    const experts = shape.length === 3 ? shape[0] : 1;
    const sums = Float32Array.from({ length: experts * shape[shape.length - 1] }, () => 1000 * random.at(drawn++) ** 4);
    // The second expert saw no token.
    entries.set(name, { sums, counts: Array.from({ length: experts }, (_, e) => (e === 1 ? 0 : 100 + e)) });
  }
  const file = join(folder, 'imatrix.gguf');
  await writeImatrix(file, { entries, datasets: ['random'], chunkCount: 1, chunkSize: 512 });
  const imatrix = await readImatrix(file);
  const importance = (name: string) => importanceOf(imatrix, name, source.tensors.get(name)?.shape ?? []);
  const given = Object.fromEntries([...entries.keys()].map((name) => [name, [...importance(name)!]]));
  const types = [
    'q2_k',
    'q3_k_m',
    'q4_k_m',
    'q5_k_m',
    'q6_k',
    'q4_0',
    'q4_1',
    'q5_0',
    'q5_1',
    'iq4_nl',
    'iq4_xs',
  ] as const;
  const outputs = types.map((type) => join(folder, `experts-${type}.gguf`));
  await runLlamaQuantizer(
    types.map((type, i) => ({
      input,
      output: outputs[i],
      fileType: fileTypes[type],
      pure: true,
      importance: given,
    })),
  );
  const quantizer = await openQuantizer({ threads: 1 });
  const compared = new Set<string>();
  let weighted = 0;
  for (const output of outputs) {
    const theirs = await openGguf(output);
    for (const [name, info] of theirs.tensors) {
      const type = ggmlOfDtype(info.dtype)?.name;
      if (!type) continue;
      const tensor = tensorF32(info.shape, new Float32Array((await source.read(name)).slice().buffer));
      const options = { seed: 0, stream: 0, name, importance: importance(name) };
      const { data } = await quantizer.quantize(tensor, { kind: 'ggml', type }, options);
      expect(Buffer.compare(data.codes, await theirs.read(name)), `${name} ${type}`).toBe(0);
      compared.add(type);
      if (options.importance) weighted++;
    }
    await theirs.close();
  }
  expect([...compared].sort()).toEqual([
    'iq4_nl',
    'iq4_xs',
    'q2_k',
    'q3_k',
    'q4_0',
    'q4_1',
    'q4_k',
    'q5_0',
    'q5_1',
    'q5_k',
    'q6_k',
  ]);
  expect(weighted).toBeGreaterThanOrEqual(6 * outputs.length);
  quantizer.dispose();
  await source.close();
}, 120_000);
