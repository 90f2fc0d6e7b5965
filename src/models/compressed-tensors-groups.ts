// The `quantization_config` of a compressed-tensors checkpoint: groups of layers and how each is stored.
//
// Targets are layer names, `re:` and a regular expression that must match from the start of the name, or the class name
// Linear; the first group that matches wins. A config comes from anywhere, so everything is checked where it is read, and
// patterns are bounded in length.

import { modelError } from '../errors.ts';
import type { CompressedFormat, QuantizationArgs } from './compressed-tensors-scheme.ts';

export interface CompressedGroup {
  targets: string[];
  weights: QuantizationArgs;
  /** How inputs are quantized, unchecked but for its kind; absent: they are not. */
  inputs?: Partial<QuantizationArgs>;
  format: CompressedFormat;
}

const formats: readonly CompressedFormat[] = [
  'pack-quantized',
  'int-quantized',
  'float-quantized',
  'nvfp4-pack-quantized',
  'mxfp4-pack-quantized',
  'mxfp8-quantized',
];

/** The groups in order. Throws a model error for what is not understood. `file` is for messages. */
export function readGroups(config: unknown, file: string): CompressedGroup[] {
  const fail = (problem: string, got?: unknown): never => {
    throw modelError({
      code: 'compressed-tensors-config',
      op: 'read compressed-tensors',
      problem: `quantization_config: ${problem}`,
      got: got === undefined ? undefined : String(JSON.stringify(got)).slice(0, 80),
      file,
    });
  };
  const top = config as { format?: unknown; config_groups?: unknown } | null;
  if (!isObject(top) || !isObject(top.config_groups)) return fail('config_groups is missing') as never;
  const groups = Object.values(top.config_groups).map((value): CompressedGroup => {
    const group = (isObject(value) ? value : fail('a group is no object', value)) as Record<string, unknown>;
    const format = formats.find((f) => f === (group.format ?? top.format));
    if (!format) return fail('the format is not supported', group.format ?? top.format) as never;
    const { targets } = group;
    if (!Array.isArray(targets) || !targets.every((t) => typeof t === 'string' && t.length < 1000))
      return fail('targets is no list of names', targets) as never;
    const inputs = isObject(group.input_activations) ? group.input_activations : undefined;
    return { targets: targets as string[], weights: readArgs(group.weights, fail), inputs, format };
  });
  return groups;
}

function readArgs(value: unknown, fail: (problem: string, got?: unknown) => never): QuantizationArgs {
  const args = isObject(value) ? value : fail('a group has no weights', value);
  if (args.type !== 'int' && args.type !== 'float') fail('type must be int or float', args.type);
  if (typeof args.num_bits !== 'number') fail('num_bits must be a number', args.num_bits);
  if (args.actorder !== undefined && args.actorder !== null && args.actorder !== 'weight' && args.actorder !== 'static')
    fail('this actorder is not supported', args.actorder);
  return { ...(args as unknown as QuantizationArgs), symmetric: args.symmetric !== false };
}

/** The group of a layer. Throws a model error when none matches. */
export function groupOf(module: string, groups: readonly CompressedGroup[], file: string): CompressedGroup {
  const named = groups.find((g) => g.targets.some((t) => t === module || matches(t, module, file)));
  const found = named ?? groups.find((g) => g.targets.includes('Linear'));
  if (found) return found;
  throw modelError({
    code: 'compressed-tensors-target',
    op: 'read compressed-tensors',
    problem: 'no group of quantization_config describes this quantized layer',
    tensor: module,
    file,
  });
}

function matches(target: string, module: string, file: string): boolean {
  if (!target.startsWith('re:')) return false;
  try {
    return new RegExp(`^(?:${target.slice(3)})`).test(module);
  } catch (cause) {
    throw modelError(
      {
        code: 'compressed-tensors-config',
        op: 'read compressed-tensors',
        problem: 'a target is no valid regular expression',
        got: target.slice(0, 80),
        file,
      },
      { cause },
    );
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
