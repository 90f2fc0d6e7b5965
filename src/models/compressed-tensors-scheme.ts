// Which of compressed-tensors' formats stores a number format, and the `quantization_config` words for it.
//
// Problem: vLLM and transformers read a quantized Hugging Face checkpoint by a description in config.json; the same
// numbers can be described in one way only for a given runtime, and many formats cannot be described at all.
// Method: a table from QuantSpec to (format, arguments) and back.
//   int4, int8   pack-quantized       groups or rows, symmetric or with integer zero points; words of 32 bits
//   int8         int-quantized        rows or tensor, when activations are quantized as well (W8A8), or for a tensor scale
//   fp8 e4m3     float-quantized      tensor, rows, or 128 × 128 tiles (any tile)
//   nvfp4        nvfp4-pack-quantized also four-over-six and 2-D blocks, which store the same
//   mxfp4        mxfp4-pack-quantized
//   mxfp8-e4m3   mxfp8-quantized
// Source: compressed-tensors (vllm-project), quant_args.py and the compressors; restated in its documentation.
// It does not do: 3, 5, 6 and 7 bits, for which two incompatible packings exist, and formats without a runtime (NF4,
// IF4, HiF4, E5M2, ternary, …): those are refused by name.

import { modelError, userError } from '../errors.ts';
import type { Format, Granularity, QuantSpec, ScaleFormat } from '../formats/format.ts';
import { formatName, parseFormat } from '../formats/registry.ts';

export type CompressedFormat =
  | 'pack-quantized'
  | 'int-quantized'
  | 'float-quantized'
  | 'nvfp4-pack-quantized'
  | 'mxfp4-pack-quantized'
  | 'mxfp8-quantized';

/** Quantization arguments as they stand in config.json; unknown keys are errors there. */
export interface QuantizationArgs {
  num_bits: number;
  type: 'int' | 'float';
  symmetric: boolean;
  strategy: 'tensor' | 'channel' | 'group' | 'block' | 'token' | 'tensor_group';
  group_size?: number | null;
  block_structure?: [number, number] | null;
  dynamic: boolean;
  scale_dtype?: string;
  zp_dtype?: string;
}

export interface Scheme {
  format: CompressedFormat;
  weights: QuantizationArgs;
  /** Activation quantization, null for weight-only. */
  input_activations: QuantizationArgs | null;
}

/** Whether a runtime quantizes activations as well: never, per token while running, or with one scale from calibration. */
export type ActivationScheme = 'none' | 'dynamic' | 'static';

/**
 * How a format is stored, undefined when compressed-tensors cannot express it.
 *
 * @example schemeOf(parseFormat('nvfp4'), 'none')?.format // 'nvfp4-pack-quantized'
 */
export function schemeOf(format: Format, activations: ActivationScheme): Scheme | undefined {
  if (format.kind !== 'quant' || format.choice === 'int-or-float') return undefined;
  const { element, scale, granularity: g } = format;
  const group = g.kind === 'group' ? g.size : g.kind === 'tile' ? g.cols : undefined;
  const weightOnly = (name: CompressedFormat, weights: QuantizationArgs): Scheme | undefined =>
    activations === 'none' ? { format: name, weights, input_activations: null } : undefined;
  if (element === 'e2m1' && scale.format === 'e8m0' && group === 32 && !scale.tensorScale)
    return weightOnly('mxfp4-pack-quantized', { ...floats(4, 'group', 32), ...dtypes('torch.uint8') });
  if (element === 'e2m1' && scale.format === 'e4m3' && group === 16)
    return weightOnly('nvfp4-pack-quantized', { ...floats(4, 'tensor_group', 16), ...dtypes('torch.float8_e4m3fn') });
  if (scale.tensorScale) return undefined;
  if (element === 'e4m3' && scale.format === 'e8m0' && g.kind === 'group' && g.size === 32)
    return weightOnly('mxfp8-quantized', { ...floats(8, 'group', 32), ...dtypes('torch.uint8') });
  if (!wideScale(scale.format)) return undefined;
  if (element === 'e4m3') return fp8Scheme(g, activations);
  if ((element === 'int4' || element === 'int8') && format.zeroPoint !== 'float')
    return intScheme(element === 'int4' ? 4 : 8, g, format.zeroPoint === 'none', activations);
  return undefined;
}

const wideScale = (f: ScaleFormat) => f === 'f32' || f === 'f16' || f === 'bf16';
const dtypes = (name: string) => ({ scale_dtype: name, zp_dtype: name });
const floats = (bits: 4 | 8, strategy: QuantizationArgs['strategy'], size?: number): QuantizationArgs => ({
  num_bits: bits,
  type: 'float',
  symmetric: true,
  strategy,
  ...(size === undefined ? {} : { group_size: size }),
  dynamic: false,
});

function fp8Scheme(g: Granularity, activations: ActivationScheme): Scheme | undefined {
  const scheme = (weights: QuantizationArgs, input: QuantizationArgs): Scheme => ({
    format: 'float-quantized',
    weights,
    input_activations: { none: null, dynamic: { ...input, dynamic: true }, static: floats(8, 'tensor') }[activations],
  });
  if (g.kind === 'tensor' || g.kind === 'channel') return scheme(floats(8, g.kind), floats(8, 'token'));
  if (g.kind !== 'tile' || g.rows === 1 || activations === 'static') return undefined;
  return scheme({ ...floats(8, 'block'), block_structure: [g.rows, g.cols] }, floats(8, 'group', g.cols));
}

function intScheme(bits: 4 | 8, g: Granularity, symmetric: boolean, activations: ActivationScheme): Scheme | undefined {
  if (g.kind === 'tile' || g.kind === 'token') return undefined;
  const args: QuantizationArgs = {
    num_bits: bits,
    type: 'int',
    symmetric,
    strategy: g.kind,
    ...(g.kind === 'group' ? { group_size: g.size } : {}),
    dynamic: false,
  };
  const input: QuantizationArgs = { ...args, symmetric: true };
  if (activations === 'none' && g.kind !== 'tensor')
    return { format: 'pack-quantized', weights: args, input_activations: null };
  if (bits !== 8 || g.kind === 'group' || !symmetric) return undefined;
  const inputs = {
    none: null,
    dynamic: { ...input, strategy: 'token', dynamic: true },
    static: { ...input, strategy: 'tensor' },
  } as const;
  return { format: 'int-quantized', weights: args, input_activations: inputs[activations] };
}

/** The error for a format without a scheme, naming what would do. */
export function refuseFormat(format: Format, activations: ActivationScheme, tensor: string): never {
  throw userError({
    code: 'compressed-tensors-format',
    op: 'write safetensors',
    problem: `compressed-tensors cannot express ${formatName(format)}${activations === 'none' ? '' : ' with quantized activations'}`,
    expected: 'int4 or int8 (channel, groups, asym), fp8-e4m3 (tensor, channel, tiles), mxfp4, nvfp4 or mxfp8-e4m3',
    tensor,
    fix: 'choose one of these, or write the dequantized values (bf16)',
  });
}

/**
 * The format that arguments describe. `scale` is the dtype in which the scales are stored.
 * Throws a model error for what is not supported.
 */
export function specOf(format: CompressedFormat, args: QuantizationArgs, scale: ScaleFormat, file: string): QuantSpec {
  const refuse = (problem: string): never => {
    throw modelError({ code: 'compressed-tensors-args', op: 'read compressed-tensors', problem, file });
  };
  const known = (name: string) => parseFormat(name) as QuantSpec;
  if (format === 'mxfp4-pack-quantized') return known('mxfp4');
  if (format === 'nvfp4-pack-quantized') return known('nvfp4');
  if (format === 'mxfp8-quantized') return known('mxfp8-e4m3');
  const granularity = granularityOf(args) ?? refuse(`the strategy ${String(args.strategy)} is not supported`);
  if (format === 'float-quantized') {
    if (args.num_bits !== 8) refuse(`${args.num_bits}-bit floats are not supported`);
    return { ...known('fp8-e4m3'), granularity, scale: { format: scale, rule: 'absmax', tensorScale: false } };
  }
  if (args.num_bits !== 4 && args.num_bits !== 8) refuse(`${args.num_bits}-bit integers are not supported`);
  return {
    ...known(`int${args.num_bits}`),
    granularity,
    scale: { format: scale, rule: 'absmax', tensorScale: false },
    zeroPoint: args.symmetric ? 'none' : 'integer',
  };
}

function granularityOf(args: QuantizationArgs): Granularity | undefined {
  const size = args.group_size;
  const block = args.block_structure;
  if (args.strategy === 'tensor' || args.strategy === 'channel') return { kind: args.strategy };
  if (args.strategy === 'group' && isCount(size)) return { kind: 'group', size };
  if (args.strategy === 'block' && Array.isArray(block) && isCount(block[0]) && isCount(block[1]))
    return { kind: 'tile', rows: block[0], cols: block[1] };
  return undefined;
}

const isCount = (n: unknown): n is number => typeof n === 'number' && Number.isInteger(n) && n > 0 && n < 2 ** 24;
