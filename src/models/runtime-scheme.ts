// What a model's file says about running it, beyond its weights: formats of activations, and what methods add to the
// computation.
//
// Problem: weights that were quantized together with activations, or after a transformation that is undone while the
// model runs, are only right in a runtime that does its part; other programs must be able to see that.
// Method: one object `subbyte` in config.json, checked where it is read. A model without it runs plainly.
// It does not do: the corresponding entries of compressed-tensors, which its own reader and writer translate.

import { SubbyteError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import type { KvScheme } from '../nn/kv-cache.ts';
import { type Fields, problem } from './fields.ts';
import { parseKvScheme, printKvScheme } from './kv-scheme.ts';

/** Linear layers by a regular expression that is searched for in their names, and the format of their inputs. */
export interface ActivationRule {
  readonly match: string;
  readonly format: Format;
}

export interface RuntimeScheme {
  /** The last rule that matches a layer holds; none: inputs stay in f32. */
  readonly activations: readonly ActivationRule[];
  /** How keys and values are quantized, `kv` as kv-scheme.ts prints it; absent: they are exact. */
  readonly kv?: KvScheme;
}

/** A model that runs plainly. */
export const plainRuntime: RuntimeScheme = { activations: [] };

const mostRules = 1000;
const longestPattern = 500;

/** Reads config.json's `subbyte`; throws a model error that names the field. */
export function parseRuntime(f: Fields): RuntimeScheme {
  const own = f.object('subbyte');
  if (!own) return plainRuntime;
  const rules = own.optionalList('activations') ?? [];
  if (rules.length > mostRules) throw problem(own.place, 'activations', rules.length, `at most ${mostRules} rules`);
  return { activations: rules.map((rule, i) => parseRule(rule, own, `activations[${i}]`)), ...parseKv(own) };
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

function parseRule(rule: unknown, own: Fields, field: string): ActivationRule {
  const { match, format } = (rule ?? {}) as Record<string, unknown>;
  if (typeof match !== 'string' || typeof format !== 'string' || match.length > longestPattern)
    throw problem(own.place, field, rule, '{"match": a regular expression, "format": a format}');
  try {
    new RegExp(match);
    return { match, format: parseFormat(format) };
  } catch (error) {
    if (error instanceof SubbyteError) throw problem(own.place, field, format, error.message);
    throw problem(own.place, field, match, 'a regular expression');
  }
}

/** The object for config.json; undefined for a model that runs plainly. */
export function printRuntime({ activations, kv }: RuntimeScheme): Record<string, unknown> | undefined {
  const printed = {
    ...(activations.length > 0 && {
      activations: activations.map(({ match, format }) => ({ match, format: formatName(format) })),
    }),
    ...(kv && { kv: printKvScheme(kv) }),
  };
  return Object.keys(printed).length > 0 ? printed : undefined;
}

/** The format of a layer's input; undefined: f32. */
export function activationFormat(scheme: RuntimeScheme, layer: string): Format | undefined {
  return scheme.activations.findLast(({ match }) => new RegExp(match).test(layer))?.format;
}
