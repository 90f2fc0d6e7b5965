// Metadata value types of GGUF and the metadata entry that readers give and writers take.
//
// Source: the GGUF specification (ggml-org/ggml, docs/gguf.md), version 3.

import type { MetadataValue } from './checkpoint.ts';

/** Scalar value types; the position is the number in the file, 9 (array) left out. */
export const ggufScalars = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  undefined,
  'u64',
  'i64',
  'f64',
] as const;

export type GgufScalar = Exclude<(typeof ggufScalars)[number], undefined>;

/** `u32`, or `u32[]` for an array of them. Arrays of arrays exist on paper only; llama.cpp refuses them too. */
export type GgufType = GgufScalar | `${GgufScalar}[]`;

/** The number of `array` among the value types. */
export const ggufArray = 9;

/** Bytes of a value; for strings the least, which is their length field. */
export const ggufScalarBytes: Readonly<Record<GgufScalar, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  u64: 8,
  i64: 8,
  f64: 8,
};

/**
 * One metadata key with the exact type that the file has. Values: numbers (u64 and i64: bigint), strings, booleans;
 * arrays of f32 are Float32Array, of i32 Int32Array, the others plain arrays.
 */
export interface GgufEntry {
  readonly key: string;
  readonly type: GgufType;
  readonly value: MetadataValue;
}

/** Bytes of alignment when `general.alignment` is absent. */
export const defaultAlignment = 32;

/** The most bytes of a tensor name: ggml stores 64 with the final zero. */
export const maxTensorNameBytes = 63;

/** `offset` rounded up to a multiple of `alignment`. */
export function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
