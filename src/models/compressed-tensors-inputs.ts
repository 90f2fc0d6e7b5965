// Static ranges of layers' inputs in the words of compressed-tensors: `input_activations` with `dynamic: false` and one
// `input_scale` F32 [1] a layer, as vLLM's W8A8 and FP8 schemes read them.
//
// Expressible are symmetric int8 inputs of int8 weights and E4M3 inputs of E4M3 weights, both with one scale for a whole
// input and for rows or the whole of the weight. The convention lets int8 reach −128 where a range that we chose ends at
// −127: a value that is clipped may differ by one step. What is read is therefore `half` (−128 … 127).
// Experts of a layer are one product here and in vLLM, which takes the largest of their scales; so does the reader.
// Source: compressed-tensors, quant_args.py and its lifecycle of activations; vLLM, compressed_tensors_w8a8_{int8,fp8}.py.
// It does not do: input zero points, NVFP4's `input_global_scale`, dynamic ranges; these are left out when read.

import { modelError } from '../errors.ts';
import { fixedScaleProblem } from '../formats/fixed-scale.ts';
import type { Format, QuantSpec } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import type { SafetensorsTensor } from '../io/safetensors-writer.ts';
import type { Activation } from '../nn/linear.ts';
import { elementCount } from '../tensor/shape.ts';
import { firstFloat, scaleFormatOf } from './compressed-tensors-codes.ts';
import type { CompressedGroup } from './compressed-tensors-groups.ts';
import { type Scheme, schemeOf } from './compressed-tensors-scheme.ts';
import { type ActivationRule, fixedRules } from './runtime-scheme.ts';

/** How a weight with a static input is stored; undefined where the convention has no words for the two together. */
export function staticScheme(weight: Format, { format: input, fixed }: Activation): Scheme | undefined {
  const scheme = fixed && schemeOf(weight, 'static');
  if (!scheme || input.kind !== 'quant' || input.zeroPoint !== 'none') return undefined;
  const element = scheme.format === 'int-quantized' ? 'int8' : 'e4m3';
  return input.element === element && input.rounding === 'nearest-even' ? scheme : undefined;
}

/** The tensor `input_scale` of a layer. */
export function inputScaleTensor(module: string, { fixed }: Activation): SafetensorsTensor {
  const scale = Float32Array.of(fixed?.scale ?? 0);
  return {
    name: `${module}.input_scale`,
    dtype: 'F32',
    shape: [1],
    byteLength: 4,
    data: async () => new Uint8Array(scale.buffer),
  };
}

const inputFormats = {
  'int-quantized': parseFormat('int8-tensor-half') as QuantSpec,
  'float-quantized': parseFormat('fp8-e4m3-tensor') as QuantSpec,
};

/**
 * The rules of static inputs that a checkpoint describes.
 *
 * @param modules quantized layers with their groups
 * @throws model error for a scale that is missing, or no number that can be one
 */
export async function readStaticInputs(
  checkpoint: Checkpoint,
  modules: ReadonlyMap<string, CompressedGroup>,
): Promise<ActivationRule[]> {
  const layers = new Map<string, Activation>();
  for (const [module, group] of modules) {
    const format = isStatic(group) ? inputFormats[group.format as keyof typeof inputFormats] : undefined;
    if (!format) continue;
    const scale = await readScale(checkpoint, `${module}.input_scale`, format);
    const layer = stackName(module);
    const largest = Math.max(scale, layers.get(layer)?.fixed?.scale ?? 0);
    layers.set(layer, { format, fixed: { scale: largest } });
  }
  return fixedRules(layers);
}

/** Whether the inputs of a group have one fixed symmetric 8-bit scale. */
function isStatic({ format, inputs, weights }: CompressedGroup): boolean {
  if (!inputs || !Object.hasOwn(inputFormats, format)) return false;
  const { dynamic, strategy, symmetric, num_bits, type } = inputs;
  return dynamic === false && strategy === 'tensor' && symmetric === true && num_bits === 8 && type === weights.type;
}

async function readScale(checkpoint: Checkpoint, name: string, format: QuantSpec): Promise<number> {
  const info = checkpoint.tensors.get(name);
  const fail = (problem: string, got: unknown, expected: string): never => {
    throw modelError({
      code: 'compressed-tensors-input-scale',
      op: 'read compressed-tensors',
      problem,
      got: String(got),
      expected,
      tensor: name,
      file: info?.file ?? checkpoint.location,
    });
  };
  if (!info) return fail('the scale of a static input is missing', 'no tensor', 'one float');
  if (!scaleFormatOf(info.dtype) || elementCount(info.shape) !== 1)
    fail('the scale of a static input is not one float', `${info.dtype} [${info.shape}]`, 'F32, F16 or BF16 [1]');
  const scale = firstFloat(await checkpoint.read(name), info.dtype);
  const expected = fixedScaleProblem(format, { scale });
  return expected === undefined ? scale : fail('the scale of a static input is wrong', scale, expected);
}

const stackParts: Readonly<Record<string, string>> = {
  ...{ gate_proj: 'gate', up_proj: 'up', down_proj: 'down' },
  ...{ w1: 'gate', w3: 'up', w2: 'down' },
};

/** The name of a layer in graphs (runtime-layers.ts), without the config. */
function stackName(module: string): string {
  const expert = /^(.*\.experts)\.\d+\.(\w+)$/.exec(module);
  return expert ? `${expert[1]}.${stackParts[expert[2]] ?? expert[2]}` : module;
}
