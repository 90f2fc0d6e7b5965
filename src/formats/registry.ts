// Names of formats: parse, print, list, and what a format costs.

import { type SubbyteError, userError } from '../errors.ts';
import { nearest } from './edit-distance.ts';
import type { Format, GgmlTypeName, QuantSpec } from './format.ts';
import { ggmlRowBytes, ggmlType, ggmlTypeNames } from './ggml/types.ts';
import { scaleLayout } from './layout.ts';
import { aliases, applyOptions, bases, printSpec, splitName } from './names.ts';
import { packedRowBytes } from './packing.ts';
import { scaleBytes } from './scale-format.ts';
import { isNvfp4Convention, ruleFits } from './scale-rules.ts';
import { codebookBits, elementBits, intBits, isInt, isMinifloat, minifloats } from './table.ts';

const floatNames = ['f32', 'f16', 'bf16'] as const;
const isFloatName = (n: string): n is (typeof floatNames)[number] => (floatNames as readonly string[]).includes(n);
const isGgmlName = (n: string): n is GgmlTypeName => (ggmlTypeNames as readonly string[]).includes(n);

/**
 * The format that a name stands for. Upper and lower case and underscores in place of hyphens are accepted for our own
 * names; the grammar is in names.ts.
 *
 * @throws user error with the nearest name when there is no such format, or when its options contradict each other
 * @example parseFormat('int4-g128-asym')
 */
export function parseFormat(name: string): Format {
  const text = name.trim().toLowerCase();
  if (isGgmlName(text)) return { kind: 'ggml', type: text };
  const own = text.replaceAll('_', '-');
  if (isFloatName(own)) return { kind: 'float', name: own };
  if (own === 'hif4') return { kind: 'hif4' };
  if (own === 'ggml-mxfp4' || own === 'ggml-nvfp4') return { kind: 'ggml', type: own };
  const split = splitName(own);
  if (!split) throw unknownFormat(name);
  const spec = applyOptions(split.base, split.options);
  if ('unknown' in spec) {
    throw userError({
      code: 'unknown-format-option',
      op: 'format',
      problem: `"${name}" has an option that does not exist`,
      got: `"${spec.unknown}"`,
      fix: 'use gN, channel, token, tensor, tileRxC, asym, asymf, f16s, a scale rule or sr; see "subbyte formats"',
    });
  }
  const contradiction = contradictionOf(spec);
  if (contradiction) {
    throw userError({
      code: 'invalid-format',
      op: 'format',
      problem: `"${name}" cannot be: ${contradiction}`,
      fix: 'leave that option out; "subbyte formats" lists the formats',
    });
  }
  return spec;
}

/** Prints a format; parseFormat gives it back. */
export function formatName(format: Format): string {
  switch (format.kind) {
    case 'float':
      return format.name;
    case 'hif4':
      return 'hif4';
    case 'ggml':
      return format.type;
    case 'quant':
      return printSpec(format);
  }
}

/** Why a spec has no meaning, or undefined when it has one. */
export function contradictionOf(s: QuantSpec): string | undefined {
  if (!isInt(s.element) && s.zeroPoint !== 'none') return 'only integers have a zero point';
  if (!isInt(s.element) && s.range !== 'restricted') return 'half and signed are ranges of integers';
  if (s.zeroPoint !== 'none' && s.range !== 'restricted') return 'asym and a symmetric range exclude each other';
  const wide = s.scale.format === 'f32' || s.scale.format === 'f16' || s.scale.format === 'bf16';
  if ((s.zeroPoint !== 'none' || s.range !== 'restricted') && !wide) return 'it needs f32, f16 or bf16 scales';
  if (s.zeroPoint !== 'none' && s.scale.rule === 'absmean') return 'absmean is a rule for symmetric scales';
  if (s.scale.tensorScale && wide) return 'two levels need a small scale format';
  if (s.choice !== 'none') {
    if (s.element !== 'e2m1' || s.scale.format !== 'e4m3' || !s.scale.tensorScale) return 'the choice needs NVFP4';
    if (s.granularity.kind !== 'group' && s.granularity.kind !== 'tile') return 'the choice is made per group or tile';
    const { rule } = s.scale;
    return rule === 'mse' || rule === 'mae' || rule === 'absmax' ? undefined : 'its measure is mse, mae or absmax';
  }
  if (!ruleFits(s)) {
    const needs = isNvfp4Convention(s.scale.rule) ? 'two-level NVFP4' : 'other scales';
    return `the scale rule ${s.scale.rule} is for ${needs}`;
  }
  return undefined;
}

function unknownFormat(name: string): SubbyteError {
  const text = name.trim().toLowerCase().slice(0, 64);
  const known = [...listFormats().map((f) => f.name), ...bases.keys(), ...Object.keys(aliases)];
  const close = nearest(text, known);
  return userError({
    code: 'unknown-format',
    op: 'format',
    problem: 'there is no such format',
    got: JSON.stringify(name.slice(0, 64)),
    expected: 'a name such as int4-g128, int8-channel, fp8-e4m3-channel, mxfp4, nvfp4, q4_k or bf16',
    fix: `${close ? `did you mean "${close}"? ` : ''}"subbyte formats" lists all with their options`,
  });
}

/** Bytes that a [rows, cols] matrix takes in a format, scales included. Throws as quantize does when K does not fit. */
export function formatBytes(format: Format, rows: number, cols: number): number {
  switch (format.kind) {
    case 'float':
      return rows * cols * (format.name === 'f32' ? 4 : 2);
    case 'hif4':
      return scaleLayout({ kind: 'group', size: 64 }, rows, cols).scaleCols * rows * 36;
    case 'ggml':
      return rows * ggmlRowBytes(format.type, cols);
    case 'quant': {
      const { scaleRows, scaleCols } = scaleLayout(format.granularity, rows, cols);
      const scale = scaleBytes(format.scale.format);
      const zero = { none: 0, integer: 1, float: scale }[format.zeroPoint];
      const codes = rows * packedRowBytes(elementBits(format.element), cols);
      return codes + scaleRows * scaleCols * (scale + zero) + (format.scale.tensorScale ? 4 : 0);
    }
  }
}

/** Bits per value of a [rows, cols] matrix, everything counted. */
export function effectiveBits(format: Format, rows: number, cols: number): number {
  return (8 * formatBytes(format, rows, cols)) / (rows * cols);
}

export interface FormatInfo {
  name: string;
  /** Bits per value of a 4096 × 4096 matrix, scales included. */
  bits: number;
  /** Values of the element before scaling. */
  range: string;
  description: string;
}

const descriptions: readonly (readonly [name: string, description: string])[] = [
  ['f32', 'IEEE single precision'],
  ['bf16', 'bfloat16'],
  ['f16', 'IEEE half precision'],
  ['int8-channel', 'integers, one f16 scale a row'],
  ['int8-token', 'integers, one f32 scale a token: activations'],
  ['int6-g128', 'integers, one f16 scale for 128 values'],
  ['int5-g128', 'integers, one f16 scale for 128 values'],
  ['int4-channel', 'integers, one f16 scale a row'],
  ['int4-g128', 'integers, one f16 scale for 128 values'],
  ['int4-g128-asym', 'integers with zero point, 128 values share a scale: AWQ and GPTQ style'],
  ['int4-g32-asymf', 'integers with a float minimum'],
  ['int4-g128-half', 'scale 2·amax/15: compressed-tensors, vLLM'],
  ['int4-g32-signed', 'scale signed max / −8: ONNX Runtime'],
  ['int3-g128-asym', 'integers with zero point'],
  ['int2-g64-asym', 'integers with zero point'],
  ['fp8-e4m3-tensor', 'FP8 with one f32 scale'],
  ['fp8-e4m3-channel', 'FP8, one f32 scale a row'],
  ['fp8-e4m3-token', 'FP8 activations'],
  ['fp8-e4m3-tile128x128', 'FP8 weights as DeepSeek-V3 stores them'],
  ['fp8-e4m3-tile1x128', 'FP8 activations as in DeepSeek-V3'],
  ['fp8-e5m2-tensor', 'FP8 with the wider range: gradients'],
  ['mxfp8-e4m3', 'OCP microscaling, 32 values share a power of two'],
  ['mxfp8-e5m2', 'OCP microscaling'],
  ['mxfp6-e2m3', 'OCP microscaling'],
  ['mxfp6-e3m2', 'OCP microscaling'],
  ['mxfp4', 'OCP microscaling: gpt-oss, Blackwell, MI350'],
  ['mxint8', 'OCP microscaling, fixed-point elements'],
  ['mxint4', 'microscaling with 4-bit fixed-point elements'],
  ['nvfp4', 'E2M1, 16 values share an E4M3 scale, one f32 tensor scale: Blackwell'],
  ['nvfp4-46', 'NVFP4 four-over-six: block maximum to 6 or 4, the better'],
  ['nvfp4-2d', 'NVFP4 with 16×16 blocks: weights in FP4 training'],
  ['nvfp4-ue5m3', 'NVFP4 with UE5M3 scales and no tensor scale'],
  ['nvint4', 'INT4 with the two-level scales of NVFP4'],
  ['if4', 'NVFP4 or INT4 per block, the better'],
  ['hif4', '64 values, three-level scale'],
  ['nf4-g64', 'quantiles of a Gaussian: QLoRA'],
  ['ternary-tensor', '−1, 0, 1 times the mean magnitude: BitNet b1.58'],
  ['log2-4-tensor', 'powers of two for non-negative activations'],
];

function rangeOf(format: Format): string {
  if (format.kind === 'float') return { f32: '±3.4e38', bf16: '±3.4e38', f16: '±65504' }[format.name];
  if (format.kind === 'hif4') return '±1.75';
  if (format.kind === 'ggml') return '';
  const e = format.element;
  if (isMinifloat(e)) return `±${minifloats[e].max}`;
  if (isInt(e)) {
    const top = 2 ** intBits[e];
    if (format.zeroPoint !== 'none') return `0…${top - 1}`;
    return `${format.range === 'restricted' ? 1 - top / 2 : -top / 2}…${top / 2 - 1}`;
  }
  return e === 'nf4' || e === 'ternary' ? '−1…1' : `0, 2^-${2 ** codebookBits[e] - 2}…1`;
}

/** All formats worth naming, with what a `formats` table shows; ggml's block types come last. */
export function listFormats(): FormatInfo[] {
  const entries = [
    ...descriptions,
    ...ggmlTypeNames.map((t) => [t, `llama.cpp block of ${ggmlType(t).block} values`] as const),
  ];
  return entries.map(([name, description]) => formatInfo(name, description));
}

/** The same for one format by name, with options or not. */
export function formatInfo(name: string, description = ''): FormatInfo {
  const format = parseFormat(name);
  return { name: formatName(format), bits: effectiveBits(format, 4096, 4096), range: rangeOf(format), description };
}
