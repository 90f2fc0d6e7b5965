// How far the gradients of a step stand above the noise of rounding in the backward pass.
//
//   ρ = ‖g‖ / (σ √d),  σ² d = ‖g_q − g‖²
//
// g_q is the gradient of the step as it is trained, g the same without rounding of the backward operands: the same
// batches, the same forward pass with the same random numbers (recipes/exact-backward.ts). Both are summed over the
// step's batches and taken over the weights of all layers whose recipe rounds gradients. A step of gradient descent of the
// best length lowers the loss by a share of 1/(1 + 1/ρ²) of what it would without noise; the loss of this share is
// steepest at ρ = √3 (Chmiel et al. 2025, arXiv:2505.19115, section 4).
//
// A measurement takes the time of two passes over the step's batches and changes nothing. Memory: two sums of
// gradients of the layers' weights, and the largest of what the two passes need.

import type { Backend, Buffer, Executable } from '../backends/backend.ts';
import { gradients } from '../graph/differentiate.ts';
import type { Graph, ValueType } from '../graph/graph.ts';
import { sub } from '../graph/ops/arithmetic.ts';
import { sumSquares } from '../graph/ops/sum-squares.ts';
import { trace } from '../graph/trace.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { accumulate, clear } from '../nn/optimizers.ts';
import type { Batch } from './data/batches.ts';
import type { GradientGraphOptions, Products } from './graphs.ts';
import { traceLoss } from './loss-graph.ts';
import type { RecipeProducts } from './recipes/products.ts';

export interface NoiseReport {
  /** ρ over all layers that round gradients. */
  readonly ratio: number;
  /** The smallest of a single layer. */
  readonly lowest: { readonly layer: string; readonly ratio: number };
}

const sums = ['rounded', 'exact'] as const;
type Sum = (typeof sums)[number];
const sumName = (name: string, sum: Sum) => `${name}/${sum}`;
/** A ratio without noise, as a number that JSON has. */
const noNoise = 1e30;

type Shape = Pick<GradientGraphOptions, 'batch' | 'tokens' | 'recompute'>;

/** Adds the gradients of a batch to the sums of one kind. */
function passGraph(model: LoadedDecoder, names: readonly string[], shape: Shape, products: Products, sum: Sum): Graph {
  return trace((g) => {
    const { loss, weights } = traceLoss(g, model.config, model.types, { ...shape, product: products(g) });
    const wanted = names.map((name) => {
      const weight = weights.get(name);
      if (!weight) throw new Error(`noise: the model does not use ${name}`);
      return weight;
    });
    const found = gradients(g, loss, wanted);
    const states = names.map((name, i) => g.state(sumName(name, sum), wanted[i].type));
    accumulate(g, states, found);
  });
}

/** Outputs `signal` and `noise` [L], Σ g² and Σ (g_q − g)² of each weight; sets the sums back. */
function compareGraph(types: ReadonlyMap<string, ValueType>, names: readonly string[]): Graph {
  return trace((g) => {
    const pairs = names.map((name) => sums.map((sum) => g.state(sumName(name, sum), types.get(name) as ValueType)));
    g.output('signal', sumSquares(pairs.map(([, exact]) => exact)));
    g.output('noise', sumSquares(pairs.map(([rounded, exact]) => sub(rounded, exact))));
    clear(g, pairs.flat());
  });
}

/** Measures gradient-to-noise ratios of a model in training, over the weights that its trainer updates. */
export class NoiseProbe {
  readonly #names: readonly string[];
  readonly #products: RecipeProducts;
  readonly #sums: ReadonlyMap<string, Buffer>;
  readonly #passes: readonly { readonly executable: Executable; readonly inputs: ReadonlySet<string> }[];
  readonly #compare: Executable;

  private constructor(
    names: readonly string[],
    products: RecipeProducts,
    states: ReadonlyMap<string, Buffer>,
    passes: readonly { executable: Executable; inputs: ReadonlySet<string> }[],
    compare: Executable,
  ) {
    this.#names = names;
    this.#products = products;
    this.#sums = states;
    this.#passes = passes;
    this.#compare = compare;
  }

  /** undefined where no layer rounds gradients. */
  static async open(
    model: LoadedDecoder,
    shape: Shape,
    products: RecipeProducts | undefined,
  ): Promise<NoiseProbe | undefined> {
    const names = products?.noisy.map((layer) => weightOf(layer, model.types)) ?? [];
    if (!products || names.length === 0) return undefined;
    const { backend, types, buffers } = model;
    const own = new Map<string, Buffer>();
    const states = new Map<string, Buffer>(buffers);
    const executables: Executable[] = [];
    const compile = async (graph: Graph) => {
      const executable = await backend.compile(graph, { params: new Map(), states });
      executables.push(executable);
      return { executable, inputs: new Set(graph.inputs.keys()) };
    };
    try {
      for (const name of names) for (const sum of sums) own.set(sumName(name, sum), allocate(backend, types.get(name)));
      for (const [name, buffer] of own) states.set(name, buffer);
      const passes = [
        await compile(passGraph(model, names, shape, products.products, 'rounded')),
        await compile(passGraph(model, names, shape, products.exactBackward, 'exact')),
      ];
      const { executable } = await compile(compareGraph(types, names));
      return new NoiseProbe(names, products, own, passes, executable);
    } catch (error) {
      for (const executable of executables) executable.dispose();
      for (const buffer of own.values()) buffer.dispose();
      throw error;
    }
  }

  /** The ratio for the batches of a step with their numbers in the run. */
  async measure(batches: readonly (readonly [Batch, number])[]): Promise<NoiseReport> {
    for (const { executable, inputs } of this.#passes)
      for (const [{ ids, targets }, index] of batches) {
        executable.write('ids', ids);
        executable.write('targets', targets);
        for (const [name, data] of this.#products.inputs(index)) if (inputs.has(name)) executable.write(name, data);
        await executable.run();
      }
    await this.#compare.run();
    const signal = Float64Array.from((await this.#compare.read('signal')).data);
    const noise = Float64Array.from((await this.#compare.read('noise')).data);
    const each = this.#names.map((name, i) => ({
      layer: name.replace(/\.weight$/, ''),
      ratio: ratioOf(signal[i], noise[i]),
    }));
    const total = (values: Float64Array) => values.reduce((sum, v) => sum + v, 0);
    const lowest = each.reduce((least, one) => (one.ratio < least.ratio ? one : least));
    return { ratio: ratioOf(total(signal), total(noise)), lowest };
  }

  get byteLength(): number {
    const states = [...this.#sums.values()].reduce((n, { byteLength }) => n + byteLength, 0);
    const all = [...this.#passes.map(({ executable }) => executable), this.#compare];
    return all.reduce((n, { plan }) => n + plan.peakBytes - plan.stateBytes, states);
  }

  dispose(): void {
    for (const { executable } of this.#passes) executable.dispose();
    this.#compare.dispose();
    for (const buffer of this.#sums.values()) buffer.dispose();
  }
}

const ratioOf = (signal: number, noise: number) => (noise > 0 ? Math.sqrt(signal / noise) : noNoise);

/** Name of a layer's weight among the model's parameters; a stack of experts is one itself. */
const weightOf = (layer: string, types: ReadonlyMap<string, ValueType>) =>
  types.has(layer) ? layer : `${layer}.weight`;

function allocate(backend: Backend, type: ValueType | undefined): Buffer {
  if (!type) throw new Error('noise: a layer has no weight');
  return backend.allocate(type);
}
