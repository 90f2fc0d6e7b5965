// A model as the metadata and tensors of a GGUF file.
//
// Problem: llama.cpp loads a checkpoint when names, row orders, types, keys and tokenizer are as its converter makes
// them.
// Method: go through the model's tensors in the order of the forward pass; name each (gguf-names.ts), stack experts, put
// the rows of query and key projections into llama order, and re-arrange codes into blocks (gguf-blocks.ts). Sizes
// follow from shapes and types, so the header can be written before any tensor is read; tensors are produced one at a
// time, experts one by one. Nothing is rounded here except floats that are stored in a narrower float type.
// It does not do: quantization; `load` gives each tensor in the format that `ggufStorage` named.

import { modelError, userError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { ggmlRowBytes, ggmlType } from '../formats/ggml/types.ts';
import type { GgufEntry } from '../io/gguf-types.ts';
import type { GgufTensor } from '../io/gguf-writer.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import type { DecoderConfig } from './config.ts';
import { exactBlockType, toBlocks } from './gguf-blocks.ts';
import { floatBytes } from './gguf-floats.ts';
import { architectureKeys } from './gguf-metadata.ts';
import { ggufArchitecture, ggufName } from './gguf-names.ts';
import { fileTypes, type GgufPreset, type GgufTypeName } from './gguf-presets.ts';
import { ggufRowOrder, takeRows } from './gguf-rows.ts';
import { ggufStorage } from './gguf-storage.ts';
import { type TokenizerFiles, tokenizerEntries } from './gguf-tokenizer.ts';
import type { TensorRole } from './tensors.ts';

/** What is needed of a model; ModelWeights has it. */
export interface GgufModel {
  readonly config: DecoderConfig;
  names(): string[];
  shape(name: string): Shape;
  role(name: string): TensorRole;
}

export interface GgufExportOptions {
  model: GgufModel;
  /** The wanted format of each tensor; what it becomes in the file is `ggufStorage(…).format`. */
  format(name: string): Format;
  /** A tensor in the format that `ggufStorage` gives for it (floats may have any float type). */
  load(name: string): Promise<AnyTensor>;
  tokenizer: Omit<TokenizerFiles, 'vocabSize' | 'bosId' | 'eosId'>;
  /** The tokenizer's entries of another GGUF file, instead of `tokenizer`. */
  tokenizerEntries?: readonly GgufEntry[];
  /** general.name */
  name: string;
  /** Decides general.file_type; without it the type of most weights does. */
  preset?: GgufPreset;
  /** Written as `subbyte.<key>`: tool version, source digest, recipe. */
  provenance?: Readonly<Record<string, string>>;
}

export interface GgufExport {
  metadata: GgufEntry[];
  tensors: GgufTensor[];
  /** Sentences for the user: fallbacks and what llama.cpp will compute differently. */
  notes: string[];
}

/**
 * Plans the file; throws user and model errors for everything that cannot be written, before anything is read.
 *
 * @example
 * const plan = planGguf({ model, format: () => bf16, load: model.load, tokenizer: { tokenizer }, name: 'qwen3-6m' });
 * await writeGguf({ path: 'qwen3-6m.gguf', ...plan });
 */
export function planGguf(options: GgufExportOptions): GgufExport {
  const { model } = options;
  const { config } = model;
  refuseOnline(config);
  const keys = architectureKeys(config);
  const notes = [...keys.notes];
  const weightsOf = new Map<GgufTypeName, number>();
  const tensors: GgufTensor[] = [];
  for (const [name, sources] of groupExperts(model)) {
    const shape = ggufShape(name, sources, model);
    const storage = ggufStorage(sources[0], model.role(sources[0]), shape, options.format(sources[0]));
    if (storage.fallback) notes.push(`${name}: ${storage.type} instead, ${storage.fallback}`);
    weightsOf.set(storage.type, (weightsOf.get(storage.type) ?? 0) + elementCount(shape));
    tensors.push(...planTensor({ name, shape, sources, type: storage.type, format: storage.format }, options));
  }
  if (keys.ropeFactors) tensors.push(ropeTensor(keys.ropeFactors));
  const most = [...weightsOf].sort((a, b) => b[1] - a[1])[0][0];
  const fileType = fileTypes[options.preset === 'q2_k_m' ? 'q2_k' : (options.preset ?? most)];
  return { metadata: metadataOf(options, keys.entries, fileType), tensors, notes };
}

/** llama.cpp's graphs rotate nothing; without the rotation of queries and keys they compute the same. */
function refuseOnline({ runtime }: DecoderConfig): void {
  const [first] = runtime.online.inputs;
  if (!first) return;
  throw userError({
    code: 'gguf-online',
    op: 'write GGUF',
    problem: `the weights were made for inputs that are rotated while the model runs (${first.match}), which llama.cpp does not do`,
    fix: 'rotate offline only (residual and value), or write safetensors',
  });
}

function metadataOf(options: GgufExportOptions, architecture: GgufEntry[], fileType: number): GgufEntry[] {
  const { config } = options.model;
  const text = (key: string, value: string): GgufEntry => ({ key, type: 'string', value });
  return [
    text('general.architecture', ggufArchitecture[config.family]),
    text('general.type', 'model'),
    text('general.name', options.name),
    ...architecture,
    { key: 'general.file_type', type: 'u32', value: fileType },
    { key: 'general.quantization_version', type: 'u32', value: 2 },
    text('subbyte.model_type', config.family),
    ...Object.entries(options.provenance ?? {}).map(([key, value]) => text(`subbyte.${key}`, value)),
    ...(options.tokenizerEntries ??
      tokenizerEntries({
        ...options.tokenizer,
        vocabSize: config.vocabSize,
        bosId: config.bosId,
        eosId: config.stopIds[0],
      })),
  ];
}

/** GGUF names in the order of the model, each with its tensors: one, or the experts 0 … E−1. */
function groupExperts(model: GgufModel): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const name of model.names()) {
    const place = ggufName(name);
    if (!place)
      throw modelError({
        code: 'gguf-name',
        op: 'write GGUF',
        problem: 'GGUF has no name for this tensor',
        tensor: name,
        fix: 'write safetensors instead',
      });
    const group = groups.get(place.name) ?? [];
    group[place.expert ?? 0] = name;
    groups.set(place.name, group);
  }
  return groups;
}

function ggufShape(name: string, sources: readonly string[], model: GgufModel): Shape {
  const shape = model.shape(sources[0]);
  if (name.includes('_exps.')) return [sources.length, ...shape];
  return name.includes('ffn_gate_inp_shexp') ? shape.slice(-1) : shape; // [1, C] there, a vector here
}

interface Planned {
  name: string;
  shape: Shape;
  sources: readonly string[];
  type: GgufTypeName;
  format: Format;
}

function planTensor(plan: Planned, options: GgufExportOptions): GgufTensor[] {
  const { name, shape, sources, type, format } = plan;
  const { config } = options.model;
  const heads = name.includes('.attn_q.') ? config.heads : name.includes('.attn_k.') ? config.kvHeads : 0;
  const permuted = ggufArchitecture[config.family] === 'llama' && heads > 0;
  const order = permuted ? ggufRowOrder(shape[0], heads) : undefined;
  const scales = new Map<string, number>();
  const bytesOf = async (source: string) => {
    const tensor = await options.load(source);
    if (tensor.kind === 'packed') scales.set(source, tensor.data.tensorScale);
    const bytes = tensorBytes(tensor, type, source);
    return order ? takeRows(bytes, order) : bytes;
  };
  const weight: GgufTensor = {
    name,
    dtype: dtypeOf(type),
    shape,
    byteLength: byteLength(type, shape),
    data: async function* () {
      for (const source of sources) yield await bytesOf(source);
    },
  };
  if (format.kind !== 'quant' || !format.scale.tensorScale) return [weight];
  const scale: GgufTensor = {
    name: name.replace(/weight$/, 'scale'),
    dtype: 'F32',
    shape: [sources.length],
    byteLength: 4 * sources.length,
    data: async () => {
      // a resumed run did not load the weight
      for (const source of sources) if (!scales.has(source)) await bytesOf(source);
      return new Uint8Array(Float32Array.from(sources, (s) => scales.get(s) as number).buffer);
    },
  };
  return [weight, scale];
}

function tensorBytes(tensor: AnyTensor, type: GgufTypeName, name: string): Uint8Array {
  if (type === 'f32' || type === 'f16' || type === 'bf16') return floatBytes(tensor, type, name);
  const format = tensor.kind === 'packed' ? tensor.data.format : undefined;
  if (tensor.kind === 'packed' && format?.kind === 'ggml' && format.type === type) return tensor.data.codes;
  if (tensor.kind === 'packed' && format?.kind === 'quant' && exactBlockType(format) === type)
    return toBlocks(tensor.data, format, type, name);
  throw new Error(`planGguf: ${name} was loaded in another format than ${type}`);
}

const dtypeOf = (type: GgufTypeName) =>
  type === 'f32' || type === 'f16' || type === 'bf16'
    ? type.toUpperCase()
    : `ggml:${ggmlType(type).label.toLowerCase()}`;

function byteLength(type: GgufTypeName, shape: Shape): number {
  const cols = shape[shape.length - 1];
  if (type === 'f32') return 4 * elementCount(shape);
  if (type === 'f16' || type === 'bf16') return 2 * elementCount(shape);
  return (elementCount(shape) / cols) * ggmlRowBytes(type, cols);
}

const ropeTensor = (factors: Float32Array): GgufTensor => ({
  name: 'rope_freqs.weight',
  dtype: 'F32',
  shape: [factors.length],
  byteLength: factors.byteLength,
  data: async () => new Uint8Array(factors.buffer),
});
