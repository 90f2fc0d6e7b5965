// What a model's file says about running it, beyond its weights: formats of activations, and what methods add to the
// computation.
//
// Problem: weights that were quantized together with activations, or after a transformation that is undone while the
// model runs, are only right in a runtime that does its part; other programs must be able to see that.
// Method: one object `subbyte` in config.json, checked where it is read. A model without it runs plainly.
//
//   "subbyte": {
//     "activations": [{ "match": "proj$", "format": "int8-token" },
//                     { "match": "down_proj$", "format": "int8-tensor", "scale": 0.0371 }],
//     "online": { "inputs": [{ "match": "down_proj$", "size": 1024, "stride": 1, "seed": 7 }], "queryKey": true },
//     "kv": "k=int4-channel-g32,v=int4-g32,residual=128"
//   }
//
// A rule with a `scale` (and `zeroPoint`, where the format has one) is static: calibration fixed it, and values beyond it
// are clipped. `online.inputs` are rotations of layers' inputs (nn/hadamard.ts), before they are quantized; `online.queryKey` rotates
// each head of q and k after RoPE; `kv` says how keys and values are quantized (kv-scheme.ts). Layers are named as the graph names them: experts by their stack, `…experts.down`.
// It does not do: the corresponding entries of compressed-tensors, which its own reader and writer translate.

import { SubbyteError } from '../errors.ts';
import { type FixedScale, fixedScaleFormats, fixedScaleProblem, takesFixedScale } from '../formats/fixed-scale.ts';
import type { Format } from '../formats/format.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import type { Rotation } from '../nn/hadamard.ts';
import type { KvScheme } from '../nn/kv-cache.ts';
import type { Activation } from '../nn/linear.ts';
import { hadamardOrder } from '../tensor/hadamard.ts';
import { Fields, problem } from './fields.ts';
import { parseKvScheme, printKvScheme } from './kv-scheme.ts';

/** Linear layers by a regular expression that is searched for in their names, and how their inputs are rounded. */
export interface ActivationRule extends Activation {
  readonly match: string;
}

/** Linear layers whose input is rotated while the model runs. */
export interface RotationRule extends Rotation {
  readonly match: string;
}

/** What is computed online because it cannot be merged into weights. */
export interface OnlineRotations {
  /** The last rule that matches a layer holds; none: its input is not rotated. */
  readonly inputs: readonly RotationRule[];
  /** Each head of q and k is rotated after RoPE. Scores stay as they are: for quantized keys. */
  readonly queryKey: boolean;
}

export interface RuntimeScheme {
  /** The last rule that matches a layer holds; none: inputs stay in f32. */
  readonly activations: readonly ActivationRule[];
  readonly online: OnlineRotations;
  /** How keys and values are quantized, `kv` as kv-scheme.ts prints it; absent: they are exact. */
  readonly kv?: KvScheme;
}

/** Nothing is rotated. */
export const noRotations: OnlineRotations = { inputs: [], queryKey: false };

/** A model that runs plainly. */
export const plainRuntime: RuntimeScheme = { activations: [], online: noRotations };

const mostRules = 1000;
const longestPattern = 500;
const largestSize = 2 ** 20;

/** Reads config.json's `subbyte`; throws a model error that names the field. */
export function parseRuntime(f: Fields): RuntimeScheme {
  const own = f.object('subbyte');
  if (!own) return plainRuntime;
  return {
    activations: readRules(own, 'activations').map((rule, i) => parseActivation(rule, own, `activations[${i}]`)),
    online: parseOnline(own.object('online')),
    ...parseKv(own),
  };
}

function parseKv(own: Fields): Pick<RuntimeScheme, 'kv'> {
  const text = own.optionalText('kv');
  if (text === undefined) return {};
  try {
    return { kv: parseKvScheme(text) };
  } catch (error) {
    if (error instanceof SubbyteError) throw problem(own.place, 'kv', text, error.message);
    throw error;
  }
}

function readRules(f: Fields, name: string): unknown[] {
  const rules = f.optionalList(name) ?? [];
  if (rules.length > mostRules) throw problem(f.place, name, rules.length, `at most ${mostRules} rules`);
  return rules;
}

function parseActivation(rule: unknown, own: Fields, field: string): ActivationRule {
  const { match, format: name, ...rest } = (rule ?? {}) as Record<string, unknown>;
  if (typeof match !== 'string' || typeof name !== 'string')
    throw problem(own.place, field, rule, '{"match": a regular expression, "format": a format}');
  checkPattern(match, own, field);
  let format: Format;
  try {
    format = parseFormat(name);
  } catch (error) {
    if (error instanceof SubbyteError) throw problem(own.place, field, name, error.message);
    throw error;
  }
  const { file, path } = own.place;
  return { match, format, ...parseFixed(new Fields(rest, { file, path: `${path}${field}.` }), format) };
}

function parseFixed(f: Fields, format: Format): Pick<ActivationRule, 'fixed'> {
  refuseUnknown(f, ['scale', 'zeroPoint']);
  if (!f.has('scale') && !f.has('zeroPoint')) return {};
  const scale = Math.fround(f.positive('scale'));
  if (!takesFixedScale(format)) throw problem(f.place, 'scale', scale, `a format with ${fixedScaleFormats}`);
  const zeroPoint = f.value('zeroPoint') as number | undefined;
  const fixed: FixedScale = { scale, ...(zeroPoint !== undefined && { zeroPoint }) };
  const expected = fixedScaleProblem(format, fixed);
  if (expected === undefined) return { fixed };
  throw expected.startsWith('a scale')
    ? problem(f.place, 'scale', scale, expected)
    : problem(f.place, 'zeroPoint', zeroPoint, expected);
}

function checkPattern(match: string, f: Fields, field: string): void {
  const expected = `a regular expression of at most ${longestPattern} characters`;
  if (match.length > longestPattern) throw problem(f.place, field, match, expected);
  try {
    new RegExp(match);
  } catch {
    throw problem(f.place, field, match, expected);
  }
}

function parseOnline(f: Fields | undefined): OnlineRotations {
  if (!f) return noRotations;
  refuseUnknown(f, ['inputs', 'queryKey']);
  return {
    inputs: readRules(f, 'inputs').map((rule, i) => parseRotation(rule, f, `inputs[${i}]`)),
    queryKey: f.optionalFlag('queryKey') ?? false,
  };
}

function parseRotation(rule: unknown, online: Fields, field: string): RotationRule {
  const { file, path } = online.place;
  if (typeof rule !== 'object' || rule === null)
    throw problem(online.place, field, rule, '{"match": a regular expression, "size": a number}');
  const f = new Fields(rule, { file, path: `${path}${field}.` });
  refuseUnknown(f, ['match', 'size', 'stride', 'seed']);
  const match = f.value('match');
  if (typeof match !== 'string') throw problem(f.place, 'match', match, 'a regular expression');
  checkPattern(match, f, 'match');
  const size = f.count('size', largestSize);
  if (!hadamardOrder(size)) throw problem(f.place, 'size', size, 'an order that has a Hadamard matrix');
  const stride = f.optionalCount('stride', largestSize);
  const seed = f.value('seed');
  if (seed !== undefined && (typeof seed !== 'number' || seed !== seed >>> 0))
    throw problem(f.place, 'seed', seed, 'a whole number below 2^32');
  return { match, size, ...(stride === undefined ? {} : { stride }), ...(seed === undefined ? {} : { seed }) };
}

/** A key that is not understood here changes what the model computes. */
function refuseUnknown(f: Fields, known: readonly string[]): void {
  const unknown = f.names().find((name) => !known.includes(name));
  if (unknown !== undefined) throw problem(f.place, unknown, f.value(unknown), `only ${known.join(', ')}`);
}

/** The object for config.json; undefined for a model that runs plainly. */
export function printRuntime({ activations, online, kv }: RuntimeScheme): Record<string, unknown> | undefined {
  const printed = {
    ...(activations.length > 0 && {
      activations: activations.map(({ match, format, fixed }) => ({ match, format: formatName(format), ...fixed })),
    }),
    ...((online.inputs.length > 0 || online.queryKey) && {
      online: {
        ...(online.inputs.length > 0 && { inputs: online.inputs }),
        ...(online.queryKey && { queryKey: true }),
      },
    }),
    ...(kv && { kv: printKvScheme(kv) }),
  };
  return Object.keys(printed).length > 0 ? printed : undefined;
}

/** How a layer's input is rounded; undefined: it stays in f32. */
export function layerActivation(scheme: RuntimeScheme, layer: string): Activation | undefined {
  const rule = scheme.activations.findLast(({ match }) => new RegExp(match).test(layer));
  return rule && { format: rule.format, ...(rule.fixed && { fixed: rule.fixed }) };
}

/**
 * Rules for layers with scales of their own; layers of one module that are rounded alike share a rule.
 *
 * @param layers by name
 */
export function fixedRules(layers: ReadonlyMap<string, Activation>): ActivationRule[] {
  const alike = new Map<string, { at: string; parts: string[]; activation: Activation }>();
  for (const [name, activation] of layers) {
    const cut = name.lastIndexOf('.') + 1;
    const at = name.slice(0, cut);
    const key = JSON.stringify([at, formatName(activation.format), activation.fixed]);
    const rule = alike.get(key) ?? { at, parts: [], activation };
    rule.parts.push(name.slice(cut));
    alike.set(key, rule);
  }
  const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return [...alike.values()].map(({ at, parts, activation }) => {
    const names = parts.map(literal).join('|');
    return { match: `^${literal(at)}${parts.length > 1 ? `(?:${names})` : names}$`, ...activation };
  });
}

/** The online rotation of a layer's input; undefined: none. */
export function inputRotation(scheme: RuntimeScheme, layer: string): Rotation | undefined {
  const rule = scheme.online.inputs.findLast(({ match }) => new RegExp(match).test(layer));
  if (!rule) return undefined;
  const { match: _, ...rotation } = rule;
  return rotation;
}
