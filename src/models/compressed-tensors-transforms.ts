// Online rotations in the words of compressed-tensors: `transform_config` within the quantization_config.
//
// Problem: a rotated checkpoint is nonsense in a runtime that does not rotate the activations; vLLM does it where
// transform_config says so.
// Method: one group for each rule of the model's own description, on the inputs of the layers that it holds for:
//   { "type": "hadamard", "head_dim": block, "apply": [{ "targets": [layers], "location": "input" }] }
// `hadamard` is Sylvester's matrix over the whole input or, with head_dim, over blocks. Other orders and random signs are
// `random-hadamard`, whose matrix W (entries ±1, x · W / √n) is read from the checkpoint: `<first layer>.<group>_input.
// weight`, once for all layers of the group. Queries and keys are the locations q_attn and k_cache of self_attn.
// What cannot be said so (experts, rotations across heads, large matrices) is written as a group with a location that
// does not exist, so that a runtime that reads transform_config refuses the model instead of computing nonsense.
// Source: compressed-tensors, transform_args.py, transform_scheme.py, factory/hadamard.py and utils/matrix.py; vLLM,
// compressed_tensors/transform/{linear,module}.py (input transforms; no tensor parallelism, no experts, no attention).
// It does not do: reading matrices; a checkpoint of another tool may use `hadamard` only.

import { modelError } from '../errors.ts';
import type { SafetensorsTensor } from '../io/safetensors-writer.ts';
import { hadamardMatrix, hadamardOrder, randomSigns } from '../tensor/hadamard.ts';
import type { DecoderConfig } from './config.ts';
import { type RuntimeLayer, runtimeLayers } from './runtime-layers.ts';
import type { OnlineRotations, RotationRule } from './runtime-scheme.ts';

export interface TransformExport {
  /** For quantization_config; undefined when nothing is rotated online. */
  config: Record<string, unknown> | undefined;
  tensors: SafetensorsTensor[];
  notes: string[];
}

/** Above this order a matrix of a rotation is too large to be stored (32 MiB). */
const largestMatrix = 4096;
/** Orders whose matrix vLLM reads although it could compute it: its fused kernels for NVFP4. */
const fusedOrders = [16, 32, 64, 128];

/** The description of a model's online rotations, and the matrices that it refers to. */
export function planTransforms(config: DecoderConfig): TransformExport {
  const { online } = config.runtime;
  const tensors: SafetensorsTensor[] = [];
  const groups: [string, unknown][] = [];
  const notes: string[] = [];
  const layers = runtimeLayers(config);
  for (const [i, rule] of online.inputs.entries()) {
    const held = layers.filter(({ name }) => ruleOf(online, name) === rule);
    if (held.length === 0) continue;
    const name = `online_${i}`;
    const problem = inexpressible(rule, held);
    if (problem) {
      return {
        config: { config_groups: { [name]: refusal(held) } },
        tensors: [],
        notes: [`only subbyte runs this model: compressed-tensors has no words for ${problem}`],
      };
    }
    groups.push([name, inputGroup(rule, held)]);
    if (!isPlain(rule) || fusedOrders.includes(rule.size))
      tensors.push(matrixTensor(`${held[0].name}.${name}_input`, rule));
  }
  if (groups.length > 0)
    notes.push('vLLM does the online rotations on one GPU; a runtime that ignores transform_config computes nonsense');
  const attention = queryKeyGroup(config);
  if (attention) groups.push(['query_key', attention]);
  return {
    config: groups.length > 0 ? { config_groups: Object.fromEntries(groups) } : undefined,
    tensors,
    notes,
  };
}

const ruleOf = (online: OnlineRotations, layer: string) =>
  online.inputs.findLast(({ match }) => new RegExp(match).test(layer));

/** Sylvester's matrix without signs. */
const isPlain = ({ size, seed }: RotationRule) => hadamardOrder(size)?.base === 1 && seed === undefined;

function inexpressible(rule: RotationRule, layers: readonly RuntimeLayer[]): string | undefined {
  if ((rule.stride ?? 1) > 1) return 'rotations across heads (out with value)';
  if (layers.some(({ weights }) => weights.length > 1)) return 'rotations of the inputs of experts';
  if (!isPlain(rule) && rule.size > largestMatrix) return `a matrix of order ${rule.size}`;
  // one group has one matrix for each order, so its blocks must be of one size
  const whole = layers.filter(({ width }) => width === rule.size).length;
  return whole === 0 || whole === layers.length ? undefined : 'a size that is a block of some layers only';
}

function inputGroup(rule: RotationRule, layers: readonly RuntimeLayer[]) {
  const whole = layers[0].width === rule.size;
  return {
    type: isPlain(rule) ? 'hadamard' : 'random-hadamard',
    apply: [{ targets: layers.map(({ name }) => name), location: 'input', inverse: false, ignore: [] }],
    randomize: false,
    head_dim: whole ? null : rule.size,
  };
}

const refusal = (layers: readonly RuntimeLayer[]) => ({
  type: 'hadamard',
  apply: [{ targets: [layers[0].name], location: 'subbyte-online' }],
});

/** Equal on both sides of the scores, so a runtime without it is right too. */
function queryKeyGroup({ runtime, headDim }: DecoderConfig) {
  if (!runtime.online.queryKey || hadamardOrder(headDim)?.base !== 1) return undefined;
  const at = (location: string) => ({ targets: ['re:.*self_attn$'], location, inverse: false, ignore: [] });
  return { type: 'hadamard', apply: [at('q_attn'), at('k_cache')], randomize: false, head_dim: headDim };
}

/** D · H without its factor 1/√n, in bf16. */
function matrixTensor(name: string, { size, seed }: RotationRule): SafetensorsTensor {
  const data = async () => {
    const signs = seed === undefined ? new Float32Array(size).fill(1) : randomSigns(size, seed);
    const codes = Uint16Array.from(hadamardMatrix(size), (h, i) =>
      h * signs[Math.floor(i / size)] > 0 ? 0x3f80 : 0xbf80,
    );
    return new Uint8Array(codes.buffer);
  };
  return { name: `${name}.weight`, dtype: 'BF16', shape: [size, size], byteLength: 2 * size * size, data };
}

export interface ReadTransforms {
  /** What has to be done online. */
  online: OnlineRotations;
  /** Whether a tensor of the checkpoint belongs to a transform, not to the model. */
  isPart(tensor: string): boolean;
}

/**
 * Reads a transform_config; `widths` are the K of the checkpoint's layers by name. Throws a model error for online
 * transforms that are not plain Hadamard matrices on inputs of layers.
 */
export function readTransforms(
  config: unknown,
  widths: ReadonlyMap<string, number>,
  file: string,
  ownDescription: boolean,
): ReadTransforms {
  const fail = (problem: string, got?: unknown): never => {
    throw modelError({
      code: 'compressed-tensors-transform',
      op: 'read compressed-tensors',
      problem: `transform_config: ${problem}`,
      got: got === undefined ? undefined : String(JSON.stringify(got)).slice(0, 80),
      file,
      fix: 'use a checkpoint whose transforms are merged into its weights',
    });
  };
  const groups = isObject(config) && isObject(config.config_groups) ? Object.entries(config.config_groups) : [];
  if (groups.length > 100) fail('too many groups', groups.length);
  const names = new Set(groups.map(([name]) => name));
  const isPart = (tensor: string) => {
    const part = /\.([^.]+)_(?:input|output|q_attn|k_cache|weight_input|weight_output)\.(?:weight|perm)$/.exec(tensor);
    return part !== null && names.has(part[1]);
  };
  const inputs: RotationRule[] = [];
  const attention = new Set<string>();
  for (const [, group] of ownDescription ? [] : groups) {
    if (!isObject(group) || !Array.isArray(group.apply)) return fail('a group has no list apply', group);
    for (const args of group.apply) {
      const location = isObject(args) ? args.location : undefined;
      if (location === 'weight_input' || location === 'weight_output') continue; // merged already
      if (group.type !== 'hadamard' || group.randomize === true)
        fail('only plain Hadamard matrices can be applied online', group.type);
      if (location === 'q_attn' || location === 'k_cache') attention.add(location);
      else if (location === 'input') inputs.push(...inputRules(group, args as Record<string, unknown>, widths, fail));
      else fail('the location is not supported', location);
    }
  }
  if (attention.size === 1) fail('queries and keys are not rotated alike', [...attention]);
  return { online: { inputs, queryKey: attention.size === 2 }, isPart };
}

function inputRules(
  group: Record<string, unknown>,
  { targets, ignore }: Record<string, unknown>,
  widths: ReadonlyMap<string, number>,
  fail: (problem: string, got?: unknown) => never,
): RotationRule[] {
  const wanted = patterns(targets, fail);
  const unwanted = patterns(ignore ?? [], fail);
  const rules: RotationRule[] = [];
  for (const [layer, width] of widths) {
    if (!wanted(layer) || unwanted(layer)) continue;
    if (layer.includes('.experts.') || !layer.endsWith('_proj'))
      fail('an online transform of this layer is not supported', layer);
    const size = group.head_dim ?? width;
    if (typeof size !== 'number' || hadamardOrder(size)?.base !== 1 || width % size !== 0)
      return fail(`no Hadamard matrix for the ${width} inputs of ${layer}`, size);
    rules.push({ match: `^${layer.replaceAll('.', '\\.')}$`, size });
  }
  return rules;
}

/** Names, `re:` and a pattern that matches from the start, or the class Linear. */
function patterns(value: unknown, fail: (problem: string, got?: unknown) => never): (layer: string) => boolean {
  const list = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(list) || !list.every((t): t is string => typeof t === 'string' && t.length < 1000))
    return fail('targets and ignore are lists of names', value);
  const tests = list.map((target) => {
    if (target === 'Linear') return () => true;
    if (!target.startsWith('re:')) return (layer: string) => layer === target;
    try {
      const pattern = new RegExp(`^(?:${target.slice(3)})`);
      return (layer: string) => pattern.test(layer);
    } catch {
      return fail('a target is no valid regular expression', target);
    }
  });
  return (layer) => tests.some((test) => test(layer));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
