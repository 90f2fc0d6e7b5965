// The option --kv of commands that run a model, and what a quantized cache costs, for their reports.

import { Option } from 'commander';
import { chosenKv } from '../models/block.ts';
import type { DecoderConfig } from '../models/config.ts';
import { type KvBytes, type KvChoice, kvBytes, parseKvScheme, printKvScheme } from '../models/kv-scheme.ts';
import { humanBytes } from './progress.ts';

export const kvOption = () =>
  new Option(
    '--kv <scheme>',
    'quantize keys and values, as in k=int2-channel-g32,v=int2-g32,residual=128; none: keep them exact (default: what the model says)',
  ).argParser(parseKvChoice);

/** `none` or a scheme; throws a user error that names the part which has no meaning. */
function parseKvChoice(text: string): KvChoice {
  return text.trim().toLowerCase() === 'none' ? 'none' : parseKvScheme(text);
}

export interface KvReport extends KvBytes {
  /** The scheme that holds, `none` for exact keys and values. */
  scheme: string;
}

/** What the cache of a model takes a token; throws a user error when the scheme does not suit the model. */
export function reportKv(config: DecoderConfig, choice: KvChoice): KvReport {
  const scheme = chosenKv(config, choice);
  return { scheme: scheme ? printKvScheme(scheme) : 'none', ...kvBytes(scheme ?? 'none', config) };
}

/** `k=… 640 B a token (f32 6.0 KiB, f16 3.0 KiB: 4.8 times smaller), 780 KiB for exact tokens`. */
export function kvLine({ scheme, perToken, perTokenF32, perTokenF16, fixed }: KvReport): string {
  if (scheme === 'none') return `exact, ${humanBytes(perToken)} a token in f32 (f16 ${humanBytes(perTokenF16)})`;
  const times = (perTokenF16 / perToken).toFixed(1);
  const sizes = `f32 ${humanBytes(perTokenF32)}, f16 ${humanBytes(perTokenF16)}: ${times} times smaller than f16`;
  return `${scheme}, ${humanBytes(perToken)} a token (${sizes}), ${humanBytes(fixed)} for the tokens kept exact`;
}
