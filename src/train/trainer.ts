// A model in training on a backend: its states, and the compiled graphs that change them.
//
// States are the weights, the optimizer's moments and the sums of gradients; all executables share their buffers. What
// a run must keep to go on exactly are weights and moments: sums are zero between steps.
// It does not do: data, schedules, files; loop.ts does.

import type { Backend, Buffer, Executable } from '../backends/backend.ts';
import { readBuffer } from '../backends/read-buffer.ts';
import type { Graph, ValueType } from '../graph/graph.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { momentNames, type OptimizerOptions } from '../nn/optimizers.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Batch } from './data/batches.ts';
import { findFirstBad } from './diagnose.ts';
import {
  buildEvaluationGraph,
  buildGradientGraph,
  buildNormGraph,
  buildUpdateGraph,
  graphFlops,
  type Products,
  sumName,
} from './graphs.ts';

export interface TrainerOptions {
  /** B */
  readonly sequences: number;
  /** T */
  readonly tokens: number;
  /** Batches of a step. */
  readonly accumulate: number;
  readonly recompute: boolean;
  readonly optimizer: OptimizerOptions;
  readonly clipNorm?: number;
  readonly decays: (name: string) => boolean;
  /** Weights are rounded to bf16 after each update, with random numbers of this seed; absent: f32. */
  readonly bf16Seed?: number;
  /** What computes the linear layers at first; absent: plain products. */
  readonly products?: LayerProducts;
}

/** The products of the linear layers, and data for the inputs that they declare, by batch number from 0. */
export interface LayerProducts {
  readonly products: Products;
  readonly inputs: (batch: number) => ReadonlyMap<string, Float32Array | Int32Array>;
}

interface Compiled {
  readonly executable: Executable;
  readonly inputs: ReadonlySet<string>;
}

export interface GradientNorm {
  /** Of the mean gradient of the step, before clipping. */
  readonly norm: number;
  /** Σ g² of each weight, in the order of the model, of the sums over the step's batches. */
  readonly squares: Float32Array;
}

export class Trainer {
  readonly model: LoadedDecoder;
  readonly #options: TrainerOptions;
  readonly #states: Map<string, Buffer>;
  readonly #norm: Executable;
  readonly #update: Executable;
  #products: LayerProducts | undefined;
  #gradient: Compiled;
  #evaluation: Compiled | undefined;
  #flops: number;

  private constructor(
    model: LoadedDecoder,
    options: TrainerOptions,
    states: Map<string, Buffer>,
    { gradient, norm, update, flops }: { gradient: Compiled; norm: Executable; update: Executable; flops: number },
  ) {
    this.model = model;
    this.#options = options;
    this.#states = states;
    this.#products = options.products;
    this.#gradient = gradient;
    this.#norm = norm;
    this.#update = update;
    this.#flops = flops;
  }

  /**
   * Compiles the graphs over the weights of `model`, which must be dense f32 (loadTrainable). `moments` go on where a run
   * stopped; without them they are zero. The trainer owns the model and the moments from now on.
   */
  static async open(
    model: LoadedDecoder,
    options: TrainerOptions,
    moments: ReadonlyMap<string, Buffer> = new Map(),
  ): Promise<Trainer> {
    const { backend, types, buffers } = model;
    const states = new Map<string, Buffer>(buffers);
    const executables: Executable[] = [];
    const compiled = async (graph: Graph) => {
      const found = await compile(backend, graph, states);
      executables.push(found.executable);
      return found;
    };
    try {
      for (const [name, type] of stateTypes(types, options.optimizer))
        states.set(name, moments.get(name) ?? backend.allocate(type));
      for (const [name, type] of types) states.set(sumName(name), backend.allocate(type));
      const graph = gradientGraph(model, options, options.products);
      const gradient = await compiled(graph);
      const norm = await compiled(buildNormGraph(types, options.accumulate));
      const update = await compiled(buildUpdateGraph(types, { ...options, batches: options.accumulate }));
      const parts = { gradient, norm: norm.executable, update: update.executable, flops: graphFlops(graph) };
      return new Trainer(model, options, states, parts);
    } catch (error) {
      for (const executable of executables) executable.dispose();
      for (const [name, buffer] of states) if (!buffers.has(name)) buffer.dispose();
      throw error;
    }
  }

  /** Arithmetic operations of one batch, forward and backward. */
  get flops(): number {
    return this.#flops;
  }

  /** Computes the linear layers otherwise from the next batch on: a phase of training. */
  async useProducts(products: LayerProducts | undefined): Promise<void> {
    const graph = gradientGraph(this.model, this.#options, products);
    this.#gradient.executable.dispose();
    this.#evaluation?.executable.dispose();
    this.#evaluation = undefined;
    this.#products = products;
    this.#gradient = await compile(this.model.backend, graph, this.#states);
    this.#flops = graphFlops(graph);
  }

  /** Bytes of all states together with what the compiled graphs take besides. */
  get byteLength(): number {
    const states = [...this.#states.values()].reduce((n, { byteLength }) => n + byteLength, 0);
    return this.#executables().reduce((n, { plan }) => n + plan.peakBytes - plan.stateBytes, states);
  }

  /** Adds the gradients of batch number `index` of the run; its loss in nats. */
  async addGradients(batch: Batch, index: number): Promise<number> {
    this.#write(this.#gradient, batch, index);
    await this.#gradient.executable.run();
    return (await this.#gradient.executable.read('loss')).data[0];
  }

  /** The norm of what was added since the last update. */
  async gradientNorm(): Promise<GradientNorm> {
    await this.#norm.run();
    const squares = Float32Array.from((await this.#norm.read('squares')).data);
    return { norm: (await this.#norm.read('norm')).data[0], squares };
  }

  /** Update number `step` from 1, by what was added; the sums are zero then. */
  async update(step: number, learningRate: number, norm: number): Promise<void> {
    this.#update.write('learningRate', Float32Array.of(learningRate));
    this.#update.write('step', Int32Array.of(step));
    if (this.#options.clipNorm !== undefined) this.#update.write('norm', Float32Array.of(norm));
    await this.#update.run();
  }

  /** Mean negative log-likelihood of batches, in nats, over targets of 0 or more. */
  async evaluate(batches: Iterable<Batch>): Promise<{ nll: number; tokens: number }> {
    const { sequences, tokens } = this.#options;
    const { config, types, backend } = this.model;
    const options = { batch: sequences, tokens, products: this.#products?.products };
    this.#evaluation ??= await compile(backend, buildEvaluationGraph(config, types, options), this.#states);
    const { executable } = this.#evaluation;
    let sum = 0;
    let counted = 0;
    const out = new Float32Array(sequences * tokens);
    for (const batch of batches) {
      this.#write(this.#evaluation, batch, 0);
      await executable.run();
      await executable.read('nll', out);
      for (const [i, nll] of out.entries()) {
        if (batch.targets[i] < 0) continue;
        sum += nll;
        counted++;
      }
    }
    return { nll: sum / counted, tokens: counted };
  }

  /** Where the pass over a batch first is not finite (diagnose.ts); changes nothing. */
  findFirstBad(batch: Batch, index: number): Promise<string | undefined> {
    const { sequences, tokens, recompute } = this.#options;
    const options = { batch: sequences, tokens, recompute, products: this.#products?.products };
    return findFirstBad(this.model, options, batch, this.#products?.inputs(index));
  }

  /** Types of what a checkpoint holds, by name: weights and moments. */
  savedTypes(): ReadonlyMap<string, ValueType> {
    const { types } = this.model;
    return new Map([...types, ...stateTypes(types, this.#options.optimizer)]);
  }

  /** The values of a state as they are now. */
  readState(name: string): Promise<Tensor> {
    return readBuffer(this.model.backend, name, this.#states.get(name) as Buffer);
  }

  #executables(): Executable[] {
    const { executable } = this.#gradient;
    return [executable, this.#norm, this.#update, ...(this.#evaluation ? [this.#evaluation.executable] : [])];
  }

  #write({ executable, inputs }: Compiled, { ids, targets }: Batch, index: number): void {
    executable.write('ids', ids);
    executable.write('targets', targets);
    for (const [name, data] of this.#products?.inputs(index) ?? []) if (inputs.has(name)) executable.write(name, data);
  }

  dispose(): void {
    for (const executable of this.#executables()) executable.dispose();
    for (const [name, buffer] of this.#states) if (!this.model.buffers.has(name)) buffer.dispose();
    this.model.dispose();
  }
}

/** The optimizer's states by name. */
function stateTypes(types: ReadonlyMap<string, ValueType>, optimizer: OptimizerOptions): Map<string, ValueType> {
  const kinds = optimizer.kind === 'adamw' ? (['m', 'v'] as const) : optimizer.momentum ? (['m'] as const) : [];
  return new Map([...types].flatMap(([name, type]) => kinds.map((kind) => [momentNames(name)[kind], type] as const)));
}

function gradientGraph({ config, types }: LoadedDecoder, options: TrainerOptions, products?: LayerProducts): Graph {
  const { sequences, tokens, recompute } = options;
  return buildGradientGraph(config, types, { batch: sequences, tokens, recompute, products: products?.products });
}

async function compile(backend: Backend, graph: Graph, states: ReadonlyMap<string, Buffer>): Promise<Compiled> {
  const executable = await backend.compile(graph, { params: new Map(), states });
  return { executable, inputs: new Set(graph.inputs.keys()) };
}
