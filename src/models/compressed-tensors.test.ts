import { describe, expect, it } from 'vitest';
import { memoryCheckpoint } from '../../test/fixtures/models/memory-checkpoint.ts';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Format, Quantized, QuantSpec } from '../formats/format.ts';
import { quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import type { TensorInfo } from '../io/checkpoint.ts';
import { qtensor } from '../tensor/tensor.ts';
import { globalScale, partsOf } from './compressed-tensors-codes.ts';
import { planCompressedTensors } from './compressed-tensors-export.ts';
import { schemeOf } from './compressed-tensors-scheme.ts';
import { denseF32 } from './stack.ts';
import { type ModelWeights, openWeights } from './weights.ts';

const spec = (name: string) => parseFormat(name) as QuantSpec;
const part = (q: Quantized, suffix: string) => {
  const format = q.format as QuantSpec;
  const scheme = schemeOf(format, 'none');
  const found = partsOf(scheme?.format ?? 'pack-quantized', format, q.rows, q.cols).find((p) => p.suffix === suffix);
  return { shape: found?.shape, bytes: found?.bytes(q) ?? new Uint8Array(0) };
};
const words = (bytes: Uint8Array) =>
  [...new Uint32Array(bytes.slice().buffer)].map((w) => w.toString(16).padStart(8, '0'));

describe('one layer', () => {
  it('packs the 4-bit example of the container notes: codes 0 … 15 twice, and reversed', () => {
    // codes of value − 8: −8 … 7 in two's complement nibbles
    const up = [0x98, 0xba, 0xdc, 0xfe, 0x10, 0x32, 0x54, 0x76];
    const down = [0x67, 0x45, 0x23, 0x01, 0xef, 0xcd, 0xab, 0x89];
    const q: Quantized = {
      format: spec('int4-channel'),
      rows: 2,
      cols: 32,
      codes: Uint8Array.from([...up, ...up, ...down, ...down]),
      scales: Uint8Array.of(0, 0x3c, 0, 0x38),
      zeroPoints: undefined,
      tensorScale: 1,
    };
    const row0 = ['76543210', 'fedcba98', '76543210', 'fedcba98'];
    const row1 = ['89abcdef', '01234567', '89abcdef', '01234567'];
    expect(words(part(q, 'weight_packed').bytes)).toEqual([...row0, ...row1]);
    expect(part(q, 'weight_packed').shape).toEqual([2, 4]);
    expect(part(q, 'weight_scale').shape).toEqual([2, 1]);
    expect([...new BigInt64Array(part(q, 'weight_shape').bytes.buffer)]).toEqual([2n, 32n]);
  });

  it('packs zero points along rows, eight rows a word', () => {
    const rows = 9;
    const q: Quantized = {
      format: spec('int4-g32-asym'),
      rows,
      cols: 64,
      codes: new Uint8Array(rows * 32),
      scales: new Uint8Array(rows * 4),
      zeroPoints: Uint8Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? i / 2 : 15 - (i - 1) / 2)),
      tensorScale: 1,
    };
    const zero = part(q, 'weight_zero_point');
    expect(zero.shape).toEqual([2, 2]);
    expect(words(zero.bytes)).toEqual(['76543210', '89abcdef', '00000008', '00000007']);
  });

  it('stores NVFP4 with a divisor: 2688 / amax', () => {
    const x = Float32Array.from({ length: 32 }, (_, i) => (i - 16) / 4); // amax 4
    const q = quantize(x, 1, 32, spec('nvfp4'));
    const bytes = part(q, 'weight_global_scale').bytes;
    expect(new Float32Array(bytes.slice().buffer)[0]).toBeCloseTo(2688 / 4, 3);
  });

  it('finds the divisor whose reciprocal is the tensor scale, for every scale that is a reciprocal', () => {
    for (let i = 1; i < 4000; i++) {
      const divisor = Math.fround(2688 / (i * 0.0137));
      const scale = Math.fround(1 / divisor);
      expect(Math.fround(1 / Math.fround(globalScale(scale)))).toBe(scale);
    }
  });
});

async function exported(family: string, formatOf: (name: string) => Format, activations?: 'dynamic') {
  const config = Object.entries(tinyConfigs).find(([name]) => name.startsWith(family))?.[1] ?? {};
  const model = await tinyWeights(tinyModel({ ...config, hidden_size: 64, intermediate_size: 96 }, 3));
  const format = (name: string): Format =>
    model.role(name) === 'linear' ? formatOf(name) : { kind: 'float', name: 'f32' };
  const load = async (name: string) => {
    const wanted = format(name);
    const tensor = await model.load(name);
    if (wanted.kind === 'float') return tensor;
    const [rows, cols] = model.shape(name);
    return qtensor([rows, cols], quantize(denseF32(tensor), rows, cols, wanted));
  };
  return { model, load, plan: planCompressedTensors({ model, format, load, activations }) };
}

async function expectSame(
  model: ModelWeights,
  load: (name: string) => Promise<Parameters<typeof denseF32>[0]>,
  back: ModelWeights,
) {
  for (const name of model.names()) {
    const [got, wanted] = [denseF32(await back.load(name)), denseF32(await load(name))];
    expect(got.length, name).toBe(wanted.length);
    expect(
      got.every((x, i) => x === wanted[i]),
      name,
    ).toBe(true);
  }
}

describe('a model', () => {
  const formats = [
    'int4-g32',
    'int4-g16-asym',
    'int4-channel-bf16s',
    'int8-g32',
    'int8-channel-asym',
    'fp8-e4m3-tensor',
    'fp8-e4m3-channel',
    'fp8-e4m3-tile32x32',
    'nvfp4-ct',
    'mxfp4',
    'mxfp8',
  ];
  it.each(formats)('reads back bit for bit: %s', async (name) => {
    const { model, load, plan } = await exported('qwen3', () => spec(name));
    const back = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
    await expectSame(model, load, back);
    expect(back.hfConfig).not.toHaveProperty('quantization_config');
  });

  it('reads experts and several formats in one model', async () => {
    const { model, load, plan } = await exported('mixtral', (name) =>
      spec(name.includes('.w2.') ? 'int8-channel' : 'mxfp4'),
    );
    const described = plan.config.quantization_config as { format: string; ignore: string[] };
    expect(described.format).toBe('mixed-precision');
    expect(described.ignore).toContain('model.layers.0.block_sparse_moe.gate');
    await expectSame(model, load, await openWeights(await memoryCheckpoint(plan.tensors, plan.config)));
  });

  it('describes NVFP4 in the words of the convention', async () => {
    const { plan } = await exported('qwen3', () => spec('nvfp4'));
    expect(plan.config.quantization_config).toEqual({
      quant_method: 'compressed-tensors',
      format: 'nvfp4-pack-quantized',
      quantization_status: 'compressed',
      config_groups: {
        group_0: {
          targets: ['Linear'],
          weights: {
            num_bits: 4,
            type: 'float',
            symmetric: true,
            strategy: 'tensor_group',
            group_size: 16,
            dynamic: false,
            scale_dtype: 'torch.float8_e4m3fn',
            zp_dtype: 'torch.float8_e4m3fn',
          },
          input_activations: null,
          output_activations: null,
          format: 'nvfp4-pack-quantized',
        },
      },
      ignore: ['lm_head'],
      kv_cache_scheme: null,
      global_compression_ratio: null,
    });
    expect(plan.notes).toHaveLength(1);
  });

  it('stores W8A8 as int-quantized', async () => {
    const { model, load, plan } = await exported('qwen3', () => spec('int8-channel'), 'dynamic');
    expect(plan.tensors.find((t) => t.name.endsWith('layers.0.mlp.up_proj.weight'))?.dtype).toBe('I8');
    await expectSame(model, load, await openWeights(await memoryCheckpoint(plan.tensors, plan.config)));
  });

  it.each(['nf4-g64', 'if4', 'hif4', 'int3-g32', 'mxfp6-e2m3', 'fp8-e5m2-tensor', 'int4-g32-asymf', 'q4_k'])(
    'refuses %s and names what would do',
    async (name) => {
      await expect(exported('qwen3', () => parseFormat(name))).rejects.toThrow(
        /cannot express .*expected int4 or int8/,
      );
    },
  );

  it('refuses a part that does not fit the description', async () => {
    const { plan } = await exported('qwen3', () => spec('int4-g32'));
    const checkpoint = await memoryCheckpoint(plan.tensors, plan.config);
    const name = 'model.layers.0.mlp.up_proj.weight_scale';
    const info = checkpoint.tensors.get(name) as TensorInfo;
    (checkpoint.tensors as Map<string, TensorInfo>).set(name, { ...info, shape: [info.shape[0], 7] });
    await expect(openWeights(checkpoint)).rejects.toThrow(
      /weight_scale does not fit pack-quantized, got F16 \[96, 7\], expected F16 \[96, 2\]/,
    );
  });
});
