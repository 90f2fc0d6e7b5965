// Which linear layers of a block share an input, and where a scale on that input can go: the table that scaling methods
// (SmoothQuant, AWQ) and layer-by-layer calibration walk along.
//
// Problem: y = W · x stays the same when channel j of x is divided by s_j and column j of W multiplied by it, in every
// layer that reads x, provided that whatever produces x can be divided for good: a norm's gain, or the rows of the
// linear layer before.
// Method: for each block the subsets in the order of the computation:
//   input norm → q, k, v                     error measured behind the attention
//   v → o                                    behind o
//   post-attention norm → gate, up           behind the MLP; with experts all of theirs, the router and the shared gate
//   up → down                                behind down; each expert by itself. down(silu(gate) · up): up is linear in it
// Source: AWQ (arXiv:2306.00978), its auto_scale; LightCompress' subsets. It does not do: scales of q against k, of
// which RoPE would need equal pairs.

import type { DecoderConfig } from './config.ts';
import { runtimeName } from './runtime-layers.ts';
import { inputRotation } from './runtime-scheme.ts';
import { expertNames } from './tensors.ts';

/** What the input of a subset can be divided in: the gain (and bias) of a norm, or the rows of a linear layer. */
export interface Producer {
  readonly kind: 'norm' | 'rows';
  /** Name without `.weight`. */
  readonly name: string;
}

export interface Subset {
  /** Linear layers that are quantized, named without `.weight`, in the order of the computation. */
  readonly layers: readonly string[];
  /** Others that read the same input and stay as they are: routers and the shared expert's gate. */
  readonly others: readonly string[];
  /** K, width of the shared input. */
  readonly width: number;
  readonly producer: Producer | undefined;
  /** Why there is no producer, as a clause. */
  readonly fixed: string | undefined;
  /** The module whose output shows the error of these layers. */
  readonly inspect: string;
}

/** The subsets of one layer of a decoder, in the order of the computation. */
export function layerSubsets(config: DecoderConfig, layer: number): Subset[] {
  const at = `model.layers.${layer}`;
  const attention = `${at}.self_attn`;
  const headWidth = config.heads * config.headDim;
  const make = (s: Omit<Subset, 'others' | 'fixed'> & Partial<Subset>): Subset => {
    const turned = s.layers.some((name) => inputRotation(config.runtime, runtimeName(config, `${name}.weight`)));
    const subset = { others: [], fixed: undefined, ...s };
    return turned
      ? { ...subset, producer: undefined, fixed: 'the input is rotated online behind its producer' }
      : subset;
  };
  const grouped = config.heads !== config.kvHeads;
  return [
    make({
      layers: ['q_proj', 'k_proj', 'v_proj'].map((name) => `${attention}.${name}`),
      width: config.hiddenSize,
      producer: { kind: 'norm', name: `${at}.input_layernorm` },
      inspect: attention,
    }),
    make({
      layers: [`${attention}.o_proj`],
      width: headWidth,
      producer: grouped ? undefined : { kind: 'rows', name: `${attention}.v_proj` },
      fixed: grouped
        ? 'several query heads share a value head, so one row of v_proj would have to take the scales of several inputs of o_proj'
        : undefined,
      inspect: `${attention}.o_proj`,
    }),
    ...mlpSubsets(config, layer).map(make),
  ];
}

type Unchecked = Omit<Subset, 'others' | 'fixed'> & Partial<Subset>;

function mlpSubsets(config: DecoderConfig, layer: number): Unchecked[] {
  const at = `model.layers.${layer}`;
  const norm: Producer = { kind: 'norm', name: `${at}.post_attention_layernorm` };
  const { experts, hiddenSize } = config;
  const plain = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };
  const output = (prefix: string, names: typeof plain, width: number): Unchecked => ({
    layers: [`${prefix}.${names.down}`],
    width,
    producer: { kind: 'rows', name: `${prefix}.${names.up}` },
    inspect: `${prefix}.${names.down}`,
  });
  const inputs = (prefix: string, names: typeof plain) => [`${prefix}.${names.gate}`, `${prefix}.${names.up}`];
  if (!experts?.sparse[layer])
    return [
      { layers: inputs(`${at}.mlp`, plain), width: hiddenSize, producer: norm, inspect: `${at}.mlp` },
      output(`${at}.mlp`, plain, config.mlpSize),
    ];
  const { prefix, mlp } = expertNames(config, layer);
  const each = Array.from({ length: experts.count }, (_, e) => `${prefix}.experts.${e}`);
  const shared = experts.sharedSize > 0 ? [`${prefix}.shared_expert`] : [];
  return [
    {
      layers: [...each.flatMap((e) => inputs(e, mlp)), ...shared.flatMap((s) => inputs(s, plain))],
      others: [`${prefix}.gate`, ...shared.map(() => `${prefix}.shared_expert_gate`)],
      width: hiddenSize,
      producer: norm,
      inspect: prefix,
    },
    ...each.map((e) => output(e, mlp, experts.size)),
    ...shared.map((s) => output(s, plain, experts.sharedSize)),
  ];
}

/** The subsets of the whole model, layer by layer. */
export function modelSubsets(config: DecoderConfig): Subset[] {
  return Array.from({ length: config.layers }, (_, layer) => layerSubsets(config, layer)).flat();
}
