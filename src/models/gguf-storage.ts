// Which format a tensor gets in a GGUF file.
//
// Rules, in this order: one-dimensional tensors, norms and routers are f32 (llama.cpp expects it); a ggml block type whose
// block does not divide the row falls back as llama.cpp does; formats of this project that some block type holds exactly
// are written as that type (gguf-blocks.ts); all others are refused by name, because re-rounding a finished
// quantization would be another, worse one.

import { userError } from '../errors.ts';
import type { Format, GgmlTypeName } from '../formats/format.ts';
import { ggmlType } from '../formats/ggml/types.ts';
import { printShape, type Shape } from '../tensor/shape.ts';
import { exactBlockType } from './gguf-blocks.ts';
import { fallbackType, type GgufTypeName } from './gguf-presets.ts';
import type { TensorRole } from './tensors.ts';

export interface GgufStorage {
  /** The format to quantize to. */
  format: Format;
  /** The type in the file. */
  type: GgufTypeName;
  /** Why the format is not the wanted one. */
  fallback: string | undefined;
}

/**
 * @param name for messages
 * @param shape logical, K last
 * @throws user error when no GGUF type holds the format's numbers
 * @example ggufStorage('blk.0.ffn_down.weight', 'linear', [256, 704], { kind: 'ggml', type: 'q4_k' }).type // 'q5_0'
 */
export function ggufStorage(name: string, role: TensorRole, shape: Shape, wanted: Format): GgufStorage {
  const plain = (type: 'f32' | 'f16' | 'bf16', fallback?: string) => ({
    format: { kind: 'float' as const, name: type },
    type,
    fallback,
  });
  if (shape.length < 2 || role === 'norm' || role === 'bias' || role === 'router') return plain('f32');
  if (wanted.kind === 'float') return plain(wanted.name);
  const cols = shape[shape.length - 1];
  const odd = (type: GgmlTypeName) => `K = ${cols} is no multiple of ${ggmlType(type).block} (${type})`;
  if (wanted.kind === 'ggml') {
    const type = fallbackType(wanted.type, cols);
    if (type === 'f16') return plain('f16', odd(wanted.type));
    return { format: { kind: 'ggml', type }, type, fallback: type === wanted.type ? undefined : odd(wanted.type) };
  }
  const type = wanted.kind === 'quant' ? exactBlockType(wanted) : undefined;
  if (!type || wanted.kind !== 'quant') throw refusal(name, shape);
  // Only the matrices of layers and the output have a `.scale` tensor beside them.
  if (role === 'embedding' && wanted.scale.tensorScale)
    return plain('f16', 'llama.cpp has no second-level scale for embeddings');
  if (cols % ggmlType(type).block !== 0) return plain('f16', odd(type));
  return { format: wanted, type, fallback: undefined };
}

const refusal = (name: string, shape: Shape) =>
  userError({
    code: 'gguf-format',
    op: 'write GGUF',
    problem: `GGUF has no type that holds this format's numbers exactly (shape ${printShape(shape)})`,
    expected:
      'mxfp4, nvfp4, int4 or int8 with groups of a multiple of 32, a ggml type (q4_k, q8_0, …), bf16, f16 or f32',
    tensor: name,
    fix: 'choose one of these, or write safetensors',
  });
