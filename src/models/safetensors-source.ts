// Unquantized safetensors checkpoints as Hugging Face transformers writes them.
//
// Names and shapes are already the vocabulary of WeightSource, so this only turns stored bytes into tensors: F32
// becomes dense, F16 and BF16 stay packed in their 16 bits. Buffers that old checkpoints carry besides the weights are
// left out. Any other dtype needs a layout that says what the numbers mean.

import { modelError } from '../errors.ts';
import type { FloatFormat } from '../formats/format.ts';
import type { Checkpoint, TensorInfo } from '../io/checkpoint.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../tensor/tensor.ts';
import type { WeightSource } from './weight-source.ts';

const floats: Readonly<Record<string, FloatFormat['name']>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Rotary frequencies that transformers before 4.32 stored beside the weights; they follow from the config. */
const notAWeight = /\.rotary_emb\.inv_freq$/;

/** Opens the source. Throws a model error when there is no config.json or it is not JSON. */
export async function safetensorsSource(checkpoint: Checkpoint): Promise<WeightSource> {
  const config = await readConfigJson(checkpoint);
  const dtype = (config as { dtype?: unknown; torch_dtype?: unknown }).dtype;
  return {
    config: async () => config,
    names: [...checkpoint.tensors.keys()].filter((name) => !notAWeight.test(name)),
    shape: (name) => checkpoint.tensors.get(name)?.shape,
    format(name) {
      const info = checkpoint.tensors.get(name);
      if (!info) throw new Error(`no tensor ${name}`);
      if (!Object.hasOwn(floats, info.dtype)) throw wrongDtype(info, dtype);
      return { kind: 'float', name: floats[info.dtype] };
    },
    file: (name) => checkpoint.tensors.get(name)?.file ?? checkpoint.location,
    async load(name) {
      const info = checkpoint.tensors.get(name);
      if (!info) throw new Error(`no tensor ${name}`);
      if (!Object.hasOwn(floats, info.dtype)) throw wrongDtype(info, dtype);
      return floatTensor(floats[info.dtype], info.shape, await checkpoint.read(name));
    },
  };
}

/** Little-endian float bytes as a tensor: f32 dense, 16-bit floats packed; rows are all but the last dimension. */
export function floatTensor(name: FloatFormat['name'], shape: Shape, bytes: Uint8Array): AnyTensor {
  if (name === 'f32') {
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    return tensorF32(shape, new Float32Array(aligned.buffer, aligned.byteOffset, elementCount(shape)));
  }
  const cols = shape.at(-1) ?? 1;
  const rows = cols === 0 ? 0 : elementCount(shape) / cols;
  return qtensor(shape, {
    format: { kind: 'float', name },
    rows,
    cols,
    codes: bytes,
    scales: new Uint8Array(0),
    zeroPoints: undefined,
    tensorScale: 1,
  });
}

/** The config.json beside the weights. */
export async function readConfigJson(checkpoint: Checkpoint): Promise<Record<string, unknown>> {
  const bytes = await checkpoint.sidecar('config.json');
  if (!bytes)
    throw modelError({
      code: 'config-missing',
      op: 'model',
      problem: 'no config.json beside the weights',
      file: checkpoint.location,
      fix: 'give the folder of a Hugging Face model, or put its config.json beside the file',
    });
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw modelError(
      {
        code: 'config-json',
        op: 'model',
        problem: `config.json is not JSON: ${(cause as Error).message}`,
        file: checkpoint.location,
      },
      { cause },
    );
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw modelError({
      code: 'config-json',
      op: 'model',
      problem: 'config.json is not an object',
      file: checkpoint.location,
    });
  return json as Record<string, unknown>;
}

function wrongDtype(info: TensorInfo, dtype: unknown) {
  return modelError({
    code: 'tensor-dtype',
    op: 'model',
    problem: 'weights are stored as a type that the config does not explain',
    got: info.dtype,
    expected: `F32, F16 or BF16${typeof dtype === 'string' ? ` (config.json says ${dtype})` : ''}, or a quantization_config`,
    tensor: info.name,
    file: info.file,
  });
}
