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
  readonly products?: Products;
  /** Data of the inputs that the products declare, by batch number from 0. */
  readonly productInputs?: (batch: number) => ReadonlyMap<string, Float32Array | Int32Array>;
}

export interface GradientNorm {
  /** Of the mean gradient of the step, before clipping. */
  readonly norm: number;
  /** Σ g² of each weight, in the order of the model, of the sums over the step's batches. */
  readonly squares: Float32Array;
}

export class Trainer {
  readonly model: LoadedDecoder;
  /** Arithmetic operations of one batch, forward and backward. */
  readonly flops: number;
  readonly #options: TrainerOptions;
  readonly #states: Map<string, Buffer>;
  readonly #gradient: Executable;
  readonly #norm: Executable;
  readonly #update: Executable;
  #evaluation: Executable | undefined;

  private constructor(
    model: LoadedDecoder,
    options: TrainerOptions,
    states: Map<string, Buffer>,
    executables: readonly Executable[],
    flops: number,
  ) {
    this.model = model;
    this.#options = options;
    this.#states = states;
    [this.#gradient, this.#norm, this.#update] = executables;
    this.flops = flops;
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
    const { backend, config, types, buffers } = model;
    const states = new Map<string, Buffer>(buffers);
    const executables: Executable[] = [];
    try {
      for (const [name, type] of stateTypes(types, options.optimizer))
        states.set(name, moments.get(name) ?? backend.allocate(type));
      for (const [name, type] of types) states.set(sumName(name), backend.allocate(type));
      const { sequences, tokens, recompute, accumulate, products } = options;
      const gradient = buildGradientGraph(config, types, { batch: sequences, tokens, recompute, products });
      const graphs = [
        gradient,
        buildNormGraph(types, accumulate),
        buildUpdateGraph(types, { ...options, batches: accumulate }),
      ];
      for (const graph of graphs) executables.push(await compile(backend, graph, states));
      return new Trainer(model, options, states, executables, graphFlops(gradient));
    } catch (error) {
      for (const executable of executables) executable.dispose();
      for (const [name, buffer] of states) if (!buffers.has(name)) buffer.dispose();
      throw error;
    }
  }

  /** Bytes of all states together with what the compiled graphs take besides. */
  get byteLength(): number {
    const states = [...this.#states.values()].reduce((n, { byteLength }) => n + byteLength, 0);
    const executables = [this.#gradient, this.#norm, this.#update, ...(this.#evaluation ? [this.#evaluation] : [])];
    return executables.reduce((n, { plan }) => n + plan.peakBytes - plan.stateBytes, states);
  }

  /** Adds the gradients of batch number `index` of the run; its loss in nats. */
  async addGradients(batch: Batch, index: number): Promise<number> {
    const { productInputs } = this.#options;
    this.#gradient.write('ids', batch.ids);
    this.#gradient.write('targets', batch.targets);
    for (const [name, data] of productInputs?.(index) ?? []) this.#gradient.write(name, data);
    await this.#gradient.run();
    return (await this.#gradient.read('loss')).data[0];
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
    const { sequences, tokens, products, productInputs } = this.#options;
    const { config, types, backend } = this.model;
    this.#evaluation ??= await compile(
      backend,
      buildEvaluationGraph(config, types, { batch: sequences, tokens, products }),
      this.#states,
    );
    let sum = 0;
    let counted = 0;
    const out = new Float32Array(sequences * tokens);
    for (const { ids, targets } of batches) {
      this.#evaluation.write('ids', ids);
      this.#evaluation.write('targets', targets);
      for (const [name, data] of productInputs?.(0) ?? []) this.#evaluation.write(name, data);
      await this.#evaluation.run();
      await this.#evaluation.read('nll', out);
      for (const [i, nll] of out.entries()) {
        if (targets[i] < 0) continue;
        sum += nll;
        counted++;
      }
    }
    return { nll: sum / counted, tokens: counted };
  }

  /** Where the pass over a batch first is not finite (diagnose.ts); changes nothing. */
  findFirstBad(batch: Batch, index: number): Promise<string | undefined> {
    const { sequences, tokens, recompute, products, productInputs } = this.#options;
    const options = { batch: sequences, tokens, recompute, products };
    return findFirstBad(this.model, options, batch, productInputs?.(index));
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

  dispose(): void {
    for (const executable of [this.#gradient, this.#norm, this.#update, this.#evaluation]) executable?.dispose();
    for (const [name, buffer] of this.#states) if (!this.model.buffers.has(name)) buffer.dispose();
    this.model.dispose();
  }
}

/** The optimizer's states by name. */
function stateTypes(types: ReadonlyMap<string, ValueType>, optimizer: OptimizerOptions): Map<string, ValueType> {
  const kinds = optimizer.kind === 'adamw' ? (['m', 'v'] as const) : optimizer.momentum ? (['m'] as const) : [];
  return new Map([...types].flatMap(([name, type]) => kinds.map((kind) => [momentNames(name)[kind], type] as const)));
}

const compile = (backend: Backend, graph: Graph, states: ReadonlyMap<string, Buffer>) =>
  backend.compile(graph, { params: new Map(), states });
