// How wrong a module's output becomes with other weights in some of its layers, on calibration activations.
//
//   Σ (y′ − y)² over the tokens that are looked at; y with the block's own weights, y′ with others
//
// The module is what stands behind the layers (models/subsets.ts): the attention, the MLP, or the layer itself. Its graph
// is compiled once, with the weights of the layers as inputs, so that a search only writes candidates and runs. Inputs
// and weights are in f32. An expert's last layer is judged on the rows that were kept of its own input.

import type { Executable } from '../../backends/backend.ts';
import type { Value } from '../../graph/graph.ts';
import { sub } from '../../graph/ops/arithmetic.ts';
import { sum } from '../../graph/ops/reduce.ts';
import { square } from '../../graph/ops/unary.ts';
import { type GraphBuilder, trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { type Block, openBlock, type ParamSource, paramSource, windowPositions } from '../../models/block.ts';
import { expertStacks } from '../../models/loaded.ts';
import type { LoadedBlock } from '../../models/loaded-block.ts';
import { denseF32 } from '../../models/stack.ts';
import type { StageValue } from '../../models/stages.ts';
import type { Subset } from '../../models/subsets.ts';
import { selfAttention } from '../../nn/attention.ts';
import { sparseMlp } from '../../nn/experts.ts';
import { linear } from '../../nn/linear.ts';
import { gatedMlp } from '../../nn/mlp.ts';
import type { ActivationStore } from '../calibration/activations.ts';
import type { PassContext } from '../calibration/stage-pass.ts';

export interface ModuleError {
  /** The error with these values [N, K] of the subset's layers, by their names without `.weight`. */
  of(effective: ReadonlyMap<string, Float32Array>): Promise<number>;
  dispose(): void;
}

export interface ModuleRequest {
  readonly context: PassContext;
  readonly block: LoadedBlock;
  readonly layer: number;
  readonly subset: Subset;
  /** Activations of the unrounded block. */
  readonly stores: ReadonlyMap<StageValue, ActivationStore>;
  /** Rows of the layers' input, for experts: [rows, K]. */
  readonly sample: Float32Array;
  /** Tokens to look at; whole chunks of windows. */
  readonly tokens: number;
}

/** What a module reads, and how it goes on from there. */
interface Module {
  readonly input: StageValue | 'sample';
  readonly width: number;
  build(g: GraphBuilder, block: Block, source: ParamSource, x: Value): Value;
}

export async function openModuleError(request: ModuleRequest): Promise<ModuleError> {
  const { context, block, subset } = request;
  const module = moduleOf(request);
  const own = new Map(subset.layers.map((name) => [name, denseF32(block.tensors.get(`${name}.weight`)!)]));
  const fromSample = module.input === 'sample';
  const rows = fromSample ? request.sample.length / module.width : context.batch * context.tokens;
  const chunks = fromSample ? 1 : Math.min(context.chunks, Math.max(1, Math.ceil(request.tokens / rows)));
  const read = (chunk: number) =>
    fromSample ? request.sample : (request.stores.get(module.input as StageValue) as ActivationStore).read(chunk);
  const weights = overridden(context, request.layer, subset, block);

  const outputs = await compileModule(request, module, rows, weights, (g, y) => void g.output('y', y));
  const targets: Float32Array[] = [];
  try {
    writeWeights(outputs, weights, own);
    for (let chunk = 0; chunk < chunks; chunk++) {
      outputs.write('x', read(chunk));
      await outputs.run();
      targets.push((await outputs.read('y')).data as Float32Array);
    }
  } finally {
    outputs.dispose();
  }
  const compared = await compileModule(request, module, rows, weights, (g, y) => {
    g.output('error', sum(square(sub(y, g.input('target', f32(y.type.shape))))));
  });
  return {
    async of(effective) {
      writeWeights(compared, weights, effective);
      let total = 0;
      for (let chunk = 0; chunk < chunks; chunk++) {
        compared.write('x', read(chunk));
        compared.write('target', targets[chunk]);
        await compared.run();
        total += (await compared.read('error')).data[0];
      }
      return total;
    },
    dispose: () => compared.dispose(),
  };
}

function moduleOf({ context, layer, subset }: ModuleRequest): Module {
  const { config } = context;
  const at = `model.layers.${layer}`;
  const { inspect, width } = subset;
  if (inspect === `${at}.self_attn`)
    return {
      input: 'hidden',
      width: config.hiddenSize,
      build: (g, block, _, h) => {
        const positions = windowPositions(g, config, context.batch, context.tokens);
        return selfAttention(block.norm(h, 'input_layernorm'), block.attention(), block.shape, positions);
      },
    };
  if (subset.layers.length > 1)
    return {
      input: 'middle',
      width: config.hiddenSize,
      build: (_, block, __, h) => {
        const x = block.norm(h, 'post_attention_layernorm');
        return block.isSparse ? sparseMlp(x, block.sparse()) : gatedMlp(x, block.mlp());
      },
    };
  const layerOf = (input: Module['input']): Module => ({
    input,
    width,
    build: (_, __, source, x) => linear(x, { weight: source.param(`${inspect}.weight`) }),
  });
  if (inspect.endsWith('.o_proj')) return layerOf('heads');
  if (inspect.includes('.experts.')) return layerOf('sample');
  return layerOf(inspect.includes('.shared_expert.') ? 'shared' : 'gated');
}

/** The graph parameters that the subset's layers are part of, with the layers in their order. */
function overridden(
  { config }: PassContext,
  layer: number,
  { layers, inspect }: Subset,
  block: LoadedBlock,
): Map<string, { shape: readonly number[]; parts: string[] }> {
  const found = new Map<string, { shape: readonly number[]; parts: string[] }>();
  const names = new Set(layers);
  const whole = inspect.includes('.experts.') ? [] : [...expertStacks(config)];
  for (const { stack, members } of whole) {
    if (!stack.startsWith(`model.layers.${layer}.`)) continue;
    const parts = members.map((name) => name.replace(/\.weight$/, ''));
    if (!parts.some((name) => names.has(name))) continue;
    found.set(stack, { shape: [members.length, ...block.tensors.get(members[0])!.shape], parts });
    for (const name of parts) names.delete(name);
  }
  for (const name of names)
    found.set(`${name}.weight`, { shape: block.tensors.get(`${name}.weight`)!.shape, parts: [name] });
  return found;
}

async function compileModule(
  { context, block, layer }: ModuleRequest,
  module: Module,
  rows: number,
  weights: ReadonlyMap<string, { shape: readonly number[] }>,
  finish: (g: GraphBuilder, y: Value) => void,
): Promise<Executable> {
  const graph = trace((g) => {
    const inputs = new Map([...weights].map(([name, { shape }]) => [name, g.input(`w:${name}`, f32(shape))]));
    const params = paramSource(g, { types: block.types });
    const source: ParamSource = {
      param: (name) => inputs.get(name) ?? params.param(name),
      // second-level scales of stacks belong to packed weights
      has: (name) => params.has(name) && !inputs.has(name.replace(/\.scales$/, '')),
    };
    const { batch, tokens, config } = context;
    const opened = openBlock(source, config, layer, { batch, tokens, activation: () => undefined });
    finish(g, module.build(g, opened, source, g.input('x', f32([rows, module.width]))));
  });
  return context.backend.compile(graph, { params: block.buffers });
}

function writeWeights(
  executable: Executable,
  weights: ReadonlyMap<string, { shape: readonly number[]; parts: readonly string[] }>,
  values: ReadonlyMap<string, Float32Array>,
): void {
  for (const [name, { shape, parts }] of weights) {
    const [first] = parts;
    if (parts.length === 1 && shape.length === 2) {
      executable.write(`w:${name}`, values.get(first) as Float32Array);
      continue;
    }
    const size = shape[1] * shape[2];
    const all = new Float32Array(parts.length * size);
    for (const [e, part] of parts.entries()) all.set(values.get(part) as Float32Array, e * size);
    executable.write(`w:${name}`, all);
  }
}
