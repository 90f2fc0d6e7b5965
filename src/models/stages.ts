// A transformer block in stages, cut where its linear layers read their inputs.
//
//   qkv      hidden                → x₁ = norm(hidden), the input of q, k and v
//   o        hidden                → heads = attention(q x₁, k x₁, v x₁), the input of o
//   gateUp   hidden, heads         → middle = hidden + o heads;  x₂ = norm(middle), the input of gate and up
//   down     middle                → gated = silu(gate x₂) · up x₂, the input of down
//   end      middle, gated         → next = middle + down gated
//
// A layer of experts has `gated` [N, k, I] for the experts' choices and, with a shared expert, `shared` [N, I].
// Calibration collects what the linear layers of a stage read, rounds these layers, and goes on to the next stage with
// the rounded ones: every product is computed once, and later layers see what earlier ones do to their inputs.
// The arithmetic is block.ts's; stages only say where to stop. N = B·T rows.

import type { Graph, Value, ValueType } from '../graph/graph.ts';
import { add, sub } from '../graph/ops/arithmetic.ts';
import { gramUpdate } from '../graph/ops/gram.ts';
import { trace } from '../graph/trace.ts';
import { f32 } from '../graph/value-type.ts';
import { attentionHeads } from '../nn/attention.ts';
import { combineExperts, expertHidden, route, sharedExpert } from '../nn/experts.ts';
import { linear, observedInput, rotatedInput } from '../nn/linear.ts';
import { gatedHidden } from '../nn/mlp.ts';
import { type Block, type BlockOptions, openBlock, paramSource, windowPositions } from './block.ts';
import type { DecoderConfig } from './config.ts';
import { expertNames } from './tensors.ts';

export const stages = ['qkv', 'o', 'gateUp', 'down', 'end'] as const;
export type Stage = (typeof stages)[number];

/** Values that stages hand on, as rows of N. */
export type StageValue = 'hidden' | 'heads' | 'middle' | 'gated' | 'shared' | 'next';

/** Linear layers of a block that read the same input. */
export interface Site {
  readonly stage: Exclude<Stage, 'end'>;
  /** Unique within the block: the stage, or `shared.gateUp` and `shared.down`. */
  readonly name: string;
  /** K */
  readonly features: number;
  /** Names of the layers without `.weight`. Of routed sites, those of expert 0 first, then of expert 1, … */
  readonly layers: readonly string[];
  /** E where each row is read by the experts that its token is sent to; 0: all layers read all rows. */
  readonly experts: number;
}

/** The sites of layer `layer`, in the order of the forward pass. */
export function blockSites(config: DecoderConfig, layer: number): Site[] {
  const { hiddenSize: C, heads, headDim, experts } = config;
  const at = `model.layers.${layer}`;
  const site = (stage: Site['stage'], name: string, features: number, layers: string[], routed = 0): Site => ({
    stage,
    name,
    features,
    layers,
    experts: routed,
  });
  const attention = ['q', 'k', 'v'].map((part) => `${at}.self_attn.${part}_proj`);
  const sites = [site('qkv', 'qkv', C, attention), site('o', 'o', heads * headDim, [`${at}.self_attn.o_proj`])];
  if (!experts?.sparse[layer])
    return [
      ...sites,
      site('gateUp', 'gateUp', C, [`${at}.mlp.gate_proj`, `${at}.mlp.up_proj`]),
      site('down', 'down', config.mlpSize, [`${at}.mlp.down_proj`]),
    ];
  const { prefix, mlp } = expertNames(config, layer);
  const each = (...parts: string[]) =>
    Array.from({ length: experts.count }, (_, e) => parts.map((part) => `${prefix}.experts.${e}.${part}`)).flat();
  const shared = `${prefix}.shared_expert`;
  return [
    ...sites,
    site('gateUp', 'gateUp', C, each(mlp.gate, mlp.up), experts.count),
    ...(experts.sharedSize ? [site('gateUp', 'shared.gateUp', C, [`${shared}.gate_proj`, `${shared}.up_proj`])] : []),
    site('down', 'down', experts.size, each(mlp.down), experts.count),
    ...(experts.sharedSize ? [site('down', 'shared.down', experts.sharedSize, [`${shared}.down_proj`])] : []),
  ];
}

/** What a stage reads and hands on. */
export function stageValues(
  config: DecoderConfig,
  layer: number,
  stage: Stage,
): { reads: StageValue[]; gives: StageValue[] } {
  const { experts } = config;
  const gated: StageValue[] = experts?.sparse[layer] && experts.sharedSize ? ['gated', 'shared'] : ['gated'];
  switch (stage) {
    case 'qkv':
      return { reads: ['hidden'], gives: [] };
    case 'o':
      return { reads: ['hidden'], gives: ['heads'] };
    case 'gateUp':
      return { reads: ['hidden', 'heads'], gives: ['middle'] };
    case 'down':
      return { reads: ['middle'], gives: gated };
    case 'end':
      return { reads: ['middle', ...gated], gives: ['next'] };
  }
}

/** Numbers in a row of a value. */
export function rowWidth(config: DecoderConfig, layer: number, value: StageValue): number {
  const { experts } = config;
  switch (value) {
    case 'heads':
      return config.heads * config.headDim;
    case 'gated':
      return experts?.sparse[layer] ? experts.perToken * experts.size : config.mlpSize;
    case 'shared':
      return experts?.sharedSize ?? 0;
    default:
      return config.hiddenSize;
  }
}

/** What a stage collects at a site. */
export interface Collect {
  /** State `<site>.gram`: Σ x xᵀ, for each expert where rows are routed. */
  gram: boolean;
  /** State `<site>.cross`: Σ (x' − x) xᵀ, x' the input `<site>.float` [N, K] of the unrounded model. */
  cross: boolean;
  /** Output `<site>.x` [N, K], or [N, k, K] of the experts' last layers: the input as the product reads it. */
  input: boolean;
  /** Output `<site>.exact` of the same shape: the input before it is rounded. */
  exact?: boolean;
}

export interface StageOptions extends BlockOptions {
  collect?: (site: Site) => Collect | undefined;
}

/**
 * The graph of one stage: inputs and outputs are the stage's values by name; routed sites have the output
 * `<site>.experts` i32 [N, k]. `types` are those of the block's parameters.
 */
export function buildStage(
  config: DecoderConfig,
  layer: number,
  stage: Stage,
  types: ReadonlyMap<string, ValueType>,
  options: StageOptions,
): Graph {
  const rows = options.batch * options.tokens;
  return trace((g) => {
    const block = openBlock(paramSource(g, { types }), config, layer, options);
    const { reads } = stageValues(config, layer, stage);
    const values = new Map<StageValue, Value>();
    for (const name of reads) {
      const width = rowWidth(config, layer, name);
      const routed = name === 'gated' && block.isSparse;
      const perToken = config.experts?.perToken ?? 1;
      values.set(name, g.input(name, f32(routed ? [rows, perToken, width / perToken] : [rows, width])));
    }
    const read = (name: StageValue) => values.get(name) as Value;
    const observe = (name: string, unrounded: Value, observed: ObservedLayer, experts?: Value) => {
      const site = blockSites(config, layer).find((s) => s.name === name);
      const collect = site && options.collect?.(site);
      if (!collect) return;
      const K = site.features;
      const shape = experts ? [site.experts, K, K] : [K, K];
      if (experts) g.output(`${name}.experts`, experts);
      if (collect.exact) g.output(`${name}.exact`, rotatedInput(unrounded, observed));
      if (!collect.input && !collect.gram && !collect.cross) return;
      const x = observedInput(unrounded, observed);
      if (collect.input) g.output(`${name}.x`, x);
      if (collect.gram)
        g.output(`${name}.sum`, gramUpdate(g.state(`${name}.gram`, f32(shape)), x, { indices: experts }));
      if (!collect.cross) return;
      const difference = sub(g.input(`${name}.float`, f32(x.type.shape)), x);
      const cross = gramUpdate(g.state(`${name}.cross`, f32(shape)), difference, { b: x, indices: experts });
      g.output(`${name}.crossSum`, cross);
    };
    g.scope(`layers.${layer}.${stage}`, () => {
      const result = runStage(block, stage, read, observe, () =>
        windowPositions(g, config, options.batch, options.tokens),
      );
      for (const [name, value] of Object.entries(result)) g.output(name, value);
    });
  });
}

/** A layer of the site: all of them have the same rotation and rounding. */
type ObservedLayer = Parameters<typeof observedInput>[1];
type Observe = (site: string, unrounded: Value, layer: ObservedLayer, experts?: Value) => void;

function runStage(
  block: Block,
  stage: Stage,
  read: (name: StageValue) => Value,
  observe: Observe,
  positions: () => ReturnType<typeof windowPositions>,
): Partial<Record<StageValue, Value>> {
  switch (stage) {
    case 'qkv': {
      observe('qkv', block.norm(read('hidden'), 'input_layernorm'), block.attention().q);
      return {};
    }
    case 'o': {
      const x = block.norm(read('hidden'), 'input_layernorm');
      const heads = attentionHeads(x, block.attention(), block.shape, positions());
      observe('o', heads, block.attention().output);
      return { heads };
    }
    case 'gateUp': {
      const middle = add(read('hidden'), linear(read('heads'), block.attention().output));
      const x = block.norm(middle, 'post_attention_layernorm');
      if (!block.isSparse) {
        observe('gateUp', x, block.mlp().gate);
        return { middle };
      }
      const sparse = block.sparse();
      observe('gateUp', x, sparse.gate, route(x, sparse).experts);
      if (sparse.shared) observe('shared.gateUp', x, sparse.shared.mlp.gate);
      return { middle };
    }
    case 'down': {
      const x = block.norm(read('middle'), 'post_attention_layernorm');
      if (!block.isSparse) {
        const gated = gatedHidden(x, block.mlp());
        observe('down', gated, block.mlp().down);
        return { gated };
      }
      const sparse = block.sparse();
      const routing = route(x, sparse);
      const gated = expertHidden(x, sparse, routing);
      observe('down', gated, sparse.down, routing.experts);
      if (!sparse.shared) return { gated };
      const shared = gatedHidden(x, sparse.shared.mlp);
      observe('shared.down', shared, sparse.shared.mlp.down);
      return { gated, shared };
    }
    case 'end': {
      const middle = read('middle');
      if (!block.isSparse) return { next: add(middle, linear(read('gated'), block.mlp().down)) };
      const sparse = block.sparse();
      const x = block.norm(middle, 'post_attention_layernorm');
      const routed = combineExperts(read('gated'), sparse, route(x, sparse));
      if (!sparse.shared) return { next: add(middle, routed) };
      const y = linear(read('shared'), sparse.shared.mlp.down);
      return { next: add(middle, add(routed, sharedExpert(x, y, sparse.shared))) };
    }
  }
}
