// Where the first number that is none comes from.
//
// Method: the forward and backward pass of the batch run once more with a probe behind every value, Σ (x − x), which is
// 0 for finite numbers and NaN otherwise; the first probe that is not 0, in the order of execution, names the value. A
// probe stands right behind its value, so that no value lives longer than in training.

import type { Backend, Buffer } from '../backends/backend.ts';
import { SubbyteError } from '../errors.ts';
import { gradients } from '../graph/differentiate.ts';
import type { Graph, Node, Value } from '../graph/graph.ts';
import { sub } from '../graph/ops/arithmetic.ts';
import { concat, reshape } from '../graph/ops/layout.ts';
import { sum } from '../graph/ops/reduce.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import type { Batch } from './data/batches.ts';
import type { GradientGraphOptions } from './graphs.ts';
import { traceLoss } from './loss-graph.ts';

type Inputs = ReadonlyMap<string, Float32Array | Int32Array>;

/**
 * The first value of the pass over `batch` that is not finite, in words, or undefined when all are.
 *
 * @example await findFirstBad(model, { batch: 8, tokens: 512 }, batch) // 'layers.3.mlp/swiglu#121'
 */
export async function findFirstBad(
  model: LoadedDecoder,
  options: GradientGraphOptions,
  batch: Batch,
  inputs: Inputs = new Map(),
): Promise<string | undefined> {
  const { config, types, backend, buffers } = model;
  const probed: Value[] = [];
  const graph = trace((g) => {
    const { products, ...rest } = options;
    const { loss, weights } = traceLoss(g, config, types, { ...rest, product: products?.(g) });
    gradients(g, loss, [...weights.values()]);
    probed.push(...addProbes(g));
  });
  const found = await run(
    backend,
    graph,
    buffers,
    new Map([...inputs, ['ids', batch.ids], ['targets', batch.targets]]),
  );
  if (typeof found === 'string') return found;
  const at = found.findIndex((probe) => probe !== 0);
  if (at < 0) return undefined;
  const { name, graph: owner } = probed[at];
  return owner.states.has(name) ? `the weight ${name}` : name;
}

/** Probes of all dense values, in the order of execution; their results are the output `probes`. */
function addProbes(g: GraphBuilder): Value[] {
  const { graph } = g;
  const zeros = (v: Value) => sub(v, v);
  const probe = (v: Value) => reshape(v.type.shape.length > 0 ? sum(zeros(v)) : zeros(v), [1]);
  const probed: Value[] = [];
  const results: Value[] = [];
  const order: Node[] = [];
  const before = graph.nodes.splice(0);
  const add = (values: Iterable<Value>) => {
    for (const v of values) {
      if (v.type.dtype !== 'f32') continue;
      probed.push(v);
      results.push(probe(v));
    }
    order.push(...graph.nodes.splice(0));
  };
  add(graph.states.values());
  for (const node of before) {
    order.push(node);
    add(node.outputs);
  }
  graph.nodes.push(...order);
  g.output('probes', joined(results));
  return probed;
}

/** One row of many numbers, joined in groups. */
function joined(values: readonly Value[]): Value {
  const groups = Array.from({ length: Math.ceil(values.length / 64) }, (_, i) =>
    concat(values.slice(64 * i, 64 * (i + 1)), 0),
  );
  return groups.length === 1 ? groups[0] : joined(groups);
}

/** The probes, or what a kernel itself found to be wrong. */
async function run(
  backend: Backend,
  graph: Graph,
  states: ReadonlyMap<string, Buffer>,
  inputs: Inputs,
): Promise<Float32Array | string> {
  const executable = await backend.compile(graph, { params: new Map(), states });
  try {
    for (const [name, data] of inputs) executable.write(name, data);
    await executable.run();
    return Float32Array.from((await executable.read('probes')).data);
  } catch (error) {
    if (error instanceof SubbyteError && error.details.code === 'non-finite-value')
      return `the input of ${error.details.op}, ${error.details.problem.split(' ')[0]}`;
    throw error;
  } finally {
    executable.dispose();
  }
}
