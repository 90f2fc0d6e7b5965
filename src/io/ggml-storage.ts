// The dtypes that a Checkpoint shows for tensors of GGUF files, and back to ggml's table of types.
//
// Plain types keep the names of safetensors (`F32`, `BF16`, `I8`); block types are `ggml:` and the lower-case label of
// formats/ggml/types.ts (`ggml:q4_k`, `ggml:mxfp4`).

import { type GgmlType, ggmlTypes } from '../formats/ggml/types.ts';
import type { StoredDtype } from './checkpoint.ts';

/** `F32` or `ggml:q4_k`. */
export function dtypeOfGgml(type: GgmlType): StoredDtype {
  return type.block === 1 ? type.label : `ggml:${type.label.toLowerCase()}`;
}

const byDtype = new Map(ggmlTypes.map((t) => [dtypeOfGgml(t), t]));

/**
 * The ggml type of a dtype, or undefined when GGUF cannot hold it. Its `name` is the Format's, for decoding.
 *
 * @example ggmlOfDtype('ggml:mxfp4')!.name === 'ggml-mxfp4'
 */
export function ggmlOfDtype(dtype: StoredDtype): GgmlType | undefined {
  return byDtype.get(dtype);
}
