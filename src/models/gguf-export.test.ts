import { describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Format } from '../formats/format.ts';
import { quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import type { Checkpoint, MetadataValue, TensorInfo } from '../io/checkpoint.ts';
import type { GgufTensor } from '../io/gguf-writer.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../tensor/tensor.ts';
import { type GgufExport, type GgufExportOptions, planGguf } from './gguf-export.ts';
import { ggufStorage } from './gguf-storage.ts';
import { tokenizerEntries } from './gguf-tokenizer.ts';
import { denseF32 } from './stack.ts';
import { openWeights } from './weights.ts';

const tokenizer = {
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false },
  model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] },
};
const configOf = (family: string) => Object.entries(tinyConfigs).find(([name]) => name.startsWith(family))?.[1] ?? {};

async function plan(
  family: string,
  formatOf: (name: string) => Format,
  changes: Partial<GgufExportOptions> = {},
  config = {},
) {
  const model = await tinyWeights(tinyModel({ ...configOf(family), ...config }, 11));
  const load = async (name: string): Promise<AnyTensor> => {
    const { format } = ggufStorage(name, model.role(name), model.shape(name), formatOf(name));
    const tensor = await model.load(name);
    if (format.kind === 'float') return tensor;
    const [rows, cols] = model.shape(name);
    return qtensor([rows, cols], quantize(denseF32(tensor), rows, cols, format));
  };
  return {
    model,
    load,
    plan: planGguf({ model, format: formatOf, load, tokenizer: { tokenizer }, name: 'tiny', ...changes }),
  };
}

async function bytesOf(tensor: GgufTensor): Promise<Uint8Array> {
  const data = tensor.data();
  if (!(Symbol.asyncIterator in data)) return data;
  const parts: Uint8Array[] = [];
  for await (const part of data) parts.push(part);
  return new Uint8Array(Buffer.concat(parts));
}

/** The planned file in memory, with changes to metadata (undefined: removed) and tensors. */
async function inMemory(
  exported: GgufExport,
  metadata: Record<string, MetadataValue | undefined> = {},
  tensors: Record<string, Partial<TensorInfo>> = {},
): Promise<Checkpoint> {
  const data = new Map<string, Uint8Array>();
  const infos = new Map<string, TensorInfo>();
  for (const t of exported.tensors) {
    const bytes = await bytesOf(t);
    expect(bytes.byteLength, t.name).toBe(t.byteLength);
    data.set(t.name, bytes);
    const { name, dtype, shape, byteLength } = t;
    infos.set(name, { name, dtype, shape, byteLength, file: 'x.gguf', byteOffset: 0, ...tensors[name] });
  }
  const entries = new Map(exported.metadata.map((e) => [e.key, e.value]));
  for (const [key, value] of Object.entries(metadata)) {
    if (value === undefined) entries.delete(key);
    else entries.set(key, value);
  }
  const read = async (name: string) => data.get(name)?.slice() ?? new Uint8Array(0);
  return {
    container: 'gguf',
    location: 'x.gguf',
    tensors: infos,
    metadata: entries,
    read,
    readRange: async (name, offset, length) => (await read(name)).slice(offset, offset + length),
    sidecar: async () => undefined,
    close: async () => {},
  };
}

const f32 = (): Format => ({ kind: 'float', name: 'f32' });
const entryOf = (exported: GgufExport, key: string) => exported.metadata.find((e) => e.key === key);

describe('planGguf', () => {
  it('writes the keys that llama.cpp reads, with their types', async () => {
    const { plan: p } = await plan('mixtral', f32, { provenance: { recipe: 'f32' } });
    expect(p.metadata[0]).toEqual({ key: 'general.architecture', type: 'string', value: 'llama' });
    expect(entryOf(p, 'llama.attention.head_count_kv')).toEqual({
      key: 'llama.attention.head_count_kv',
      type: 'u32',
      value: 2,
    });
    expect(entryOf(p, 'llama.expert_count')?.value).toBe(4);
    expect(entryOf(p, 'llama.rope.freq_base')).toEqual({ key: 'llama.rope.freq_base', type: 'f32', value: 1e6 });
    expect(entryOf(p, 'general.quantization_version')).toEqual({
      key: 'general.quantization_version',
      type: 'u32',
      value: 2,
    });
    expect(entryOf(p, 'general.file_type')?.value).toBe(0);
    expect(entryOf(p, 'subbyte.recipe')?.value).toBe('f32');
    const gate = p.tensors.find((t) => t.name === 'blk.0.ffn_gate_exps.weight');
    expect(gate?.shape).toEqual([4, 96, 64]);
  });

  it('keeps norms and routers in F32 and gives NVFP4 experts one scale each', async () => {
    const { plan: p, model, load } = await plan('mixtral', () => parseFormat('nvfp4'), {}, { intermediate_size: 128 });
    const type = (name: string) => p.tensors.find((t) => t.name === name)?.dtype;
    expect(type('blk.0.attn_norm.weight')).toBe('F32');
    expect(type('blk.0.ffn_gate_inp.weight')).toBe('F32');
    expect(type('blk.0.ffn_up_exps.weight')).toBe('ggml:nvfp4');
    expect(type('token_embd.weight')).toBe('F16'); // no second-level scale for embeddings
    const scale = p.tensors.find((t) => t.name === 'blk.0.ffn_up_exps.scale');
    expect(scale?.shape).toEqual([4]);
    const back = await openWeights(await inMemory(p));
    for (const name of model.names().filter((n) => model.role(n) === 'linear')) {
      const [got, wanted] = [denseF32(await back.load(name)), denseF32(await load(name))];
      expect(
        got.every((x, i) => x === wanted[i]),
        name,
      ).toBe(true);
    }
  });

  it('says which rows no block fits', async () => {
    const { plan: p } = await plan('qwen3', () => parseFormat('q4_k'));
    expect(p.notes).toContain('blk.0.attn_q.weight: q5_0 instead, K = 64 is no multiple of 256 (q4_k)');
  });

  it.each(['nf4-g64', 'int4-g16', 'if4', 'fp8-e4m3-channel', 'hif4'])(
    'refuses %s and names what GGUF holds',
    async (name) => {
      await expect(plan('qwen3', () => parseFormat(name))).rejects.toThrow(
        /GGUF has no type.*expected mxfp4, nvfp4, int4/,
      );
    },
  );

  it('refuses networks that llama.cpp computes differently', async () => {
    await expect(plan('qwen2_moe', f32)).rejects.toThrow(/experts in every layer/);
    await expect(plan('qwen3_moe', f32, {}, { decoder_sparse_step: 1, norm_topk_prob: false })).rejects.toThrow(
      /norm_topk_prob/,
    );
  });

  it('refuses rotations that are done while the model runs, but not those of queries and keys', async () => {
    const online = (value: object) =>
      plan('llama', () => ({ kind: 'float', name: 'f32' }), {}, { subbyte: { online: value } });
    await expect(online({ inputs: [{ match: 'down_proj$', size: 96 }] })).rejects.toThrow(
      /inputs that are rotated while the model runs \(down_proj\$\).*rotate offline only.*or write safetensors/,
    );
    const { plan: written } = await online({ queryKey: true });
    expect(written.tensors.length).toBeGreaterThan(0);
  });

  it('notes that sliding windows are not applied', async () => {
    const { plan: p } = await plan('mistral', f32);
    expect(p.notes[0]).toMatch(/beyond 5 tokens/);
  });

  it('refuses values beyond f16', async () => {
    const { model, plan: p } = await plan('qwen3', () => ({ kind: 'float', name: 'f16' }), {
      load: async (name) => {
        const shape = (await tinyWeights(tinyModel(configOf('qwen3'), 11))).shape(name);
        return tensorF32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1e5));
      },
    });
    expect(model.config.family).toBe('qwen3');
    const tensor = p.tensors.find((t) => t.name === 'blk.0.attn_q.weight') as GgufTensor;
    await expect(bytesOf(tensor)).rejects.toThrow(/beyond the range of f16, got 100000/);
  });
});

describe('reading a GGUF file that lies', () => {
  it.each([
    ['a missing key', { 'qwen3.embedding_length': undefined }, /the metadata has no qwen3\.embedding_length/],
    ['another architecture', { 'general.architecture': 'rwkv7' }, /unknown architecture, got rwkv7/],
    ['no architecture', { 'general.architecture': undefined }, /unknown architecture, got no general\.architecture/],
    ['a layer count of 10^9', { 'qwen3.block_count': 1e9 }, /num_hidden_layers is wrong/],
    ['heads by layer', { 'qwen3.attention.head_count': [4, 4] }, /num_attention_heads is wrong/],
  ])('%s', async (_, changes, message) => {
    const { plan: p } = await plan('qwen3', f32);
    await expect(openWeights(await inMemory(p, changes as Record<string, MetadataValue | undefined>))).rejects.toThrow(
      message,
    );
  });

  it('a stack of another number of experts', async () => {
    const { plan: p } = await plan('mixtral', f32);
    await expect(openWeights(await inMemory(p, { 'llama.expert_count': 5 }))).rejects.toThrow(
      /stack of experts has another shape.*got \[4, 96, 64\], expected \[5, N, K\]/,
    );
  });

  it('a type without a decoder', async () => {
    const { plan: p } = await plan('qwen3', f32);
    const file = await inMemory(p, {}, { 'blk.1.ffn_up.weight': { dtype: 'ggml:iq2_xxs' } });
    const weights = await openWeights(file);
    await expect(weights.load('model.layers.1.mlp.up_proj.weight')).rejects.toThrow(
      /no decoder.*iq2_xxs.*blk\.1\.ffn_up\.weight/,
    );
  });

  it('divisors of the rotation that follow no known rule', async () => {
    const { plan: p } = await plan('llama', f32);
    const tensors = p.tensors.map((t) =>
      t.name === 'rope_freqs.weight'
        ? { ...t, data: async () => new Uint8Array(new Float32Array(8).fill(3).buffer) }
        : t,
    );
    await expect(openWeights(await inMemory({ ...p, tensors }))).rejects.toThrow(/rope_freqs\.weight/);
  });
});

describe('tokenizer keys', () => {
  const entry = (json: unknown, key: string, more = {}) =>
    tokenizerEntries({ tokenizer: json, vocabSize: 5, ...more }).find((e) => e.key === key)?.value;

  it('pads the vocabulary and writes merges in one spelling', () => {
    expect(entry(tokenizer, 'tokenizer.ggml.tokens')).toEqual(['a', 'b', 'ab', '[PAD3]', '[PAD4]']);
    expect(entry(tokenizer, 'tokenizer.ggml.token_type')).toEqual(Int32Array.of(1, 1, 1, 5, 5));
    const pairs = { ...tokenizer, model: { ...tokenizer.model, merges: [['a', 'b']] } };
    for (const json of [tokenizer, pairs]) expect(entry(json, 'tokenizer.ggml.merges')).toEqual(['a b']);
  });

  it('takes special ids, flags and the chat template from tokenizer_config.json', () => {
    const json = {
      ...tokenizer,
      added_tokens: [
        { id: 3, content: '<s>', special: true },
        { id: 4, content: '<tool>', special: false },
      ],
      post_processor: {
        type: 'TemplateProcessing',
        single: [{ SpecialToken: { id: '<s>' } }, { Sequence: { id: 'A' } }],
      },
    };
    const tokenizerConfig = { bos_token: { content: '<s>' }, eos_token: null, chat_template: '{{ x }}' };
    expect(entry(json, 'tokenizer.ggml.token_type')).toEqual(Int32Array.of(1, 1, 1, 3, 4));
    expect(entry(json, 'tokenizer.ggml.bos_token_id', { tokenizerConfig })).toBe(3);
    expect(entry(json, 'tokenizer.ggml.eos_token_id', { tokenizerConfig, eosId: 2 })).toBe(2);
    expect(entry(json, 'tokenizer.ggml.add_bos_token', { tokenizerConfig })).toBe(true);
    expect(entry(json, 'tokenizer.ggml.add_eos_token', { tokenizerConfig, eosId: 2 })).toBe(false);
    expect(entry(json, 'tokenizer.chat_template', { tokenizerConfig })).toBe('{{ x }}');
  });

  it.each([
    ['Unigram', { model: { type: 'Unigram', vocab: [] } }, /cannot be written to GGUF, got Unigram/],
    ['a normalizer', { ...tokenizer, normalizer: { type: 'Lowercase' } }, /no such text normalizer.*Lowercase/],
    [
      'an unknown split',
      { ...tokenizer, pre_tokenizer: { type: 'Split', pattern: { Regex: 'x+' }, behavior: 'Isolated' } },
      /not known: x\+/,
    ],
    ['an id outside', { ...tokenizer, added_tokens: [{ id: 9, content: 'z' }] }, /got 9, expected 0 to 4/],
    ['a broken merge', { ...tokenizer, model: { ...tokenizer.model, merges: ['a b c'] } }, /merge 0 is not a pair/],
  ])('refuses %s', (_, json, message) => {
    expect(() => tokenizerEntries({ tokenizer: json, vocabSize: 5 })).toThrow(message);
  });
});
