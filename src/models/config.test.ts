import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { SubbyteError } from '../errors.ts';
import { parseConfig } from './config.ts';
import { inverseFrequencies, ropeMagnitude } from './rope.ts';
import { expectedTensors, linearWeights } from './tensors.ts';

const shipped = JSON.parse(readFileSync(new URL('../../models/qwen3-6m/config.json', import.meta.url), 'utf8'));
const llama: Record<string, unknown> = { ...tinyConfigs['llama, one kv head, linear rope (transformers 4)'] };

function failure(config: unknown): SubbyteError {
  try {
    parseConfig(config, 'x/config.json');
  } catch (error) {
    if (error instanceof SubbyteError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe('parseConfig', () => {
  it('reads the shipped Qwen3 (transformers 5)', () => {
    const config = parseConfig(shipped);
    expect(config).toMatchObject({
      family: 'qwen3',
      vocabSize: 2048,
      hiddenSize: 256,
      mlpSize: 704,
      layers: 7,
      heads: 4,
      kvHeads: 2,
      headDim: 80,
      epsilon: 1e-6,
      tiedEmbeddings: true,
      qkvBias: false,
      qkNorm: true,
      rope: { base: 1e6, dimensions: 80, scaling: { kind: 'default' } },
      windows: [0, 0, 0, 0, 0, 0, 0],
      experts: undefined,
      stopIds: [1],
      bosId: 0,
    });
    expect(linearWeights(config)).toHaveLength(7 * 7);
  });

  for (const [name, json] of Object.entries(tinyConfigs))
    it(`expects the tensors of: ${name}`, () => {
      const expected = [...expectedTensors(parseConfig(json))].map(([n, t]) => [n, t.shape]).sort();
      const made = [...tinyModel(json, 1).weights].map(([n, t]) => [n, t.shape]).sort();
      expect(expected).toEqual(made);
    });

  it('fills in what the configuration classes default to', () => {
    const mistral = { ...llama, model_type: 'mistral', num_attention_heads: 16, num_key_value_heads: undefined };
    expect(parseConfig(mistral)).toMatchObject({ kvHeads: 8, windows: [4096, 4096], qkvBias: false });
    expect(parseConfig({ ...mistral, sliding_window: null }).windows).toEqual([0, 0]);
    expect(parseConfig({ ...llama, rope_theta: undefined, rope_scaling: undefined }).rope.base).toBe(10_000);
    expect(parseConfig({ ...llama, eos_token_id: [5, 7] }).stopIds).toEqual([5, 7]);
  });

  it('finds the family by class name when model_type is missing', () => {
    const config = { ...llama, model_type: undefined, architectures: ['Qwen2ForCausalLM'] };
    expect(parseConfig(config)).toMatchObject({ family: 'qwen2', qkvBias: true, outputBias: false });
  });

  const wrong: [string, Record<string, unknown>, RegExp][] = [
    [
      'an unknown architecture',
      { ...llama, model_type: 'gpt_neox' },
      /unknown architecture, got gpt_neox.*llama, mistral/,
    ],
    ['an encoder head', { ...llama, architectures: ['LlamaForSequenceClassification'] }, /unknown architecture/],
    ['a type that is an object key', { ...llama, model_type: 'constructor' }, /unknown architecture/],
    ['a contradiction of type and class', { ...llama, architectures: ['Qwen3ForCausalLM'] }, /model_type.*qwen3/],
    ['kv heads that do not divide', { ...llama, num_key_value_heads: 3 }, /num_key_value_heads.*got 3.*divisor/],
    [
      'a hidden size without a head size',
      { ...llama, hidden_size: 66 },
      /hidden_size.*multiple of num_attention_heads/,
    ],
    ['an odd head size', { ...llama, head_dim: 15 }, /head_dim.*got 15/],
    ['a missing size', { ...llama, hidden_size: null }, /hidden_size is missing/],
    ['a size in words', { ...llama, vocab_size: '96' }, /vocab_size.*got 96/],
    ['a hostile number of layers', { ...llama, num_hidden_layers: 1e9 }, /num_hidden_layers/],
    ['another activation', { ...llama, hidden_act: 'gelu' }, /hidden_act.*got gelu.*silu/],
    ['dynamic rope', { ...llama, rope_scaling: { type: 'dynamic', factor: 2 } }, /rope scaling 'dynamic'/],
    ['rope without its factor', { ...llama, rope_scaling: { type: 'linear' } }, /rope_scaling\.factor is missing/],
    [
      'more experts a token than experts',
      { ...tinyConfigs['mixtral, 4 experts, 2 a token'], num_experts_per_tok: 5 },
      /num_experts_per_tok.*got 5/,
    ],
    [
      'layer types of another depth',
      { ...shipped, use_sliding_window: true, sliding_window: 4, layer_types: ['full_attention'] },
      /layer_types.*got 1.*7 entries/,
    ],
    ['stop ids that are no ids', { ...llama, eos_token_id: '</s>' }, /eos_token_id/],
  ];
  for (const [name, config, message] of wrong)
    it(`names ${name}`, () => {
      const error = failure(config);
      expect(error.message).toMatch(message);
      expect(error.message).toContain('x/config.json');
      expect(error.exitCode).toBe(2);
    });

  it('refuses what is not an object', () => {
    for (const json of [null, [], 'llama', 3]) expect(failure(json).exitCode).toBe(2);
  });
});

describe('inverseFrequencies', () => {
  // Llama 3.1 8B: head size 128, base 500000, factor 8, 1 and 4, 8192 positions. Wavelengths under 2048 keep their
  // frequency and those above 8192 are divided by 8; pair 28 has wavelength 2π·500000^(28/64) = 1956, 29: 2400, …
  it('keeps the high and divides the low frequencies of Llama 3.1', () => {
    const scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const config = { ...llama, hidden_size: 512, head_dim: 128, rope_theta: 500_000, rope_scaling: scaling };
    const theta = inverseFrequencies(parseConfig(config).rope);
    const plain = (i: number) => Math.fround(500_000 ** (-i / 64));
    expect(theta[0]).toBe(1);
    expect(theta[28]).toBe(plain(28));
    expect(theta[29]).toBeLessThan(plain(29));
    expect(theta[34]).toBeGreaterThan(plain(34) / 8);
    expect(theta[35]).toBe(plain(35) / 8);
    expect(theta[63]).toBe(plain(63) / 8);
  });

  it('gives yarn its magnitude', () => {
    const rope = parseConfig(tinyConfigs['llama, yarn rope']).rope;
    expect(ropeMagnitude(rope)).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
  });
});
