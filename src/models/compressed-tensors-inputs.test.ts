import { describe, expect, it } from 'vitest';
import { memoryCheckpoint } from '../../test/fixtures/models/memory-checkpoint.ts';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Format } from '../formats/format.ts';
import { quantize } from '../formats/quantize.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import type { SafetensorsTensor } from '../io/safetensors-writer.ts';
import type { Activation } from '../nn/linear.ts';
import { qtensor } from '../tensor/tensor.ts';
import { planCompressedTensors } from './compressed-tensors-export.ts';
import { runtimeLayers } from './runtime-layers.ts';
import { fixedRules, layerActivation, printRuntime } from './runtime-scheme.ts';
import { denseF32 } from './stack.ts';
import { openWeights } from './weights.ts';

/** A model with a scale of its own for every input, exported. */
async function exported(family: string, weight: string, input: string, zeroPoint?: number) {
  const config = Object.entries(tinyConfigs).find(([name]) => name.startsWith(family))?.[1] ?? {};
  const plain = await tinyWeights(tinyModel({ ...config, hidden_size: 64, intermediate_size: 96 }, 3));
  const format = parseFormat(input);
  const activations = new Map(
    runtimeLayers(plain.config).map(({ name }, i): [string, Activation] => [
      name,
      { format, fixed: { scale: Math.fround(0.01 + 0.003 * i), ...(zeroPoint !== undefined && { zeroPoint }) } },
    ]),
  );
  const runtime = { ...plain.config.runtime, activations: fixedRules(activations) };
  const model = {
    ...plain,
    config: { ...plain.config, runtime },
    hfConfig: { ...plain.hfConfig, subbyte: printRuntime(runtime) },
  };
  const formatOf = (name: string): Format =>
    model.role(name) === 'linear' ? parseFormat(weight) : { kind: 'float', name: 'f32' };
  const load = async (name: string) => {
    const tensor = await model.load(name);
    const wanted = formatOf(name);
    if (wanted.kind === 'float') return tensor;
    const [rows, cols] = model.shape(name);
    return qtensor([rows, cols], quantize(denseF32(tensor), rows, cols, wanted));
  };
  return { model, activations, plan: planCompressedTensors({ model, format: formatOf, load }) };
}

/** The same config without our own description: what other programs write. */
function foreign(config: Record<string, unknown>): Record<string, unknown> {
  const { subbyte: _, ...rest } = config;
  return rest;
}

function withScale(tensors: SafetensorsTensor[], name: string, bytes: Uint8Array, dtype = 'F32'): SafetensorsTensor[] {
  return tensors.map((t) =>
    t.name === name ? { ...t, dtype, shape: [1], byteLength: bytes.length, data: async () => bytes } : t,
  );
}
const f32Bytes = (x: number) => new Uint8Array(Float32Array.of(x).buffer);

describe('static inputs in compressed-tensors', () => {
  it.each([
    ['int8-channel', 'int8-tensor', 'int-quantized', 'int', 'int8-tensor-half'],
    ['int8-tensor', 'int8-tensor', 'int-quantized', 'int', 'int8-tensor-half'],
    ['int8-channel', 'int8-tensor-half', 'int-quantized', 'int', 'int8-tensor-half'],
    ['fp8-e4m3-tensor', 'fp8-e4m3-tensor', 'float-quantized', 'float', 'fp8-e4m3-tensor'],
    ['fp8-e4m3-channel', 'fp8-e4m3-tensor', 'float-quantized', 'float', 'fp8-e4m3-tensor'],
  ])('%s weights, %s inputs: described, written, read back', async (weight, input, format, type, read) => {
    const { activations, plan } = await exported('qwen3', weight, input);
    const { config_groups } = plan.config.quantization_config as { config_groups: Record<string, unknown> };
    const args = { num_bits: 8, type, symmetric: true, strategy: 'tensor', dynamic: false };
    expect(Object.values(config_groups)).toEqual([
      expect.objectContaining({ targets: ['Linear'], format, input_activations: args }),
    ]);
    expect(plan.notes).toEqual(input === 'int8-tensor' ? [expect.stringMatching(/clipped at -127/)] : []);
    const scales = plan.tensors.filter((t) => t.name.endsWith('.input_scale'));
    expect(scales).toHaveLength(14);
    expect(scales.every((t) => t.dtype === 'F32' && t.shape.length === 1 && t.shape[0] === 1)).toBe(true);
    // our own description is exact
    const own = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
    // without it the scales are read from the tensors, bit for bit
    const other = await openWeights(await memoryCheckpoint(plan.tensors, foreign(plan.config)));
    for (const [layer, activation] of activations) {
      expect(layerActivation(own.config.runtime, layer)).toEqual(activation);
      const found = layerActivation(other.config.runtime, layer) as Activation;
      expect([formatName(found.format), found.fixed]).toEqual([read, activation.fixed]);
    }
    expect(own.names().some((name) => name.endsWith('input_scale'))).toBe(false);
  });

  it('gives every expert the scale of its product, and reads the largest', async () => {
    const { model, activations, plan } = await exported('mixtral', 'int8-channel', 'int8-tensor');
    const at = 'model.layers.0.block_sparse_moe.experts';
    expect(plan.tensors.filter((t) => t.name.startsWith(at) && t.name.endsWith('.input_scale'))).toHaveLength(
      3 * model.config.experts!.count,
    );
    const tensors = withScale(plan.tensors, `${at}.2.w2.input_scale`, f32Bytes(0.75));
    const read = await openWeights(await memoryCheckpoint(tensors, foreign(plan.config)));
    for (const [layer, { fixed }] of activations)
      expect(layerActivation(read.config.runtime, layer)?.fixed, layer).toEqual(
        layer === `${at}.down` ? { scale: 0.75 } : fixed,
      );
  });

  it.each([
    ['int4-g32', 'int8-tensor', undefined],
    ['int8-channel', 'fp8-e4m3-tensor', undefined],
    ['fp8-e4m3-tile32x32', 'fp8-e4m3-tensor', undefined],
    ['int8-channel', 'int8-tensor-asym', 7],
  ])('%s weights, %s inputs: no words for it, and a note', async (weight, input, zeroPoint) => {
    const { activations, plan } = await exported('qwen3', weight, input, zeroPoint);
    expect(plan.tensors.some((t) => t.name.endsWith('input_scale'))).toBe(false);
    expect(plan.notes).toEqual([
      `only subbyte rounds inputs to ${input} with fixed scales: compressed-tensors has no words for them beside ${weight}`,
    ]);
    const own = await openWeights(await memoryCheckpoint(plan.tensors, plan.config));
    for (const [layer, activation] of activations)
      expect(layerActivation(own.config.runtime, layer)).toEqual(activation);
  });

  it('refuses scales that are none, by name', async () => {
    const { plan } = await exported('qwen3', 'int8-channel', 'int8-tensor');
    const name = 'model.layers.1.mlp.down_proj.input_scale';
    const open = async (tensors: SafetensorsTensor[]) =>
      openWeights(await memoryCheckpoint(tensors, foreign(plan.config)));
    for (const bad of [0, -1, Number.NaN, Infinity, 1e-40, 1e38])
      await expect(open(withScale(plan.tensors, name, f32Bytes(bad)))).rejects.toThrow(
        /scale of a static input is wrong, got .*from 2\^-100 to 2\^100.*layers\.1\.mlp\.down_proj\.input_scale/,
      );
    await expect(open(withScale(plan.tensors, name, new Uint8Array(4), 'I32'))).rejects.toThrow(
      /not one float, got I32 \[1\], expected F32, F16 or BF16 \[1\]/,
    );
    await expect(open(plan.tensors.filter((t) => t.name !== name))).rejects.toThrow(
      /static input is missing.*down_proj/,
    );
    const half = await open(withScale(plan.tensors, name, Uint8Array.of(0, 0x38), 'F16'));
    expect(layerActivation(half.config.runtime, 'model.layers.1.mlp.down_proj')?.fixed).toEqual({ scale: 0.5 });
  });

  it('leaves out other kinds of quantized inputs', async () => {
    const { plan } = await exported('qwen3', 'int8-channel', 'int8-tensor');
    const config = foreign(plan.config) as { quantization_config: { config_groups: Record<string, object> } };
    for (const change of [
      { dynamic: true, strategy: 'token' },
      { symmetric: false },
      { num_bits: 4 },
      { strategy: 7 },
    ]) {
      const group = config.quantization_config.config_groups.group_0 as { input_activations: object };
      const input_activations = { ...group.input_activations, ...change };
      const quantization_config = {
        ...config.quantization_config,
        config_groups: { group_0: { ...group, input_activations } },
      };
      const read = await openWeights(await memoryCheckpoint(plan.tensors, { ...config, quantization_config }));
      expect(read.config.runtime.activations).toEqual([]);
    }
  });
});
