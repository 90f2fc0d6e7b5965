// The tensor types of GGUF files: how many values a block holds, how many bytes it takes, and which number names it.
//
// A quantized row is a run of fixed-size blocks, each with its own scales, so row bytes = cols / block × bytes. The
// table lists every number that a reader may meet, also types that this project does not encode (the lattice types
// IQ1 … IQ3 need tables of up to 2048 entries; Q8_1 and Q8_K are activation formats) so that a message can name them.
// Source: ggml's type table as of GGUF version 3. Removed types (4, 5, 31–33, 36–38) are absent on purpose.

import { userError } from '../../errors.ts';
import type { GgmlTypeName } from '../format.ts';

export interface GgmlType {
  /** The number in a GGUF tensor header. */
  id: number;
  /** The name that llama.cpp prints. */
  label: string;
  /** Values in a block. */
  block: number;
  /** Bytes of a block. */
  bytes: number;
  /** Our name, for the block types that `quantizeGgml` and `dequantizeGgml` know. */
  name?: GgmlTypeName;
}

const type = (id: number, label: string, block: number, bytes: number, name?: GgmlTypeName): GgmlType => ({
  id,
  label,
  block,
  bytes,
  name,
});

/** Every GGUF tensor type in use, by ascending id. */
export const ggmlTypes: readonly GgmlType[] = [
  type(0, 'F32', 1, 4),
  type(1, 'F16', 1, 2),
  type(2, 'Q4_0', 32, 18, 'q4_0'),
  type(3, 'Q4_1', 32, 20, 'q4_1'),
  type(6, 'Q5_0', 32, 22, 'q5_0'),
  type(7, 'Q5_1', 32, 24, 'q5_1'),
  type(8, 'Q8_0', 32, 34, 'q8_0'),
  type(9, 'Q8_1', 32, 36),
  type(10, 'Q2_K', 256, 84, 'q2_k'),
  type(11, 'Q3_K', 256, 110, 'q3_k'),
  type(12, 'Q4_K', 256, 144, 'q4_k'),
  type(13, 'Q5_K', 256, 176, 'q5_k'),
  type(14, 'Q6_K', 256, 210, 'q6_k'),
  type(15, 'Q8_K', 256, 292),
  type(16, 'IQ2_XXS', 256, 66),
  type(17, 'IQ2_XS', 256, 74),
  type(18, 'IQ3_XXS', 256, 98),
  type(19, 'IQ1_S', 256, 50),
  type(20, 'IQ4_NL', 32, 18, 'iq4_nl'),
  type(21, 'IQ3_S', 256, 110),
  type(22, 'IQ2_S', 256, 82),
  type(23, 'IQ4_XS', 256, 136, 'iq4_xs'),
  type(24, 'I8', 1, 1),
  type(25, 'I16', 1, 2),
  type(26, 'I32', 1, 4),
  type(27, 'I64', 1, 8),
  type(28, 'F64', 1, 8),
  type(29, 'IQ1_M', 256, 56),
  type(30, 'BF16', 1, 2),
  type(34, 'TQ1_0', 256, 54, 'tq1_0'),
  type(35, 'TQ2_0', 256, 66, 'tq2_0'),
  type(39, 'MXFP4', 32, 17, 'ggml-mxfp4'),
  type(40, 'NVFP4', 64, 36, 'ggml-nvfp4'),
  type(41, 'Q1_0', 128, 18, 'q1_0'),
  type(42, 'Q2_0', 64, 18, 'q2_0'),
];

const byId = new Map(ggmlTypes.map((t) => [t.id, t]));
const byName = new Map(ggmlTypes.filter((t) => t.name !== undefined).map((t) => [t.name, t]));

/** The names of the block types that can be encoded and decoded, in the order of the table. */
export const ggmlTypeNames: readonly GgmlTypeName[] = ggmlTypes.flatMap((t) => t.name ?? []);

/** The type with this number in a GGUF header, or undefined when no current type has it. */
export function ggmlTypeById(id: number): GgmlType | undefined {
  return byId.get(id);
}

/**
 * The table entry of a block type.
 * @throws SubbyteError (user) when the name is none of `ggmlTypeNames`.
 * @example ggmlType('q4_k').bytes // 144
 */
export function ggmlType(name: GgmlTypeName): GgmlType {
  const found = byName.get(name);
  if (found) return found;
  throw userError({
    code: 'ggml-unknown-type',
    op: 'ggml',
    problem: 'no such block type',
    got: String(name),
    expected: `one of ${ggmlTypeNames.join(', ')}`,
  });
}

/**
 * Bytes of one row of `cols` values.
 * @throws SubbyteError (user) when cols is no positive multiple of the block.
 * @example ggmlRowBytes('q4_0', 64) // 36
 */
export function ggmlRowBytes(name: GgmlTypeName, cols: number): number {
  const { block, bytes } = ggmlType(name);
  if (!Number.isSafeInteger(cols) || cols <= 0 || cols % block !== 0) {
    throw userError({
      code: 'ggml-row-length',
      op: name,
      problem: 'the row length does not fit the block',
      got: cols,
      expected: `a positive multiple of ${block}`,
      fix: 'choose a type with a smaller block for this tensor',
    });
  }
  return (cols / block) * bytes;
}
