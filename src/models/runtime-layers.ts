// The linear layers of a decoder under the names that graphs and `subbyte` rules use for them.
//
// A dense layer has the name of its weight without `.weight`; the same matrix of all experts of a layer is one stack,
// `model.layers.0.mlp.experts.down`, whatever the family calls it (w2 in Mixtral).

import { modelError } from '../errors.ts';
import type { DecoderConfig } from './config.ts';
import { inputRotation } from './runtime-scheme.ts';
import { expectedTensors, expertNames } from './tensors.ts';

export interface RuntimeLayer {
  readonly name: string;
  /** K, width of the input. */
  readonly width: number;
  /** Names of its weights in checkpoints: one, or those of the experts in order. */
  readonly weights: readonly string[];
}

/** All linear layers in the order of the forward pass. */
export function runtimeLayers(config: DecoderConfig): RuntimeLayer[] {
  const layers = new Map<string, RuntimeLayer & { weights: string[] }>();
  for (const [weight, { role, shape }] of expectedTensors(config)) {
    if (role !== 'linear') continue;
    const name = runtimeName(config, weight);
    const layer = layers.get(name) ?? { name, width: shape[1], weights: [] };
    layer.weights.push(weight);
    layers.set(name, layer);
  }
  return [...layers.values()];
}

/** The layer that a checkpoint's weight belongs to: `…experts.3.w2.weight` is part of `…experts.down`. */
export function runtimeName(config: DecoderConfig, weight: string): string {
  const expert = /^model\.layers\.(\d+)\.(.*\.experts)\.\d+\.(\w+)\.weight$/.exec(weight);
  if (!expert) return weight.replace(/\.weight$/, '');
  const [, layer, at, matrix] = expert;
  const { mlp } = expertNames(config, Number(layer));
  const part = (['gate', 'up', 'down'] as const).find((p) => mlp[p] === matrix);
  return `model.layers.${layer}.${at}.${part}`;
}

/** Throws a model error when a rotation of the config does not fit the width of a layer that it matches. */
export function checkRotations(config: DecoderConfig, file: string): void {
  if (config.runtime.online.inputs.length === 0) return;
  for (const { name, width } of runtimeLayers(config)) {
    const { size, stride = 1 } = inputRotation(config.runtime, name) ?? { size: 1 };
    if (width % (size * stride) === 0) continue;
    throw modelError({
      code: 'config-rotation',
      op: 'config',
      problem: `an online rotation of subbyte.online.inputs does not fit the input of ${name}`,
      got: stride === 1 ? `size ${size}` : `size ${size}, stride ${stride}`,
      expected: `a divisor of ${width}`,
      file,
    });
  }
}
