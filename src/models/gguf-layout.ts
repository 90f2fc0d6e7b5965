// A GGUF checkpoint in the vocabulary of transformers.
//
// Problem: GGUF has other names, stacks experts, reorders the rows of query and key projections (llama architecture)
// and keeps NVFP4's tensor scale in a tensor of its own.
// Method: list the file's tensors under their transformers names; on load read the bytes (of one expert: its part of the
// stack), move the rows back, and give them as packed tensors. MXFP4 and NVFP4 blocks become this project's packing of
// the same numbers, which its integer kernels take; all other block types keep ggml's bytes.
// It does not do: fused or split tensors of other converters; they show up under their GGUF names as tensors that the
// config does not explain.

import { modelError } from '../errors.ts';
import type { FloatFormat, Format, QuantSpec } from '../formats/format.ts';
import { parseFormat } from '../formats/registry.ts';
import type { Checkpoint, TensorInfo } from '../io/checkpoint.ts';
import { ggmlOfDtype } from '../io/ggml-storage.ts';
import { elementCount, printShape, type Shape } from '../tensor/shape.ts';
import { type AnyTensor, qtensor } from '../tensor/tensor.ts';
import { fromFp4Blocks } from './gguf-blocks.ts';
import { ggufConfig, ggufFamily } from './gguf-config.ts';
import { hfName } from './gguf-names.ts';
import { ggufRowOrder, inverseOrder, takeRows } from './gguf-rows.ts';
import { floatTensor } from './safetensors-source.ts';
import type { WeightSource } from './weight-source.ts';

interface Entry {
  info: TensorInfo;
  /** Number in the stack, 0 for tensors of their own. */
  expert: number;
  stack: number;
  shape: Shape;
  /** Heads whose rows are interleaved, 0 for none. */
  heads: number;
}

const floats: Readonly<Record<string, FloatFormat['name']>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Opens the source. Throws a model error for architectures and metadata that cannot be understood. */
export async function ggufSource(checkpoint: Checkpoint): Promise<WeightSource> {
  const config = ggufConfig(checkpoint, await readVector(checkpoint, 'rope_freqs.weight'));
  const entries = listTensors(checkpoint, config);
  const known = (name: string): Entry => {
    const entry = entries.get(name);
    if (!entry) throw new Error(`no tensor ${name}`);
    return entry;
  };
  return {
    config: async () => config,
    names: [...entries.keys()],
    shape: (name) => entries.get(name)?.shape,
    format: (name) => formatOf(checkpoint, known(name).info),
    file: (name) => entries.get(name)?.info.file ?? checkpoint.location,
    async load(name) {
      return loadEntry(checkpoint, known(name));
    },
  };
}

/** What a stored tensor becomes. Throws a model error for types without a decoder. */
function formatOf(checkpoint: Checkpoint, info: TensorInfo): Format {
  if (Object.hasOwn(floats, info.dtype)) return { kind: 'float', name: floats[info.dtype] };
  const type = ggmlOfDtype(info.dtype)?.name;
  if (type === 'ggml-mxfp4' || type === 'ggml-nvfp4') {
    const format = parseFormat(type.replace('ggml-', '')) as QuantSpec;
    const scaled = format.scale.tensorScale || checkpoint.tensors.has(scaleName(info));
    return { ...format, scale: { ...format.scale, tensorScale: scaled } };
  }
  if (type) return { kind: 'ggml', type };
  throw modelError({
    code: 'gguf-type',
    op: 'read GGUF',
    problem: 'no decoder for this tensor type',
    got: info.dtype.replace('ggml:', ''),
    tensor: info.name,
    file: info.file,
    fix: 'take a file in another quantization (Q4_K_M, Q8_0, …)',
  });
}

const scaleName = (info: TensorInfo) => info.name.replace(/weight$/, 'scale');

function listTensors(checkpoint: Checkpoint, config: Record<string, unknown>): Map<string, Entry> {
  const family = ggufFamily(checkpoint);
  const interleaved = checkpoint.metadata.get('general.architecture') === 'llama';
  const experts = Number(config.num_local_experts ?? config.num_experts ?? 0);
  const entries = new Map<string, Entry>();
  for (const info of checkpoint.tensors.values()) {
    const { name, shape } = info;
    if (name === 'rope_freqs.weight' || /\.(input_)?scale$/.test(name)) continue;
    const hf = hfName(name, family) ?? name;
    if (!hf.includes('#')) {
      const heads = { attn_q: 'num_attention_heads', attn_k: 'num_key_value_heads' }[name.split('.')[2] ?? ''];
      // one row there, [1, C] in transformers
      const own = name.includes('ffn_gate_inp_shexp') && shape.length === 1 ? [1, ...shape] : shape;
      const count = interleaved && heads ? Number(config[heads]) : 0;
      entries.set(hf, { info, expert: 0, stack: 1, shape: own, heads: count });
      continue;
    }
    if (shape.length !== 3 || shape[0] !== experts)
      throw modelError({
        code: 'gguf-experts',
        op: 'read GGUF',
        problem: 'the stack of experts has another shape than the metadata says',
        got: printShape(shape),
        expected: `[${experts}, N, K]`,
        tensor: name,
        file: info.file,
      });
    for (let expert = 0; expert < experts; expert++)
      entries.set(hf.replace('#', String(expert)), { info, expert, stack: experts, shape: shape.slice(1), heads: 0 });
  }
  return entries;
}

async function loadEntry(checkpoint: Checkpoint, entry: Entry): Promise<AnyTensor> {
  const { info, expert, stack, shape, heads } = entry;
  const length = info.byteLength / stack;
  let bytes =
    stack === 1 ? await checkpoint.read(info.name) : await checkpoint.readRange(info.name, expert * length, length);
  if (heads > 0) bytes = takeRows(bytes, inverseOrder(rowOrder(entry)));
  const format = formatOf(checkpoint, info);
  if (format.kind === 'float') return floatTensor(format.name, shape, bytes);
  const cols = shape[shape.length - 1];
  const fp4 = format.kind === 'quant' ? readFp4(bytes, info) : undefined;
  const tensorScale = (await readScale(checkpoint, entry)) ?? 1;
  if (!fp4 && tensorScale !== 1)
    throw modelError({
      code: 'gguf-scale',
      op: 'read GGUF',
      problem: `a second-level scale beside ${info.dtype.replace('ggml:', '')} is not supported`,
      tensor: info.name,
      file: info.file,
    });
  return qtensor(shape, {
    format,
    rows: elementCount(shape) / cols,
    cols,
    codes: fp4?.codes ?? bytes,
    scales: fp4?.scales ?? new Uint8Array(0),
    zeroPoints: undefined,
    tensorScale,
  });
}

function readFp4(bytes: Uint8Array, info: TensorInfo): { codes: Uint8Array; scales: Uint8Array } {
  const read = fromFp4Blocks(info.dtype === 'ggml:mxfp4' ? 'ggml-mxfp4' : 'ggml-nvfp4', bytes);
  if (read) return read;
  throw modelError({
    code: 'gguf-block-scale',
    op: 'read GGUF',
    problem: 'a block scale is no number',
    tensor: info.name,
    file: info.file,
    fix: 'the file is damaged or its model diverged; fetch it again',
  });
}

function rowOrder(entry: Entry): Uint32Array {
  const { info, shape, heads } = entry;
  if (Number.isInteger(heads) && shape[0] % (2 * heads) === 0) return ggufRowOrder(shape[0], heads);
  throw modelError({
    code: 'gguf-heads',
    op: 'read GGUF',
    problem: 'the rows do not divide into heads',
    got: shape[0],
    expected: `a multiple of 2 × ${heads}`,
    tensor: info.name,
    file: info.file,
  });
}

/** The value of `<name>.scale` for this tensor or expert. */
async function readScale(checkpoint: Checkpoint, entry: Entry): Promise<number | undefined> {
  const values = await readVector(checkpoint, scaleName(entry.info));
  if (values && values.length !== entry.stack)
    throw modelError({
      code: 'gguf-scale',
      op: 'read GGUF',
      problem: 'the second-level scales have the wrong number of values',
      got: values.length,
      expected: entry.stack,
      tensor: entry.info.name,
      file: entry.info.file,
    });
  return values?.[entry.expert];
}

/** A small F32 tensor, undefined when the file does not have it. */
async function readVector(checkpoint: Checkpoint, name: string): Promise<Float32Array | undefined> {
  const info = checkpoint.tensors.get(name);
  if (info?.dtype !== 'F32' || info.byteLength > 2 ** 20) return undefined;
  const bytes = (await checkpoint.read(name)).slice();
  return new Float32Array(bytes.buffer);
}
