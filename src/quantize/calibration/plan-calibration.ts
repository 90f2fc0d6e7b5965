// What a calibration will take, before it starts: time and memory, part by part.
//
// Memory at its fullest = what the process has now
//   + one block: its tensors on the host and on the backend, and f32 copies of the largest layer while it is solved
//   + activations between stages: hidden and middle share one store, beside heads or the MLP's hidden values
//   + the largest stage: intermediate values by the memory plan, second moments on the backend and on the host, and what
//     a factor of them takes (f64)
// Time = multiply-adds of all stages (the op definitions count them) at the rate of a short product measured here, and
// those of the solver at a fifth of it. Both are for the widest layer; a plan is an estimate, the activations' budget is a bound.

import type { Backend } from '../../backends/backend.ts';
import type { Format } from '../../formats/format.ts';
import type { Graph, ValueType } from '../../graph/graph.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { planMemory } from '../../graph/plan.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { expertStacks } from '../../models/loaded.ts';
import { blockTensors } from '../../models/loaded-block.ts';
import { blockSites, buildStage, rowWidth, type Site, type StageValue, stages } from '../../models/stages.ts';
import type { ModelWeights } from '../../models/weights.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { CalibrationMethod } from './calibrate.ts';
import { chunkWindows } from './chunks.ts';
import type { SiteNeeds } from './site-observer.ts';
import { type RangeOf, rangesApart, staticInputs } from './static-inputs.ts';

export interface CalibrationPlan {
  /** Tokens through stages, as progress counts them. */
  readonly work: number;
  readonly seconds: number;
  /** Of the whole process. */
  readonly peakBytes: number;
  readonly weightBytes: number;
  /** In memory, within the budget. */
  readonly activationBytes: number;
  readonly spilledBytes: number;
  readonly statisticsBytes: number;
}

export interface PlanRequest {
  readonly weights: ModelWeights;
  readonly formats: ReadonlyMap<string, Format>;
  readonly method: CalibrationMethod;
  /** Rules of static ranges. */
  readonly rangeOf?: RangeOf;
  readonly samples: number;
  readonly window: number;
  readonly backend: Backend;
  /** Bytes that activations may take in memory. */
  readonly memory: number;
}

/** Reads no weights; measures the backend for a moment. */
export async function planCalibration(request: PlanRequest): Promise<CalibrationPlan> {
  const { weights, samples, window } = request;
  const { layers } = weights.config;
  const blocks = Array.from({ length: layers }, (_, layer) => planBlock(request, layer));
  const widest = (of: (block: BlockPlan) => number) => Math.max(...blocks.map(of));
  const total = (of: (block: BlockPlan) => number) => blocks.reduce((sum, block) => sum + of(block), 0);
  const rate = await measureRate(request.backend);
  const activations = widest((b) => b.activationBytes);
  const activationBytes = Math.min(activations, request.memory);
  const weightBytes = widest((b) => b.weightBytes);
  const statisticsBytes = widest((b) => b.stageBytes);
  return {
    work: samples * window * (total((b) => b.runs) - 1),
    seconds: total((b) => b.flops) / rate,
    peakBytes: process.memoryUsage().rss + weightBytes + activationBytes + statisticsBytes,
    weightBytes,
    activationBytes,
    spilledBytes: activations - activationBytes,
    statisticsBytes,
  };
}

interface BlockPlan {
  /** Runs of stages over all windows. */
  runs: number;
  flops: number;
  weightBytes: number;
  activationBytes: number;
  /** Intermediate values, statistics and factors of the largest stage. */
  stageBytes: number;
}

function planBlock(request: PlanRequest, layer: number): BlockPlan {
  const { weights, formats, method, samples, window } = request;
  const { config } = weights;
  const batch = chunkWindows(samples, window);
  const chunks = samples / batch;
  const types = blockTypes(weights, layer);
  const needsOf = (site: Site): SiteNeeds =>
    (site.layers.some((name) => formats.has(`${name}.weight`)) && method.needs(site)) || {};
  const inputs = staticInputs(config, request.rangeOf ?? (() => undefined));
  const streams = method.floatStream ? 2 : 1;
  const prepared = method.preparation;
  let flops = 0;
  let stageBytes = 0;
  let forward = 0;
  for (const stage of stages) {
    const graph = buildStage(config, layer, stage, types, {
      batch,
      tokens: window,
      collect: (site) => {
        const { gram = false, cross = false, moments = false } = needsOf(site);
        return { gram, cross, input: moments, exact: inputs.needs(site) !== undefined };
      },
    });
    const { arenaBytes, boundaryBytes, stateBytes } = planMemory(graph);
    const collected = graph.nodes.filter((node) => node.op.name === 'gramUpdate');
    const one = flopsOf(graph) * chunks;
    const statistics = collected.reduce((sum, node) => sum + (node.op.flops?.(typesOf(node), node.attributes) ?? 0), 0);
    flops += one + (streams - 1) * (one - statistics * chunks);
    forward += one - statistics * chunks;
    const solving = blockSites(config, layer).filter((site) => site.stage === stage);
    flops += solverSlowdown * solving.reduce((sum, site) => sum + solverFlops(weights, site, needsOf(site)), 0);
    const largest = Math.max(0, ...solving.map((site) => solverBytes(site, needsOf(site))));
    stageBytes = Math.max(stageBytes, streams * (arenaBytes + boundaryBytes) + 2 * stateBytes + largest);
  }
  const apart = stages.filter((stage) => {
    const sites = blockSites(config, layer).filter((site) => site.stage === stage);
    return rangesApart(sites, inputs, (site) => (Object.keys(needsOf(site)).length > 0 ? needsOf(site) : undefined));
  }).length;
  flops += (forward * apart) / stages.length;
  if (prepared) flops += forward * (1 + (prepared.searchedForwards?.(samples * window) ?? 0));
  return {
    runs: stages.length + apart + (prepared ? stages.length - 1 : 0),
    flops,
    weightBytes: streams * 2 * blockBytes(weights, layer) + 3 * largestLayer(weights, layer),
    activationBytes: streams * 4 * samples * window * rowsAtOnce(weights, layer, prepared !== undefined),
    stageBytes,
  };
}

const typesOf = (node: Graph['nodes'][number]) => node.inputs.map((v) => v.type);
const flopsOf = (graph: Graph) =>
  graph.nodes.reduce((sum, node) => sum + (node.op.flops?.(typesOf(node), node.attributes) ?? 0), 0);

/** Numbers of all stores that are open at a time, for one token. */
function rowsAtOnce({ config }: ModelWeights, layer: number, prepared: boolean): number {
  const width = (...values: StageValue[]) => values.reduce((sum, v) => sum + rowWidth(config, layer, v), 0);
  const mlp = width('gated', 'shared');
  if (prepared) return width('hidden', 'heads', 'middle') + mlp;
  return width('hidden') + Math.max(width('heads'), mlp);
}

/** Times as long as an f32 product of the same size: f64, and columns that depend on each other (measured: 4 to 6). */
const solverSlowdown = 5;

/** Factors and products with them: K³ for a factor, N K² for the columns and for each of three error sums. */
function solverFlops(weights: ModelWeights, { features: K, experts, layers }: Site, { gram }: SiteNeeds): number {
  if (!gram) return 0;
  const rows = layers.reduce((sum, name) => sum + weights.shape(`${name}.weight`)[0], 0);
  return 2 * Math.max(experts, 1) * K ** 3 + 8 * rows * K ** 2;
}

/** The factor in f64, its packed triangles, rows of the weight in the solver's memory. */
const solverBytes = ({ features: K }: Site, { gram, cross }: SiteNeeds) => (gram ? (cross ? 24 : 14) * K ** 2 : 0);

function blockBytes(weights: ModelWeights, layer: number): number {
  const width = (name: string) => {
    const format = weights.format(name);
    return format.kind === 'float' && format.name !== 'f32' ? 2 : 4;
  };
  return blockTensors(weights, layer).reduce((n, name) => n + width(name) * elementCount(weights.shape(name)), 0);
}

const largestLayer = (weights: ModelWeights, layer: number) =>
  4 * Math.max(...blockTensors(weights, layer).map((name) => elementCount(weights.shape(name))));

/** Types of a block's parameters as they are uploaded, from headers alone. */
function blockTypes(weights: ModelWeights, layer: number): Map<string, ValueType> {
  const types = new Map<string, ValueType>();
  for (const name of blockTensors(weights, layer)) types.set(name, f32(weights.shape(name)));
  for (const { stack, members } of expertStacks(weights.config)) {
    const first = types.get(members[0]);
    if (first) types.set(stack, f32([members.length, ...first.shape]));
  }
  return types;
}

/** Multiply-adds ×2 a second of an f32 product that fits the caches. */
async function measureRate(backend: Backend): Promise<number> {
  const [M, K, N] = [1024, 384, 512];
  const graph = trace((g) => {
    g.output('y', matmul(g.input('x', f32([M, K])), g.input('w', f32([N, K])), { transposeB: true }));
  });
  const executable = await backend.compile(graph, { params: new Map() });
  try {
    await executable.run();
    let best = Infinity;
    const start = performance.now();
    for (let i = 0; i < 5 || performance.now() - start < 60; i++) {
      const before = performance.now();
      await executable.run();
      best = Math.min(best, performance.now() - before);
      if (performance.now() - start > 2000) break;
    }
    return (2 * M * K * N) / (best / 1000);
  } finally {
    executable.dispose();
  }
}
