// A model as a safetensors checkpoint in the compressed-tensors convention: the tensors and the config.json.
//
// Method: every quantized linear layer becomes the tensors of its format (compressed-tensors-codes.ts), everything else
// keeps its name. `quantization_config` has one group for each set of arguments: a single group targets "Linear" and
// `ignore` lists the linear layers that are not quantized; with several, each lists its layers by name and the top-level
// format is "mixed-precision". Sizes follow from shapes and formats, so the header can be written before any tensor is
// read. Tensors of a layer stand together (order 'given') when that keeps every tensor aligned to its element, so a
// layer is quantized once; the order of the reference implementation ('reference') is the way out otherwise.
// Static ranges of inputs that the model's runtime scheme holds are written where the convention has words for them
// (compressed-tensors-inputs.ts). It does not do: quantization (`load` gives each tensor in its format).

import { userError } from '../errors.ts';
import type { Format, Quantized, QuantSpec } from '../formats/format.ts';
import { formatName } from '../formats/registry.ts';
import type { SafetensorsTensor } from '../io/safetensors-writer.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import { partsOf } from './compressed-tensors-codes.ts';
import { inputScaleTensor, staticScheme } from './compressed-tensors-inputs.ts';
import { type ActivationScheme, refuseFormat, type Scheme, schemeOf } from './compressed-tensors-scheme.ts';
import { planTransforms } from './compressed-tensors-transforms.ts';
import { floatBytes } from './gguf-floats.ts';
import { runtimeName } from './runtime-layers.ts';
import { layerActivation } from './runtime-scheme.ts';
import type { ModelWeights } from './weights.ts';

export interface CompressedExportOptions {
  model: Pick<ModelWeights, 'config' | 'hfConfig' | 'names' | 'shape' | 'role'>;
  /** The format of each tensor: a float format, or one that compressed-tensors can express. */
  format(name: string): Format;
  /** A tensor in exactly that format; floats may have any float type. */
  load(name: string): Promise<AnyTensor>;
  /** Written into config.json for runtimes; default none (weights only). */
  activations?: ActivationScheme;
}

export interface CompressedExport {
  tensors: SafetensorsTensor[];
  /** For writeSafetensors. */
  order: 'given' | 'reference';
  /** config.json with its quantization_config. */
  config: Record<string, unknown>;
  notes: string[];
}

/**
 * Plans the checkpoint; throws a user error naming tensor and format for what compressed-tensors cannot express.
 *
 * @example
 * const plan = planCompressedTensors({ model, format: (n) => formats.get(n) ?? bf16, load });
 * await writeSafetensors({ path: 'out/model.safetensors', tensors: plan.tensors, order: plan.order });
 */
export function planCompressedTensors(options: CompressedExportOptions): CompressedExport {
  const { model, activations = 'none' } = options;
  const shapes: SafetensorsTensor[] = [];
  const layers: SafetensorsTensor[] = [];
  const schemes = new Map<string, Scheme>();
  const notes = new Set<string>();
  const load = lastLoaded(options.load);
  for (const name of model.names()) {
    const format = options.format(name);
    const shape = model.shape(name);
    if (format.kind === 'float') {
      const width = format.name === 'f32' ? 4 : 2;
      const byteLength = shape.reduce((n, d) => n * d, width);
      const data = async () => floatBytes(await options.load(name), format.name, name);
      layers.push({ name, dtype: format.name.toUpperCase(), shape, byteLength, data });
      continue;
    }
    const module = name.replace(/\.weight$/, '');
    const input =
      model.role(name) === 'linear'
        ? layerActivation(model.config.runtime, runtimeName(model.config, name))
        : undefined;
    const fixed = input && staticScheme(format, input);
    const scheme = fixed ?? quantizedScheme(name, format, model, activations);
    if (input?.fixed && !fixed) notes.add(unsaidInputs(format, input.format));
    if (input && fixed) {
      layers.push(inputScaleTensor(module, input));
      if (formatName(input.format) === 'int8-tensor') notes.add(restricted);
    }
    schemes.set(module, scheme);
    if (inexact(scheme, format as QuantSpec)) notes.add(reciprocal);
    for (const part of partsOf(scheme.format, format as QuantSpec, shape[0], shape[1])) {
      const { dtype, byteLength } = part;
      const data = async () => part.bytes(await load(name));
      const tensor = { name: `${module}.${part.suffix}`, dtype, shape: part.shape, byteLength, data };
      // constants of the widest type go first: nothing has to be quantized for them
      if (dtype === 'I64') shapes.push({ ...tensor, data: async () => part.bytes(noCodes) });
      else layers.push(tensor);
    }
  }
  const { quantization_config: _, ...rest } = model.hfConfig;
  if (schemes.size === 0) {
    if (model.config.runtime.online.inputs.length > 0) notes.add(unquantizedOnline);
    return { tensors: layers, order: aligned(layers) ? 'given' : 'reference', config: rest, notes: [...notes] };
  }
  const transforms = planTransforms(model.config);
  for (const note of transforms.notes) notes.add(note);
  const tensors = [...shapes, ...layers, ...transforms.tensors];
  const quantization = {
    ...describe(schemes, model),
    ...(transforms.config && { transform_config: transforms.config }),
  };
  return {
    tensors,
    order: aligned(tensors) ? 'given' : 'reference',
    config: { ...rest, quantization_config: quantization },
    notes: [...notes],
  };
}

const unquantizedOnline =
  'only subbyte runs this model: an unquantized checkpoint cannot tell other runtimes of its online rotations';

const unsaidInputs = (weight: Format, input: Format) =>
  `only subbyte rounds inputs to ${formatName(input)} with fixed scales: compressed-tensors has no words for them beside ${formatName(weight)}`;

const restricted = 'int8 inputs are clipped at -127, by other runtimes at -128: int8-tensor-half is exactly theirs';

const reciprocal =
  'compressed-tensors stores the tensor scale of NVFP4 as its reciprocal: re-read values may differ in the last bit of f32 (nvfp4-ct: never)';

const inexact = (scheme: Scheme, format: QuantSpec) =>
  scheme.format === 'nvfp4-pack-quantized' && format.scale.tensorScale && format.scale.rule !== 'compressed-tensors';

const noCodes: Quantized = {
  format: { kind: 'float', name: 'f32' },
  rows: 0,
  cols: 0,
  codes: new Uint8Array(0),
  scales: new Uint8Array(0),
  zeroPoints: undefined,
  tensorScale: 1,
};

function quantizedScheme(
  name: string,
  format: Format,
  model: CompressedExportOptions['model'],
  activations: ActivationScheme,
): Scheme {
  const role = model.role(name);
  if (role !== 'linear' && role !== 'head')
    throw userError({
      code: 'compressed-tensors-layer',
      op: 'write safetensors',
      problem: `compressed-tensors quantizes linear layers, this is ${role === 'embedding' ? 'an' : 'a'} ${role}`,
      tensor: name,
      fix: 'leave it in bf16, or write GGUF',
    });
  return schemeOf(format, activations) ?? refuseFormat(format, activations, name);
}

/** The parts of a layer are written one after the other: its codes are kept until another layer is asked for. */
function lastLoaded(load: (name: string) => Promise<AnyTensor>): (name: string) => Promise<Quantized> {
  let last: { name: string; data: Promise<Quantized> } | undefined;
  return (name) => {
    if (last?.name !== name) last = { name, data: load(name).then((t) => quantizedOf(t, name)) };
    return last.data;
  };
}

function quantizedOf(tensor: AnyTensor, name: string): Quantized {
  if (tensor.kind === 'packed' && tensor.data.format.kind === 'quant') return tensor.data;
  throw new Error(`planCompressedTensors: ${name} was loaded in another format than announced`);
}

const elementBytes: Readonly<Record<string, number>> = { I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2 };

/** Whether every tensor starts at a multiple of its element in this order, shards beginning anywhere. */
function aligned(tensors: readonly SafetensorsTensor[]): boolean {
  const last = tensors.findLastIndex((t) => t.dtype === 'I64');
  const needs = Math.max(1, ...tensors.slice(last + 1).map((t) => elementBytes[t.dtype] ?? 1));
  return tensors.every((t, i) => i <= last || t.byteLength % needs === 0);
}

function describe(
  schemes: ReadonlyMap<string, Scheme>,
  model: CompressedExportOptions['model'],
): Record<string, unknown> {
  const groups = new Map<string, { scheme: Scheme; modules: string[] }>();
  for (const [module, scheme] of schemes) {
    const key = JSON.stringify(scheme);
    const group = groups.get(key) ?? { scheme, modules: [] };
    group.modules.push(module);
    groups.set(key, group);
  }
  const formats = new Set([...groups.values()].map((g) => g.scheme.format));
  const entries = [...groups.values()].map(({ scheme, modules }, i) => [
    `group_${i}`,
    {
      targets: groups.size === 1 ? ['Linear'] : modules,
      weights: scheme.weights,
      input_activations: scheme.input_activations,
      output_activations: null,
      format: scheme.format,
    },
  ]);
  return {
    quant_method: 'compressed-tensors',
    format: formats.size === 1 ? [...formats][0] : 'mixed-precision',
    quantization_status: 'compressed',
    config_groups: Object.fromEntries(entries),
    ignore: ignored(schemes, model),
    kv_cache_scheme: null,
    global_compression_ratio: null,
  };
}

/** Linear layers, head and routers included, that are not quantized. */
function ignored(schemes: ReadonlyMap<string, Scheme>, model: CompressedExportOptions['model']): string[] {
  const linear = model.names().filter((n) => ['linear', 'head', 'router'].includes(model.role(n)));
  const modules = linear.map((n) => n.replace(/\.weight$/, '')).filter((m) => !schemes.has(m));
  // a tied head is a linear layer to runtimes although it has no tensor
  return model.names().includes('lm_head.weight') ? modules : [...modules, 'lm_head'];
}
