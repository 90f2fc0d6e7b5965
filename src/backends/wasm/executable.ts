// A graph compiled for the WASM backend: every value has its address, every node its commands, before the first run.
//
// Memory: one arena for intermediate values and scratch (offsets from the memory plan), one allocation for each input,
// output and constant and for each state that the caller did not bind, and the program. The plan's figures are what
// the allocator takes.

import type { Graph, Node, Value } from '../../graph/graph.ts';
import { type GraphPlan, planMemory } from '../../graph/plan.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Bindings, Executable, MemoryPlan } from '../backend.ts';
import { checkLength, findBoundary } from '../bindings.ts';
import { dataError } from '../data-error.ts';
import { updatesHeld } from '../data-error-codes.ts';
import { alignedBytes } from './allocator.ts';
import { bufferAddress, operandAt, writeTensor } from './buffer.ts';
import { errorAddress } from './control.ts';
import type { Command } from './encoder.ts';
import { encoders } from './encoders.ts';
import { clearValue, storedBytes } from './packed-layout.ts';
import type { Pool } from './pool.ts';
import { programBytes, writeProgram } from './program.ts';
import { bytesOf, copyBytes } from './quantizer-copy.ts';
import { sharePanels } from './share-panels.ts';

type Numbers = Float32Array | Int32Array;

/** Copies values between ordinary and shared memory at the speed of memory, or converts them one by one. */
function copyValues(from: Numbers, to: Numbers): void {
  if (from.constructor !== to.constructor) to.set(from);
  else
    copyBytes(
      bytesOf(from.buffer, from.byteOffset, from.byteLength),
      0,
      from.byteLength,
      bytesOf(to.buffer, to.byteOffset, to.byteLength),
      0,
    );
}

export class WasmExecutable implements Executable {
  readonly plan: MemoryPlan;
  readonly #graph: Graph;
  readonly #pool: Pool;
  readonly #placed: GraphPlan;
  /** Addresses of what exists outside the arena, by root value. */
  readonly #roots = new Map<Value, number>();
  /** Allocations that this executable owns. */
  readonly #owned: number[] = [];
  /** The node of each command, for error messages. */
  readonly #nodeOf: Node[] = [];
  #arena = 0;
  #program = 0;
  #disposed = false;

  constructor(graph: Graph, bindings: Bindings, pool: Pool) {
    this.#graph = graph;
    this.#pool = pool;
    const { threads } = pool;
    this.#placed = planMemory(sharePanels(graph), {
      bytesOf: (value) => storedBytes(value.type),
      workspaceBytes: (node) => encoders.get(node.op.name)?.scratchBytes?.(node, threads) ?? 0,
    });
    try {
      this.#place(bindings);
      const commands = this.#encode();
      const bytes = alignedBytes(programBytes(commands));
      this.#program = this.#take(bytes, 'the program');
      writeProgram(pool.memory.buffer, this.#program, commands);
      const { arenaBytes, parameterBytes, stateBytes, boundaryBytes, peakBytes } = this.#placed;
      this.plan = {
        arenaBytes: arenaBytes + bytes,
        parameterBytes,
        stateBytes,
        boundaryBytes,
        peakBytes: peakBytes + bytes,
      };
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  write(input: string, data: Float32Array | Int32Array): void {
    const value = findBoundary('input', input, this.#graph.inputs);
    checkLength('input', input, data.length, elementCount(value.type.shape));
    copyValues(data, this.#view(value));
  }

  run(): void {
    if (this.#disposed) throw new Error('wasm: run after dispose');
    const words = new Int32Array(this.#pool.memory.buffer, errorAddress, 3);
    words[0] = 0;
    this.#pool.run('run', this.#program, this.#nodeOf.length);
    if (words[0] !== 0 && words[0] !== updatesHeld) throw dataError(words[0], words[2], this.#nodeOf[words[1]]);
  }

  async read(output: string, out?: Float32Array | Int32Array): Promise<Tensor> {
    const value = findBoundary('output', output, this.#graph.outputs);
    const view = this.#view(value);
    if (out) checkLength('output', output, out.length, view.length);
    const data = out ?? (view instanceof Int32Array ? new Int32Array(view.length) : new Float32Array(view.length));
    copyValues(view, data);
    return { kind: 'dense', shape: value.type.shape, dtype: data instanceof Int32Array ? 'i32' : 'f32', data };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const address of this.#owned) this.#pool.allocator.free(address);
  }

  #take(bytes: number, purpose: string): number {
    const address = this.#pool.allocator.allocate(bytes, purpose);
    this.#owned.push(address);
    return address;
  }

  /** Gives every root outside the arena its address, and the arena its own. */
  #place({ params, states }: Bindings): void {
    const { allocator, memory } = this.#pool;
    const graph = this.#graph;
    for (const [name, value] of graph.params)
      this.#roots.set(value, bufferAddress(`parameter ${name}`, params.get(name)!, allocator));
    for (const [name, value] of graph.states) {
      const bound = states?.get(name);
      if (bound) this.#roots.set(value, bufferAddress(`state ${name}`, bound, allocator));
      else this.#allocateRoot(value, `state ${name}`);
    }
    for (const [name, value] of graph.inputs) this.#allocateRoot(value, `input ${name}`);
    for (const [value, tensor] of graph.constants) {
      const address = this.#allocateRoot(value, value.name); // may grow the memory, which replaces memory.buffer
      writeTensor(memory.buffer, address, tensor);
    }
    for (const { place, root } of this.#placed.placements.values())
      if (place === 'output' && !this.#roots.has(root)) this.#allocateRoot(root, `output ${root.name}`);
    if (this.#placed.arenaBytes > 0) this.#arena = this.#take(this.#placed.arenaBytes, 'intermediate values');
  }

  #allocateRoot(value: Value, purpose: string): number {
    const address = this.#take(storedBytes(value.type), purpose);
    clearValue(this.#pool.memory.buffer, address, value.type);
    this.#roots.set(value, address);
    return address;
  }

  #address(value: Value): number {
    const placement = this.#placed.placements.get(value)!;
    return placement.place === 'arena' ? this.#arena + placement.offset : this.#roots.get(placement.root)!;
  }

  #encode(): Command[] {
    const commands: Command[] = [];
    const operand = (value: Value) => operandAt(value.type, this.#address(value));
    for (const node of this.#placed.nodes) {
      const workspace = this.#placed.workspaces.get(node);
      const added = encoders.get(node.op.name)!.encode({
        node,
        inputs: node.inputs.map(operand),
        outputs: node.outputs.map(operand),
        threads: this.#pool.threads,
        scratch: workspace === undefined ? 0 : this.#arena + workspace,
      });
      for (const command of added) {
        commands.push(command);
        this.#nodeOf.push(node);
      }
    }
    return commands;
  }

  #view(value: Value): Float32Array | Int32Array {
    if (this.#disposed) throw new Error('wasm: the executable was disposed');
    const { type } = value;
    if (type.dtype === 'packed') throw new Error(`wasm: ${value.name} cannot be copied: it is packed`);
    const View = type.dtype === 'i32' ? Int32Array : Float32Array;
    return new View(this.#pool.memory.buffer, this.#address(value), elementCount(type.shape));
  }
}
