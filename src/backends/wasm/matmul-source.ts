// How the matrix kernels see an operand: the words of a source description (kernels/engine/matmul-decode.ts).
//
// Everything that depends on a format's definition is put there as tables computed by the reference codec: the value
// of every code, and of every one-byte scale. A kernel therefore decodes any uniform format to the reference's exact
// f32 values without knowing its name. Element types whose values are int8 multiples of one power of two also get a
// table of these integers, which the integer products multiply directly.

import { elementCodec } from '../../formats/element.ts';
import type { ElementName, QuantSpec, ScaleFormat } from '../../formats/format.ts';
import { ggmlType } from '../../formats/ggml/types.ts';
import { scaleLayout } from '../../formats/layout.ts';
import { packedRowBytes } from '../../formats/packing.ts';
import { intArmValues } from '../../formats/quantize-spec.ts';
import { decodeScale } from '../../formats/scale-format.ts';
import { isMinifloat, minifloats } from '../../formats/table.ts';
import { integerCodes } from '../integer-plan.ts';
import { f32, type Operand, type PackedOperand, type Word } from './encoder.ts';

/** Kinds of source, as in matmul-decode.ts. */
const kinds = { across: 0, along: 1, f16: 2, bf16: 3, codes: 4, ggml: 5, hif4: 6 } as const;

const scaleKinds: Readonly<Record<ScaleFormat, number>> = {
  f32: 0,
  f16: 1,
  bf16: 2,
  e8m0: 3,
  e4m3: 3,
  ue5m3: 3,
  e6m2: 3,
};

const zeroKinds = { none: 0, integer: 1, float: 2 } as const;
const headerWords = 16;
const byteTableWords = 64;

function packBytes(bytes: ArrayLike<number>): number[] {
  const words = new Array<number>(byteTableWords).fill(0);
  for (let i = 0; i < bytes.length; i++) words[i >> 2] = (words[i >> 2]! | ((bytes[i]! & 255) << (8 * (i & 3)))) >>> 0;
  return words;
}

/** Mantissa bits, bias and first special magnitude of an 8-bit float that is decoded by arithmetic; 0 for others. */
function floatWord(element: ElementName): number {
  if (!isMinifloat(element) || minifloats[element].bits !== 8 || minifloats[element].specials === 'fnuz') return 0;
  const { exponentBits, mantissaBits, bias, specials } = minifloats[element];
  const special = { finite: 128, fn: 127, ieee: ((1 << exponentBits) - 1) << mantissaBits }[specials];
  return mantissaBits | (bias << 8) | (special << 16);
}

function codeWords(operand: PackedOperand, spec: QuantSpec): Word[] {
  const codec = elementCodec(spec);
  const layout = scaleLayout(spec.granularity, operand.rows, operand.cols);
  // One table of bytes means one kind of code: with 8 bits it must be the code itself.
  const integers = integerCodes(spec);
  const values = Array.from(codec.values, f32);
  const scaleTable =
    scaleKinds[spec.scale.format] === 3
      ? Array.from({ length: 256 }, (_, code) => f32(decodeScale(spec.scale.format, code)))
      : [];
  const scaleTableAt = headerWords + byteTableWords + values.length;
  const otherTable = spec.choice === 'int-or-float' ? Array.from(intArmValues, f32) : [];
  return [
    kinds.codes,
    operand.codes,
    packedRowBytes(codec.bits, operand.cols),
    codec.bits,
    operand.scales,
    scaleKinds[spec.scale.format],
    layout.tileRows,
    layout.scaleCols,
    layout.tileCols,
    zeroKinds[spec.zeroPoint],
    operand.zeroPoints,
    operand.tensorScale,
    f32(integers?.unit ?? 0),
    4 * scaleTableAt,
    otherTable.length > 0 ? 4 * (scaleTableAt + scaleTable.length) : 0,
    floatWord(spec.element),
    ...packBytes(integers?.values ?? []),
    ...values,
    ...scaleTable,
    ...otherTable,
  ];
}

/** The source description of an operand; `along`: a dense matrix is stored [N, K]. */
export function sourceWords(operand: Operand, along: boolean): Word[] {
  if (operand.dtype !== 'packed') return [along ? kinds.along : kinds.across];
  const { format } = operand;
  switch (format.kind) {
    case 'float':
      if (format.name === 'f32') return [kinds.along];
      return [kinds[format.name], operand.codes, 2 * operand.cols];
    case 'quant':
      return codeWords(operand, format);
    case 'ggml': {
      const { id, block, bytes } = ggmlType(format.type);
      return [kinds.ggml, operand.codes, (operand.cols / block) * bytes, id, block, bytes];
    }
    case 'hif4':
      return [kinds.hif4, operand.codes, operand.cols / 2, 4, operand.scales];
  }
}

/** Address of a dense or packed matrix's values. */
export const valuesAddress = (operand: Operand): number =>
  operand.dtype === 'packed' ? operand.codes : operand.address;
