import { describe, expect, it } from 'vitest';
import { memorySource } from '../../test/fixtures/models/memory-source.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { SubbyteError } from '../errors.ts';
import type { Checkpoint, TensorInfo } from '../io/checkpoint.ts';
import { openSafetensors } from '../io/safetensors.ts';
import { qtensor, tensorF32 } from '../tensor/tensor.ts';
import { checkWeights, mapWeights, openWeights } from './weights.ts';

const tied = tinyConfigs['mistral, sliding window, tied'];
const q = 'model.layers.1.self_attn.q_proj.weight';

async function failure(work: Promise<unknown>): Promise<SubbyteError> {
  const error = await work.then(
    () => undefined,
    (e) => e,
  );
  if (!(error instanceof SubbyteError)) throw error ?? new Error('was accepted');
  return error;
}

function without(model: TinyModel, name: string): TinyModel {
  const weights = new Map(model.weights);
  weights.delete(name);
  return { ...model, weights };
}

describe('checkWeights', () => {
  it('takes a complete model, a tied head and all', async () => {
    const model = tinyModel(tied, 1);
    model.weights.set('lm_head.weight', model.weights.get('model.embed_tokens.weight')!);
    const weights = await checkWeights(memorySource(model), 'm');
    expect(weights.names()).not.toContain('lm_head.weight');
    expect(weights.names()[0]).toBe('model.embed_tokens.weight');
    expect(weights.shape(q)).toEqual([64, 64]);
    expect(weights.role(q)).toBe('linear');
  });

  it('names a missing tensor', async () => {
    const error = await failure(checkWeights(memorySource(without(tinyModel(tied, 1), q)), 'm'));
    expect(error.message).toMatch(
      /calls for a tensor of shape \[64, 64\].*model\.layers\.1\.self_attn\.q_proj\.weight/,
    );
    expect(error.exitCode).toBe(2);
  });

  it('names a tensor that the config does not explain', async () => {
    const model = tinyModel(tied, 1);
    model.weights.set('model.layers.1.self_attn.q_proj.bias', { shape: [64], data: new Float64Array(64) });
    const error = await failure(checkWeights(memorySource(model), 'm'));
    expect(error.message).toMatch(/1 tensor that the config does not explain.*q_proj\.bias.*memory\.safetensors/);
  });

  it('names a shape that does not match', async () => {
    const source = memorySource(tinyModel(tied, 1), { [q]: tensorF32([32, 64], new Float32Array(2048)) });
    const error = await failure(checkWeights(source, 'm'));
    expect(error.message).toMatch(/got \[32, 64\], expected \[64, 64\].*q_proj\.weight, file memory/);
  });

  const bits = (value: number) => {
    const codes = new Uint16Array(64 * 64);
    codes[77] = value;
    return new Uint8Array(codes.buffer);
  };
  const float16 = (name: 'f16' | 'bf16', codes: Uint8Array) =>
    qtensor([64, 64], {
      format: { kind: 'float', name },
      rows: 64,
      cols: 64,
      codes,
      scales: new Uint8Array(0),
      zeroPoints: undefined,
      tensorScale: 1,
    });
  const nan = new Float32Array(64 * 64);
  nan[77] = Number.NaN;
  const broken = {
    'NaN in f32': tensorF32([64, 64], nan),
    'infinity in bf16': float16('bf16', bits(0xff80)),
    'NaN in f16': float16('f16', bits(0x7e00)),
  };
  for (const [what, tensor] of Object.entries(broken))
    it(`finds ${what}`, async () => {
      const weights = await checkWeights(memorySource(tinyModel(tied, 1), { [q]: tensor }), 'm');
      const error = await failure(weights.load(q));
      expect(error.message).toMatch(/NaN or infinity at element 77.*q_proj\.weight, file memory/);
    });

  it('takes the largest finite 16-bit floats', async () => {
    for (const tensor of [float16('bf16', bits(0x7f7f)), float16('f16', bits(0xfbff))]) {
      const weights = await checkWeights(memorySource(tinyModel(tied, 1), { [q]: tensor }), 'm');
      expect(await weights.load(q)).toBe(tensor);
    }
  });
});

describe('openWeights', () => {
  it('opens the shipped model and keeps bf16 in its bits', async () => {
    const checkpoint = await openSafetensors('models/qwen3-6m');
    const weights = await openWeights(checkpoint);
    const tensor = await weights.load('model.layers.3.self_attn.k_norm.weight');
    expect(tensor).toMatchObject({ kind: 'packed', shape: [80], data: { format: { kind: 'float', name: 'bf16' } } });
    expect(weights.names()).toHaveLength(1 + 7 * 11 + 1);
    await checkpoint.close();
  });

  it('names a dtype that the config does not explain', async () => {
    const error = await failure(openWeights(fake('I32')).then((w) => w.load(q)));
    expect(error.message).toMatch(/got I32, expected F32, F16 or BF16 \(config\.json says bfloat16\).*q_proj\.weight/);
  });

  it('wants a config.json', async () => {
    const error = await failure(openWeights({ ...fake('F32'), sidecar: async () => undefined }));
    expect(error.message).toMatch(/no config\.json beside the weights/);
    const notJson = { ...fake('F32'), sidecar: async () => new TextEncoder().encode('{"a":') };
    expect((await failure(openWeights(notJson))).message).toMatch(/config\.json is not JSON/);
  });
});

describe('mapWeights', () => {
  it('replaces tensors one at a time as they are loaded', async () => {
    const weights = await checkWeights(memorySource(tinyModel(tied, 1)), 'm');
    const zero = tensorF32([64, 64], new Float32Array(64 * 64));
    const mapped = mapWeights(weights, (name, tensor) => (name === q ? zero : tensor));
    expect(await mapped.load(q)).toBe(zero);
    expect(mapped.shape(q)).toEqual([64, 64]);
  });
});

/** A checkpoint whose tensors are all of one stored type. */
function fake(dtype: string): Checkpoint {
  const model = tinyModel(tied, 1);
  const tensors = [...model.weights].map(([name, { shape }]): [string, TensorInfo] => [
    name,
    { name, dtype, shape, file: 'a.safetensors', byteOffset: 0, byteLength: 0 },
  ]);
  return {
    container: 'safetensors',
    location: 'm',
    tensors: new Map(tensors),
    metadata: new Map(),
    read: async () => new Uint8Array(0),
    readRange: async () => new Uint8Array(0),
    sidecar: async () => new TextEncoder().encode(JSON.stringify({ ...tied, dtype: 'bfloat16' })),
    close: async () => {},
  };
}
