// How a model's key/value cache is quantized, as a line of text: `k=int2-channel-g32,v=int2-g32,residual=128,sink=4`.
//
//   k         keys. `-channel`: groups of consecutive tokens of one channel (KIVI); without: channels of one token
//   v         values, always per token
//   residual  R: keys are quantized in blocks of R tokens, values when R newer ones exist; 128 when absent
//   sink      tokens at the front that stay exact; 0 when absent
// A rounding is a format's name. Integers have a float minimum (intN-gG-asymf) unless the name says otherwise (asym,
// half, restricted); without a group one scale covers a head of a token. f16, bf16, FP8, MX formats, q8_0 and q4_0 are possible too.
// `nn/kv-cache.ts` says what the scheme means. Source: KIVI (arXiv:2402.02750).

import { SubbyteError, userError } from '../errors.ts';
import { hasIndependentRows, partBytes } from '../formats/empty.ts';
import type { Format } from '../formats/format.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import { elementBits, isInt, isMinifloat } from '../formats/table.ts';
import { type KvScheme, keyGroup, ringTokens } from '../nn/kv-cache.ts';

/** A scheme, `none` for exact keys and values, or undefined for what the model's own file says. */
export type KvChoice = KvScheme | 'none' | undefined;

const defaultResidual = 128;
const mostResidual = 2 ** 16;
const mostSinks = 2 ** 12;
/** A group of more tokens would never be complete. */
const mostGroup = 2 ** 12;
const example = 'k=int2-channel-g32,v=int2-g32,residual=128';

const wrong = (problem: string, got: string, expected: string, fix?: string) =>
  userError({ code: 'kv-scheme', op: 'kv', problem, got, expected, fix });

/**
 * The scheme that a text stands for.
 *
 * @throws user error that names the part which has no meaning
 * @example parseKvScheme('k=int4-channel-g32,v=int4-g32,residual=64')
 */
export function parseKvScheme(text: string): KvScheme {
  const parts = new Map<string, string>();
  for (const part of text.split(',')) {
    const [, key, value] = /^\s*(\w+)\s*=\s*([^\s=]+)\s*$/.exec(part) ?? [];
    if (!key || !['k', 'v', 'residual', 'sink'].includes(key))
      throw wrong(
        'a part of the scheme has no meaning',
        JSON.stringify(part.slice(0, 64)),
        `k, v, residual and sink as in ${example}`,
      );
    if (parts.has(key)) throw wrong(`${key} is given twice`, JSON.stringify(text.slice(0, 64)), `one ${key}`);
    parts.set(key, value);
  }
  const rounding = (key: 'k' | 'v') => {
    const value = parts.get(key);
    if (value === undefined)
      throw wrong(`${key} is missing`, JSON.stringify(text.slice(0, 64)), `k and v as in ${example}`);
    return parseRounding(key, value);
  };
  const keys = rounding('k');
  const values = rounding('v');
  const residual = parseTokens(parts, 'residual', defaultResidual, mostResidual);
  const sinks = parseTokens(parts, 'sink', 0, mostSinks);
  const scheme: KvScheme = { keys, values: values.format, residual, sinks };
  const group = keyGroup(scheme);
  if (residual % group !== 0)
    throw wrong(
      'the residual window does not consist of whole groups of keys',
      `residual=${residual}`,
      `a multiple of ${group}`,
    );
  return scheme;
}

function parseTokens(parts: ReadonlyMap<string, string>, key: string, absent: number, most: number): number {
  const value = parts.get(key);
  if (value === undefined) return absent;
  const n = Number(value);
  if (/^\d+$/.test(value) && n <= most) return n;
  throw wrong(`${key} is no number of tokens`, JSON.stringify(value), `0 to ${most}`);
}

function parseRounding(key: 'k' | 'v', text: string): KvScheme['keys'] {
  const tokens = text.toLowerCase().split('-');
  const perChannel = tokens.includes('channel');
  if (perChannel && key === 'v')
    throw wrong(
      'values are rounded per token',
      `v=${text}`,
      'v without -channel',
      'groups of values run along the head dimension',
    );
  let format = parseFormat(tokens.filter((t) => t !== 'channel').join('-'));
  if (format.kind === 'quant') {
    if (isPlainInteger(format) && !tokens.includes('restricted')) format = { ...format, zeroPoint: 'float' };
    if (format.granularity.kind === 'tensor' && !tokens.includes('tensor'))
      format = { ...format, granularity: { kind: 'token' } };
  }
  const problem = reasonAgainst(format, perChannel);
  if (problem)
    throw wrong(`a cache cannot be in this format: ${problem}`, `${key}=${text}`, `a rounding as in ${example}`);
  return { per: perChannel ? 'channel' : 'token', format };
}

/** Symmetric integers ±(2^(b−1) − 1) with real scales, which a name gives that says nothing else. */
function isPlainInteger(format: Format): boolean {
  if (format.kind !== 'quant' || !isInt(format.element) || format.scale.format === 'e8m0') return false;
  return format.zeroPoint === 'none' && format.range === 'restricted';
}

/** Why a format cannot hold keys or values, or undefined when it can. */
function reasonAgainst(format: Format, perChannel: boolean): string | undefined {
  if (format.kind === 'float') {
    if (perChannel) return '16-bit floats have no groups';
    return format.name === 'f32' ? 'exact keys and values are the scheme "none"' : undefined;
  }
  if (format.kind === 'ggml')
    return format.type === 'q8_0' || format.type === 'q4_0'
      ? perChannel
        ? 'blocks of ggml run along the head dimension'
        : undefined
      : 'of the ggml types q8_0 and q4_0 are possible';
  if (format.kind !== 'quant') return 'it has no scales of groups or tokens';
  if (!hasIndependentRows(format)) return 'its scales cover several tokens';
  if (!isInt(format.element) && !isMinifloat(format.element)) return 'codebooks are not rounded to while a model runs';
  const { format: scale, rule } = format.scale;
  const direct = scale === 'e8m0' ? ['floor', 'ceil', 'even', 'rceil'] : ['absmax'];
  if (!direct.includes(rule) || format.choice !== 'none')
    return 'its scales are searched for, which a running model cannot';
  if (format.rounding !== 'nearest-even') return 'a cache rounds to nearest';
  if (!perChannel) return undefined;
  if (format.granularity.kind !== 'group') return 'keys per channel need a group of tokens, as in int2-channel-g32';
  if (format.granularity.size > mostGroup) return `a group has at most ${mostGroup} tokens`;
  return (format.granularity.size * elementBits(format.element)) % 8 === 0
    ? undefined
    : 'a group must fill whole bytes';
}

/** Prints a scheme; parseKvScheme gives it back. */
export function printKvScheme({ keys, values, residual, sinks }: KvScheme): string {
  const name = (format: Format, channel: boolean) => {
    const tokens = formatName(format)
      .split('-')
      .filter((t) => t !== 'channel' && t !== 'token' && t !== 'asymf');
    const at = tokens.findIndex((t) => /^g\d+$/.test(t));
    if (channel) tokens.splice(at < 0 ? tokens.length : at, 0, 'channel');
    return [...tokens, ...(isPlainInteger(format) ? ['restricted'] : [])].join('-');
  };
  const parts = [`k=${name(keys.format, keys.per === 'channel')}`, `v=${name(values, false)}`, `residual=${residual}`];
  return [...parts, ...(sinks > 0 ? [`sink=${sinks}`] : [])].join(',');
}

interface KvModel {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Throws a user error when a rounding does not suit the head dimension. */
export function checkKvScheme(scheme: KvScheme, { headDim }: KvModel): void {
  const fits = (key: string, format: Format) => {
    try {
      partBytes(format, 1, headDim);
    } catch (error) {
      if (!(error instanceof SubbyteError)) throw error;
      const groups = [8, 16, 20, 32, 40, 64, 128].filter((g) => headDim % g === 0);
      throw wrong(
        `${key} does not suit the model's head dimension`,
        `${formatName(format)} for heads of ${headDim}`,
        `a group that divides ${headDim}`,
        `${groups.length > 0 ? `use ${groups.map((g) => `g${g}`).join(', ')}, or ` : ''}leave the group out`,
      );
    }
  };
  fits('v', scheme.values);
  if (scheme.keys.per === 'token') fits('k', scheme.keys.format);
}

export interface KvBytes {
  /** Bytes that one more token takes in all layers, packed. */
  readonly perToken: number;
  readonly perTokenF32: number;
  readonly perTokenF16: number;
  /** Bytes of the tokens that are kept exact, whatever the length of the text: residual window, block and sinks. */
  readonly fixed: number;
}

/** What a cache under a scheme takes; `none`: exact f32, as attention without a scheme keeps it. */
export function kvBytes(scheme: KvScheme | 'none', model: KvModel): KvBytes {
  const { layers, kvHeads, headDim } = model;
  const values = 2 * layers * kvHeads * headDim;
  const plain = { perTokenF32: 4 * values, perTokenF16: 2 * values };
  if (scheme === 'none') return { perToken: 4 * values, ...plain, fixed: 0 };
  const total = (format: Format, cols: number) => partBytes(format, 1, cols).reduce((a, b) => a + b);
  const group = keyGroup(scheme);
  const { format, per } = scheme.keys;
  const keys = per === 'channel' ? (headDim * total(format, group)) / group : total(format, headDim);
  return {
    perToken: layers * kvHeads * (keys + total(scheme.values, headDim)),
    ...plain,
    fixed: 4 * values * ringTokens(scheme, Infinity, 1),
  };
}
