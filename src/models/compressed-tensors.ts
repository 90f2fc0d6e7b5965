// A compressed-tensors checkpoint in the vocabulary of transformers: quantized layers under their plain names.
//
// Problem: a quantized layer is several tensors (weight_packed, weight_scale, …) whose meaning stands in config.json,
// by groups of layers.
// Method: a module with a `weight_scale` is quantized; the first group whose targets name it (its name, `re:` and a
// pattern, or the class Linear) says how. Shapes and dtypes of the parts are compared with what the writer side would
// store for that format before anything is read.
// Static ranges of inputs become rules of the model's runtime scheme, unless the checkpoint has a scheme of ours.
// It does not do: activation orders other than the natural one, sparse and marlin layouts, 2-bit and odd-bit integers;
// of quantized inputs others than static ones (they are left out).

import { modelError } from '../errors.ts';
import type { Quantized, QuantSpec } from '../formats/format.ts';
import { scaleLayout } from '../formats/layout.ts';
import type { Checkpoint, TensorInfo } from '../io/checkpoint.ts';
import { printShape, type Shape, sameShape } from '../tensor/shape.ts';
import { type AnyTensor, qtensor } from '../tensor/tensor.ts';
import { firstFloat, partsOf, scaleFormatOf, unpackWords, unpackZeroPoints } from './compressed-tensors-codes.ts';
import { type CompressedGroup, groupOf, readGroups } from './compressed-tensors-groups.ts';
import { readStaticInputs } from './compressed-tensors-inputs.ts';
import { type CompressedFormat, specOf } from './compressed-tensors-scheme.ts';
import { readTransforms } from './compressed-tensors-transforms.ts';
import { printRuntime } from './runtime-scheme.ts';
import { readConfigJson, safetensorsSource } from './safetensors-source.ts';
import type { WeightSource } from './weight-source.ts';

const op = 'read compressed-tensors';

/** Tensors of a layer besides its codes. */
const partName =
  /\.(weight_packed|weight_scale|weight_shape|weight_zero_point|weight_global_scale|weight_g_idx|input_scale|input_zero_point|input_global_scale|[kv]_scale)$/;

interface Layer {
  format: CompressedFormat;
  spec: QuantSpec;
  rows: number;
  cols: number;
}

/** Whether the checkpoint's config.json says that it is compressed. */
export function isCompressed(config: Record<string, unknown>): boolean {
  const q = config.quantization_config as { quant_method?: unknown } | null | undefined;
  return typeof q === 'object' && q !== null && q.quant_method === 'compressed-tensors';
}

/** Opens the source. The config that it gives has no quantization_config. Throws model errors naming file and tensor. */
export async function compressedTensorsSource(checkpoint: Checkpoint): Promise<WeightSource> {
  const { quantization_config, ...config } = await readConfigJson(checkpoint);
  const groups = readGroups(quantization_config, checkpoint.location);
  const plain = await safetensorsSource(checkpoint);
  const layers = new Map<string, Layer>();
  const modules = new Map<string, CompressedGroup>();
  for (const name of checkpoint.tensors.keys())
    if (name.endsWith('.weight_scale')) {
      const module = name.slice(0, -'.weight_scale'.length);
      const group = groupOf(module, groups, checkpoint.location);
      modules.set(module, group);
      layers.set(`${module}.weight`, await describeLayer(checkpoint, module, group));
    }
  const all = [...plain.names].filter((name) => !partName.test(name) && !layers.has(name));
  const shape = (name: string): Shape | undefined => {
    const layer = layers.get(name);
    return layer ? [layer.rows, layer.cols] : plain.shape(name);
  };
  const widths = new Map(
    [...all, ...layers.keys()]
      .filter((name) => name.endsWith('.weight') && name !== 'model.embed_tokens.weight' && shape(name)?.length === 2)
      .map((name) => [name.replace(/\.weight$/, ''), shape(name)?.at(-1) ?? 0]),
  );
  const { transform_config } = quantization_config as { transform_config?: unknown };
  const transforms = readTransforms(transform_config, widths, checkpoint.location, config.subbyte !== undefined);
  const names = all.filter((name) => !transforms.isPart(name));
  const activations = config.subbyte === undefined ? await readStaticInputs(checkpoint, modules) : [];
  const subbyte = printRuntime({ activations, online: transforms.online });
  return {
    config: async () => (subbyte ? { ...config, subbyte } : config),
    names: [...names, ...layers.keys()],
    shape,
    format: (name) => layers.get(name)?.spec ?? plain.format(name),
    file: (name) => plain.file(layers.has(name) ? `${name}_scale` : name),
    async load(name): Promise<AnyTensor> {
      const layer = layers.get(name);
      return layer ? loadLayer(checkpoint, name.replace(/\.weight$/, ''), layer) : plain.load(name);
    },
  };
}

async function describeLayer(checkpoint: Checkpoint, module: string, group: CompressedGroup): Promise<Layer> {
  const info = (suffix: string) => checkpoint.tensors.get(`${module}.${suffix}`);
  const scale = info('weight_scale') as TensorInfo;
  const fail = (problem: string, more: object = {}): never => {
    throw modelError({ code: 'compressed-tensors', op, problem, tensor: scale.name, file: scale.file, ...more });
  };
  const codes = info('weight_packed') ?? info('weight');
  if (codes?.shape.length !== 2) return fail('a quantized layer has no two-dimensional weight');
  if (info('weight_g_idx')) fail('layers with an activation order (weight_g_idx) are not supported');
  const spec = specOf(group.format, group.weights, scaleFormatOf(scale.dtype) ?? 'f32', scale.file);
  const perByte = { U8: 2, I32: 32 / group.weights.num_bits }[codes.dtype] ?? 1;
  let [rows, cols] = [codes.shape[0], codes.shape[1] * perByte];
  if (group.format === 'pack-quantized') [rows, cols] = await readShape(checkpoint, module, rows, cols);
  for (const part of partsOf(group.format, spec, rows, cols)) {
    const stored = info(part.suffix);
    if (!stored) return fail(`${module}.${part.suffix} is missing`);
    const scalar = part.shape.length === 1 && part.shape[0] === 1 && stored.shape.length === 0;
    if (stored.dtype !== part.dtype || !(scalar || sameShape(stored.shape, part.shape)))
      fail(`${module}.${part.suffix} does not fit ${group.format}`, {
        got: `${stored.dtype} ${printShape(stored.shape)}`,
        expected: `${part.dtype} ${printShape(part.shape)}`,
      });
  }
  return { format: group.format, spec, rows, cols };
}

/** N and K of packed words, which round K up. */
async function readShape(
  checkpoint: Checkpoint,
  module: string,
  rows: number,
  widest: number,
): Promise<[number, number]> {
  const name = `${module}.weight_shape`;
  const info = checkpoint.tensors.get(name);
  if (info?.dtype !== 'I64' || !sameShape(info.shape, [2])) return [rows, widest];
  const bytes = await checkpoint.read(name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stated = [Number(view.getBigInt64(0, true)), Number(view.getBigInt64(8, true))];
  if (stated[0] === rows && stated[1] <= widest && stated[1] > widest - 32) return [rows, stated[1]];
  throw modelError({
    code: 'compressed-tensors-shape',
    op,
    problem: 'weight_shape does not fit the packed weight',
    got: printShape(stated),
    expected: printShape([rows, widest]),
    tensor: name,
    file: info.file,
  });
}

async function loadLayer(checkpoint: Checkpoint, module: string, layer: Layer): Promise<AnyTensor> {
  const { format, spec, rows, cols } = layer;
  const read = (suffix: string) => checkpoint.read(`${module}.${suffix}`);
  const stored = await read(format.includes('pack') ? 'weight_packed' : 'weight');
  const q: Quantized = {
    format: spec,
    rows,
    cols,
    codes: stored,
    scales: await read('weight_scale'),
    zeroPoints: undefined,
    tensorScale: 1,
  };
  if (format === 'pack-quantized') {
    const bits = spec.element === 'int4' ? 4 : 8;
    q.codes = unpackWords(stored, rows, cols, bits, spec.zeroPoint === 'none');
    const { scaleCols } = scaleLayout(spec.granularity, rows, cols);
    if (spec.zeroPoint === 'integer')
      q.zeroPoints = unpackZeroPoints(await read('weight_zero_point'), rows, scaleCols, bits);
  }
  if (format === 'nvfp4-pack-quantized')
    q.tensorScale = tensorScale(firstFloat(await read('weight_global_scale'), 'F32'), module, checkpoint);
  return qtensor([rows, cols], q);
}

function tensorScale(divisor: number, module: string, checkpoint: Checkpoint): number {
  const scale = Math.fround(1 / divisor);
  if (Number.isFinite(scale) && scale > 0) return scale;
  throw modelError({
    code: 'compressed-tensors-global-scale',
    op,
    problem: 'the global scale is no positive number with a finite reciprocal',
    got: divisor,
    tensor: `${module}.weight_global_scale`,
    file: checkpoint.tensors.get(`${module}.weight_global_scale`)?.file,
  });
}
