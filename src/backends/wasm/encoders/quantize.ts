// quantize: which kernel rounds to which format, and the format as words.
//
// Kernels exist for f16 and bf16, Q4_0 and Q8_0, HiF4, and for integers and minifloats with one scale a tile whose
// rule is absmax (float scales, one or two levels) or floor, ceil, even, rceil (E8M0), with every rounding. Searches,
// codebooks, library conventions and per-block choices have none: weights are quantized to those ahead of time.

import { userError } from '../../../errors.ts';
import { elementCodec, integerUnit } from '../../../formats/element.ts';
import type { Format, QuantSpec, Rounding } from '../../../formats/format.ts';
import { signedRange } from '../../../formats/int.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { maxMagnitudeCode } from '../../../formats/minifloat.ts';
import { edenMax, edenScaleMax } from '../../../formats/ms-eden.ts';
import { packedRowBytes } from '../../../formats/packing.ts';
import { formatName } from '../../../formats/registry.ts';
import { scaleMax } from '../../../formats/scale-format.ts';
import {
  elementBits,
  elementEmax,
  elementMantissaBits,
  intBits,
  isInt,
  isMinifloat,
  minifloats,
} from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import type { QuantizeAttributes } from '../../../graph/ops/quantize.ts';
import { alignedBytes } from '../allocator.ts';
import {
  type Command,
  dense,
  type EncodeContext,
  f32,
  type OpEncoder,
  type PackedOperand,
  rowsAndColumns,
  type Word,
} from '../encoder.ts';
import {
  quantizeByRowsKernel,
  quantizeHalvesKernel,
  quantizeHif4Kernel,
  quantizeLegacyKernel,
  quantizeMaximumKernel,
  quantizeMxfp4Kernel,
  quantizeNvfp4Kernel,
  quantizeSpecKernel,
} from '../kernel-ids.ts';
import { hasQuantizeKernel, specWords } from '../quantizer-plan.ts';
import { f64Words } from './words.ts';

const scaleIds = { f32: 0, f16: 1, bf16: 2, e8m0: 3, e4m3: 4, ue5m3: 5 } as const;
const e8m0Rules = { floor: 0, ceil: 1, even: 2, rceil: 3, quest: 8, 'quest-nearest': 9, 'four-thirds': 0 } as const;
const floatRules = { absmax: 4, quest: 8 } as const;
/** How the second level of a scale comes about: none, from the largest magnitude of all, or the constant 4/3. */
const tensorLevels = (spec: QuantSpec) => (!spec.scale.tensorScale ? 0 : spec.scale.rule === 'four-thirds' ? 2 : 1);
const zeroKinds = { none: 0, integer: 1, float: 2 } as const;
const roundings: Readonly<Record<Rounding, number>> = {
  'nearest-even': 0,
  'half-away': 1,
  'half-up': 2,
  'half-to-zero': 3,
  floor: 4,
  stochastic: 5,
};

const has = <T extends object>(record: T, key: PropertyKey): key is keyof T => Object.hasOwn(record, key);

function hasSpecKernel(spec: QuantSpec): boolean {
  if (spec.choice !== 'none' || !(isInt(spec.element) || isMinifloat(spec.element))) return false;
  const { format, rule } = spec.scale;
  if (!has(scaleIds, format)) return false;
  return has(format === 'e8m0' ? e8m0Rules : floatRules, rule);
}

/** NVFP4 with a choice or a correction: 1 four-over-six by squared error, 2 MS-EDEN, 0 neither. */
function chosenKind({ choice, scale, rounding, granularity }: QuantSpec): 0 | 1 | 2 {
  if (granularity.kind !== 'group' || granularity.size % 16 !== 0 || rounding !== 'nearest-even') return 0;
  if (choice === 'four-over-six' && scale.rule === 'mse') return 1;
  return scale.rule === 'ms-eden' ? 2 : 0;
}

function hasKernel(format: Format): boolean {
  switch (format.kind) {
    case 'quant':
      return hasSpecKernel(format) || chosenKind(format) !== 0;
    case 'ggml':
      return format.type === 'q4_0' || format.type === 'q8_0';
    default:
      return true;
  }
}

/** The words of a format in kernels/engine/quantize-spec.ts, from number 11 on. */
export function formatWords(spec: QuantSpec, rows: number, cols: number, seed: number, stream: number): Word[] {
  const { element, scale } = spec;
  const codec = elementCodec(spec);
  const minifloat = isMinifloat(element) ? minifloats[element] : undefined;
  const unsigned = spec.zeroPoint !== 'none';
  const [lowest, highest] = isInt(element) ? signedRange(intBits[element], spec.range === 'restricted') : [0, 0];
  const { tileRows, tileCols } = scaleLayout(spec.granularity, rows, cols);
  return [
    elementBits(element),
    minifloat ? 1 : 0,
    minifloat?.mantissaBits ?? 0,
    minifloat?.bias ?? 0,
    minifloat ? maxMagnitudeCode(minifloat) : unsigned ? codec.max : highest,
    unsigned ? 0 : lowest,
    tileRows,
    tileCols,
    scaleIds[scale.format as keyof typeof scaleIds],
    scale.format === 'e8m0'
      ? e8m0Rules[scale.rule as keyof typeof e8m0Rules]
      : (floatRules[scale.rule as keyof typeof floatRules] ?? 0), // 0: a kernel of its own
    elementEmax(element),
    2 ** (22 - elementMantissaBits(element)),
    f32(1 / codec.max),
    f32(unsigned ? 1 : integerUnit(spec)),
    f32(spec.clip),
    zeroKinds[spec.zeroPoint],
    roundings[spec.rounding],
    spec.range === 'signed-max' ? 1 : 0,
    minifloat && minifloat.specials !== 'fnuz' ? 1 : 0,
    seed,
    stream,
    tensorLevels(spec),
    ...f64Words(scale.rule === 'ms-eden' ? edenMax : codec.max),
    ...f64Words(tensorScaleMax(spec)),
  ];
}

/** What the largest block scale of a tensor is meant to be. */
function tensorScaleMax({ scale, choice }: QuantSpec): number {
  if (!scale.tensorScale) return 1;
  if (scale.rule === 'ms-eden') return edenScaleMax;
  return choice === 'four-over-six' ? 256 : scaleMax(scale.format);
}

/** Scratch of one thread for a spec: kernels/engine/quantize-spec.ts. */
function threadBytes(spec: QuantSpec, rows: number, cols: number): number {
  return alignedBytes(16 * Math.ceil(cols / 16) + 16 * scaleLayout(spec.granularity, rows, cols).scaleCols);
}

/** Scratch of one thread in quantizeRows (kernels/quantize), with room to spare. */
function rowThreadBytes(spec: QuantSpec, rows: number, cols: number): number {
  return alignedBytes(1024 + 32 * scaleLayout(spec.granularity, rows, cols).scaleCols + 4 * cols);
}

/** Scratch of the SIMD path: maxima, statuses, copies of the argument block, then the kernel's own. */
function rowScratch(threads: number): { statuses: number; copies: number; own: number } {
  const statuses = alignedBytes(4 * threads);
  return { statuses, copies: 2 * statuses, own: 2 * statuses + 128 * threads };
}

/** The divisor of maxima among the words of `specWords`. */
const divisorWord = 13;

/** The same by the SIMD kernels, for formats and widths that they know. */
function encodeByRows(
  x: number,
  y: PackedOperand,
  spec: QuantSpec,
  { fixed }: QuantizeAttributes,
  scratch: number,
  threads: number,
): Command[] {
  const { rows, cols } = y;
  const { statuses, copies, own } = rowScratch(threads);
  const wholeTensor = spec.granularity.kind === 'tensor';
  const twoLevel = spec.scale.tensorScale;
  const words: Word[] = specWords(spec, cols, 1);
  if (fixed) words[divisorWord] = f32(1);
  const template: Word[] = [
    ...[x, 0, rows, cols, ...words],
    ...[y.codes, packedRowBytes(elementBits(spec.element), cols), y.scales, y.zeroPoints],
    ...[scratch + own, rowThreadBytes(spec, rows, cols), scratch + statuses, -1],
  ];
  const quantize: Command = {
    kernel: quantizeByRowsKernel,
    args: [
      ...[scratch, twoLevel ? 1 : 0, wholeTensor ? 1 : 0, y.tensorScale, ...f64Words(elementCodec(spec).max)],
      ...[...f64Words(twoLevel ? scaleMax(spec.scale.format) : 1), scratch + copies],
      ...[f32(fixed?.scale ?? 0), ...template],
    ],
  };
  const maximum: Command = { kernel: quantizeMaximumKernel, args: [x, rows * cols, scratch] };
  return twoLevel || wholeTensor ? [maximum, quantize] : [quantize];
}

/** MXFP4 with the rules and roundings of training, which have a kernel of their own. */
function isTrainingMxfp4({ element, granularity, scale, rounding, clip }: QuantSpec, cols: number): boolean {
  return (
    element === 'e2m1' &&
    granularity.kind === 'group' &&
    granularity.size === 32 &&
    cols % 32 === 0 &&
    scale.format === 'e8m0' &&
    ['floor', 'quest', 'quest-nearest', 'four-thirds'].includes(scale.rule) &&
    ['nearest-even', 'half-to-zero', 'stochastic'].includes(rounding) &&
    clip === 1
  );
}

/** Scratch of one thread of it: thresholds, random bits, a group's codes. */
const mxfp4ThreadBytes = 256;

/** By the general kernel: any width, any rounding, and the bits of what is not clipped. */
function encodeSpec(
  { inputs, outputs, scratch, threads }: EncodeContext,
  y: PackedOperand,
  spec: QuantSpec,
  { seed, stream, fixed, bound = 0 }: QuantizeAttributes,
): Command[] {
  const x = dense(inputs, 0).address;
  const step = inputs.length > 1 ? dense(inputs, 1).address : 0;
  const bits = outputs.length > 1 ? dense(outputs, 1).address : 0;
  const { rows, cols } = y;
  const maxima = scratch;
  const own = scratch + alignedBytes(4 * threads);
  const rowBytes = packedRowBytes(elementBits(spec.element), cols);
  const maximum: Command = { kernel: quantizeMaximumKernel, args: [x, rows * cols, maxima] };
  if (!fixed && isTrainingMxfp4(spec, cols)) {
    const constant = spec.scale.tensorScale ? Math.fround(4 / 3) : 1;
    const general = [x, rows, cols, y.codes, rowBytes, y.scales, 0, y.tensorScale, 0, 0, 0];
    const args = [
      ...[x, rows, cols, y.codes, y.scales, y.tensorScale, e8m0Rules[spec.scale.rule as keyof typeof e8m0Rules]],
      ...[roundings[spec.rounding], seed, stream, step, bits, f32(bound), f32(constant), scratch, 0],
      ...[...general, ...formatWords(spec, rows, cols, seed, stream)],
    ];
    return [{ kernel: quantizeMxfp4Kernel, args }];
  }
  // under a fixed scale rows do not depend on each other
  const independent: QuantSpec = fixed ? { ...spec, granularity: { kind: 'token' } } : spec;
  const words = [x, rows, cols, y.codes, rowBytes, y.scales, y.zeroPoints, y.tensorScale, maxima, own];
  const quantize: Command = {
    kernel: chosenKind(spec) === 0 ? quantizeSpecKernel : quantizeNvfp4Kernel,
    args: [
      ...[...words, threadBytes(spec, rows, cols), ...formatWords(independent, rows, cols, seed, stream)],
      ...[f32(fixed?.scale ?? 0), fixed?.zeroPoint ?? 0, step, bits, f32(bound), chosenKind(spec)],
    ],
  };
  return tensorLevels(spec) === 1 ? [maximum, quantize] : [quantize];
}

/** Whether the SIMD kernels do it all, and nothing faster is there. */
const byRows = (node: Node, spec: QuantSpec, cols: number) =>
  node.outputs.length === 1 &&
  chosenKind(spec) === 0 &&
  hasQuantizeKernel(spec, cols) &&
  !(isTrainingMxfp4(spec, cols) && spec.rounding === 'nearest-even' && !spec.scale.tensorScale);

function attributesOf(node: Node): QuantizeAttributes {
  const attributes = node.attributes as unknown as QuantizeAttributes;
  if (hasKernel(attributes.format)) return attributes;
  throw userError({
    code: 'missing-kernel',
    op: 'quantize',
    problem: `the wasm backend has no kernel that rounds to this format during a run (${node.outputs[0].name})`,
    got: formatName(attributes.format),
    fix: 'choose a format with direct scales, or run the graph on the reference backend',
  });
}

export const quantizeEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { format } = attributesOf(node);
    if (format.kind !== 'quant') return 0;
    const [rows, cols] = rowsAndColumns(node.inputs[0].type.shape);
    if (byRows(node, format, cols)) return rowScratch(threads).own + threads * rowThreadBytes(format, rows, cols);
    if (isTrainingMxfp4(format, cols)) return threads * mxfp4ThreadBytes;
    return alignedBytes(4 * threads) + threads * threadBytes(format, rows, cols);
  },

  encode(context) {
    const { node, inputs, outputs, scratch, threads } = context;
    const attributes = attributesOf(node);
    const { format } = attributes;
    const x = dense(inputs, 0).address;
    const y = outputs[0];
    if (y.dtype !== 'packed') throw new Error('encoder: the result of quantize is dense');
    const count = y.rows * y.cols;
    switch (format.kind) {
      case 'quant':
        if (byRows(node, format, y.cols)) return encodeByRows(x, y, format, attributes, scratch, threads);
        return encodeSpec(context, y, format, attributes);
      case 'float': {
        const kind = { f32: 0, f16: 1, bf16: 2 }[format.name];
        return [{ kernel: quantizeHalvesKernel, args: [x, y.codes, count, y.tensorScale, kind] }];
      }
      case 'hif4':
        return [{ kernel: quantizeHif4Kernel, args: [x, y.codes, count / 64, y.tensorScale, y.scales] }];
      case 'ggml': {
        const bits = format.type === 'q4_0' ? 4 : 8;
        return [{ kernel: quantizeLegacyKernel, args: [x, y.codes, count / 32, y.tensorScale, bits] }];
      }
    }
  },
};
