// The files that we write keep the rules of their containers, checked by code that shares nothing with the writers:
// a plain reading of the bytes, and for GGUF also the reader of @huggingface/gguf.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseFormat } from '../../src/formats/registry.ts';
import { writeSafetensors } from '../../src/io/safetensors-writer.ts';
import { planCompressedTensors } from '../../src/models/compressed-tensors-export.ts';
import { exportGguf, openModel, quantized, shipped, type TestModel } from './export-model.ts';

let folder: string;
let model: TestModel;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-containers-'));
  model = await openModel(shipped, 1);
});
afterAll(async () => {
  await model?.close();
  await rm(folder, { recursive: true, force: true });
});

const bits: Record<string, number> = { U8: 8, F8_E4M3: 8, F16: 16, BF16: 16, F32: 32, I32: 32, I64: 64 };

describe('safetensors', () => {
  it.each(['int4-g32-asym', 'nvfp4'])('%s in the compressed-tensors convention', async (name) => {
    const { weights } = model;
    const format = (tensor: string) =>
      weights.role(tensor) === 'linear' ? parseFormat(name) : ({ kind: 'float', name: 'bf16' } as const);
    const load = async (tensor: string) => quantized(await weights.load(tensor), format(tensor));
    const plan = planCompressedTensors({ model: weights, format, load });
    const path = join(folder, 'model.safetensors');
    await writeSafetensors({ path, tensors: plan.tensors, order: plan.order, metadata: { format: 'pt' } });

    const file = await readFile(path);
    const headerBytes = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    expect(file[8]).toBe(0x7b);
    expect((8 + headerBytes) % 8).toBe(0);
    const { __metadata__, ...tensors } = header;
    expect(__metadata__).toEqual({ format: 'pt' });
    const sorted = Object.values(tensors).sort((a, b) => a.data_offsets[0] - b.data_offsets[0]);
    let end = 0;
    for (const { dtype, shape, data_offsets } of sorted) {
      expect(data_offsets[0]).toBe(end);
      expect(data_offsets[0] % (bits[dtype] / 8)).toBe(0);
      end = data_offsets[1];
      expect((end - data_offsets[0]) * 8).toBe(shape.reduce((n, d) => n * d, bits[dtype]));
    }
    expect(8 + headerBytes + end).toBe(file.byteLength);
    const layer = Object.keys(tensors).filter((t) => t.startsWith('model.layers.0.self_attn.q_proj.'));
    expect(layer.map((t) => t.split('.').at(-1)).sort()).toEqual(
      name === 'nvfp4'
        ? ['weight_global_scale', 'weight_packed', 'weight_scale']
        : ['weight_packed', 'weight_scale', 'weight_shape', 'weight_zero_point'],
    );
  });
});

describe('GGUF', () => {
  it('has contiguous aligned tensors, and another reader sees the same', async () => {
    const path = join(folder, 'model.gguf');
    const plan = await exportGguf(model, () => parseFormat('nvfp4'), path);
    const { metadata, tensorInfos, tensorDataOffset } = await gguf(path, { allowLocalFile: true });
    expect(metadata.version).toBe(3);
    expect(metadata['general.architecture']).toBe('qwen3');
    const keys = metadata as unknown as Record<string, unknown>;
    expect(keys['qwen3.attention.key_length']).toBe(80);
    expect(keys['tokenizer.ggml.tokens']).toHaveLength(2048);
    expect(tensorInfos.map((t) => t.name)).toEqual(plan.tensors.map((t) => t.name));
    let end = 0;
    for (const [i, info] of tensorInfos.entries()) {
      const planned = plan.tensors[i];
      expect(info.shape.map(Number)).toEqual([...planned.shape].reverse());
      expect(Number(info.offset)).toBe(end);
      end += Math.ceil(planned.byteLength / 32) * 32;
    }
    expect(Number(tensorDataOffset) % 32).toBe(0);
    expect((await readFile(path)).byteLength).toBe(Number(tensorDataOffset) + end);
    const types = new Set(tensorInfos.map((t) => Number(t.dtype)));
    expect([...types].sort((a, b) => a - b)).toEqual([0, 30, 40]); // F32, BF16, NVFP4
  });
});
