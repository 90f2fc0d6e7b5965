// A model in training on a backend: its states, and the compiled graphs that change them.
//
// States are the weights, the optimizer's moments and, where a step has several batches, the sums of gradients; all
// executables share their buffers. What a run must keep to go on exactly are weights and moments: sums are zero between
// steps. A step of one batch is one run of one graph, and on a backend that starts runs ahead nobody waits inside it.
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
  buildStepGraph,
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

export interface StepResult {
  /** Of each batch, in nats. */
  readonly losses: readonly number[];
  /** Of the mean gradient of the step, before clipping; NaN where a loss is not finite. */
  readonly norm: number;
  /** Σ g² of each weight, in the order of the model, of the sums over the step's batches. */
  readonly squares: Float32Array;
}

export class Trainer {
  readonly model: LoadedDecoder;
  readonly #options: TrainerOptions;
  readonly #states: Map<string, Buffer>;
  /** The whole step where it has one batch, else the gradients of a batch. */
  #batch: Compiled;
  /** After the batches of a step, where it has several. */
  readonly #update: Executable | undefined;
  #products: LayerProducts | undefined;
  #evaluation: Compiled | undefined;
  #flops: number;

  private constructor(
    model: LoadedDecoder,
    options: TrainerOptions,
    states: Map<string, Buffer>,
    { batch, update, flops }: { batch: Compiled; update: Executable | undefined; flops: number },
  ) {
    this.model = model;
    this.#options = options;
    this.#states = states;
    this.#products = options.products;
    this.#batch = batch;
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
      if (options.accumulate > 1) for (const [name, type] of types) states.set(sumName(name), backend.allocate(type));
      await backend.pack?.(states.values());
      const graph = batchGraph(model, options, options.products);
      const batch = await compiled(graph);
      const update = options.accumulate > 1 ? buildUpdateGraph(types, options.accumulate, options) : undefined;
      const parts = { batch, update: update && (await compiled(update)).executable, flops: graphFlops(graph) };
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

  /** Whether the next step may be started before the last one has ended. */
  get startsAhead(): boolean {
    return this.#options.accumulate === 1 && this.#batch.executable.start !== undefined;
  }

  /** Computes the linear layers otherwise from the next batch on: a phase of training. No step may be under way. */
  async useProducts(products: LayerProducts | undefined): Promise<void> {
    const graph = batchGraph(this.model, this.#options, products);
    this.#batch.executable.dispose();
    this.#evaluation?.executable.dispose();
    this.#evaluation = undefined;
    this.#products = products;
    this.#batch = await compile(this.model.backend, graph, this.#states);
    this.#flops = graphFlops(graph);
  }

  /** Bytes of all states together with what the compiled graphs take besides. */
  get byteLength(): number {
    const states = [...this.#states.values()].reduce((n, { byteLength }) => n + byteLength, 0);
    return this.#executables().reduce((n, { plan }) => n + plan.peakBytes - plan.stateBytes, states);
  }

  /**
   * Takes step number `step`, from 1, over its batches. Where a loss or the norm is not finite, weights and moments stay
   * as they were, also in the steps that were started behind it.
   */
  async step(step: number, batches: readonly Batch[], learningRate: number): Promise<StepResult> {
    const { accumulate } = this.#options;
    if (batches.length !== accumulate) throw new Error(`trainer: ${batches.length} batches in place of ${accumulate}`);
    const first = (step - 1) * accumulate;
    if (!this.#update) {
      this.#write(this.#batch, batches[0], first);
      const [loss, norm, squares] = await this.#takeUpdate(this.#batch.executable, ['loss'], step, learningRate);
      return { losses: [loss[0]], norm: norm[0], squares };
    }
    const losses = await this.#addGradients(batches, first);
    if (!losses.every(Number.isFinite)) return { losses, norm: Number.NaN, squares: new Float32Array() };
    const [norm, squares] = await this.#takeUpdate(this.#update, [], step, learningRate);
    return { losses, norm: norm[0], squares };
  }

  /** Adds the gradients of batches up to the first whose loss is not finite; their losses. */
  async #addGradients(batches: readonly Batch[], first: number): Promise<number[]> {
    const { executable } = this.#batch;
    const losses: Promise<number>[] = [];
    for (const [i, batch] of batches.entries()) {
      this.#write(this.#batch, batch, first + i);
      losses.push(runAndRead(executable, ['loss']).then(([[loss]]) => loss));
      if (!executable.start && !Number.isFinite(await losses[i])) break;
    }
    return Promise.all(losses);
  }

  /** Runs a graph that ends in an update; what `outputs` held, then the norm and the squares. */
  #takeUpdate(executable: Executable, outputs: readonly string[], step: number, learningRate: number) {
    executable.write('learningRate', Float32Array.of(learningRate));
    executable.write('step', Int32Array.of(step));
    return runAndRead(executable, [...outputs, 'norm', 'squares']);
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
    for (const batch of batches) {
      this.#write(this.#evaluation, batch, 0);
      const [out] = await runAndRead(executable, ['nll']);
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
    const { executable } = this.#batch;
    return [executable, this.#update, this.#evaluation?.executable].filter((e) => e !== undefined);
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

function batchGraph({ config, types }: LoadedDecoder, options: TrainerOptions, products?: LayerProducts): Graph {
  const { sequences, tokens, recompute, accumulate } = options;
  const batch = { batch: sequences, tokens, recompute, products: products?.products };
  return accumulate === 1 ? buildStepGraph(config, types, batch, options) : buildGradientGraph(config, types, batch);
}

/** Runs an executable and reads outputs; on a backend that starts runs ahead, all is under way when this returns. */
async function runAndRead(executable: Executable, outputs: readonly string[]): Promise<Float32Array[]> {
  if (executable.start) return (await executable.start(outputs)).map(({ data }) => data as Float32Array);
  await executable.run();
  const found: Float32Array[] = [];
  for (const name of outputs) found.push(Float32Array.from((await executable.read(name)).data));
  return found;
}

async function compile(backend: Backend, graph: Graph, states: ReadonlyMap<string, Buffer>): Promise<Compiled> {
  const executable = await backend.compile(graph, { params: new Map(), states });
  return { executable, inputs: new Set(graph.inputs.keys()) };
}
