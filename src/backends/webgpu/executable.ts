// A graph compiled for a GPU: every value has its memory, every node its dispatches, before the first run.
//
// Memory: the arena of the memory plan in pieces that a kernel can bind, one buffer for each input, output and constant
// and for each state that the caller did not bind, and what the program needs (kernel arguments, the error record,
// staging). A run is one command encoder and one submit; it ends when the device is done, which the copy of the error
// record tells.

import type { Graph, Node, Value, ValueType } from '../../graph/graph.ts';
import { type GraphPlan, planMemory } from '../../graph/plan.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Bindings, Executable, MemoryPlan } from '../backend.ts';
import { checkLength, findBoundary } from '../bindings.ts';
import { dataError } from '../data-error.ts';
import { boundRange, checkSize, clearValue, operandAt, storedBytes, tensorBytes } from './buffer.ts';
import { alignedBytes, bindingAlignment } from './constants.ts';
import type { OpenDevice } from './device.ts';
import { runError } from './errors.ts';
import { joinNodes } from './join-nodes.ts';
import type { Command, EncodeContext, MemoryRange } from './kernel.ts';
import { kernelOf } from './kernels.ts';
import { type DeviceMemory, watchErrors } from './memory.ts';
import type { PipelineCache } from './pipelines.ts';
import { type CommandProfile, type DispatchTimer, describeCommands, openTimer } from './profile.ts';
import { buildProgram, type PlannedCommand, type Program } from './program.ts';
import { collectCopies, encodeCopies, Readback, Readbacks } from './readback.ts';
import { errorWords } from './wgsl/report.ts';

export interface DeviceParts {
  readonly gpu: OpenDevice;
  readonly memory: DeviceMemory;
  readonly pipelines: PipelineCache;
}

export class WebgpuExecutable implements Executable {
  readonly #graph: Graph;
  readonly #parts: DeviceParts;
  readonly #placed: GraphPlan;
  /** Memory of what exists outside the arena, by root value. */
  readonly #roots = new Map<Value, MemoryRange>();
  readonly #arena: GPUBuffer[] = [];
  readonly #owned: GPUBuffer[] = [];
  #readback: Readback | undefined;
  readonly #readbacks: Readbacks;
  #commands: readonly PlannedCommand[] = [];
  #program: Program | undefined;
  /** Runs that were started and have not ended. */
  #underWay = 0;
  #disposed = false;

  /** Plans and takes the memory; prepare() makes the program. */
  private constructor(graph: Graph, bindings: Bindings, parts: DeviceParts) {
    this.#graph = graph;
    this.#parts = parts;
    const { gpu } = parts;
    checkSizes(graph, gpu.bufferBytes);
    this.#placed = planMemory(graph, {
      bytesOf: (value) => storedBytes(value.type),
      workspaceBytes: (node) => kernelOf(node)?.scratchBytes?.(node, gpu) ?? 0,
      alignment: bindingAlignment,
      segmentBytes: gpu.bufferBytes,
    });
    this.#readbacks = new Readbacks(parts.memory);
    try {
      this.#place(bindings);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  static async compile(graph: Graph, bindings: Bindings, parts: DeviceParts): Promise<WebgpuExecutable> {
    const executable = new WebgpuExecutable(graph, bindings, parts);
    try {
      await executable.#prepare();
      return executable;
    } catch (error) {
      executable.dispose();
      throw error;
    }
  }

  get plan(): MemoryPlan {
    const { arenaBytes, parameterBytes, stateBytes, boundaryBytes, peakBytes } = this.#placed;
    const bytes = (this.#program?.byteLength ?? 0) + (this.#readback?.byteLength ?? 0) + this.#readbacks.byteLength;
    return {
      arenaBytes: arenaBytes + bytes,
      parameterBytes,
      stateBytes,
      boundaryBytes,
      peakBytes: peakBytes + bytes,
    };
  }

  write(input: string, data: Float32Array | Int32Array): void {
    const value = findBoundary('input', input, this.#graph.inputs);
    checkLength('input', input, data.length, elementCount(value.type.shape));
    this.#alive();
    const View = value.type.dtype === 'i32' ? Int32Array : Float32Array;
    const plain = data instanceof View && data.buffer instanceof ArrayBuffer;
    this.#parts.gpu.device.queue.writeBuffer(
      this.#roots.get(value)!.buffer,
      0,
      plain ? (data as Float32Array<ArrayBuffer>) : View.from(data),
    );
  }

  async run(): Promise<void> {
    this.#mayRun();
    await this.#start([]);
  }

  async start(outputs: readonly string[]): Promise<readonly Tensor[]> {
    this.#alive();
    return this.#start(outputs.map((name) => findBoundary('output', name, this.#graph.outputs)));
  }

  /**
   * Runs the graph `runs` times with timestamps around every dispatch; each dispatch's fastest time counts. States change
   * as in any run. Throws a device error where the adapter has no timestamps.
   */
  async profile(runs = 1): Promise<CommandProfile[]> {
    this.#mayRun();
    const timer = openTimer(this.#parts.memory, this.#commands.length);
    const best = new Float64Array(this.#commands.length).fill(Infinity);
    try {
      await this.#parts.memory.settle();
      for (let i = 0; i < runs; i++) {
        this.#mayRun();
        await this.#start([], timer);
        for (const [c, time] of (await timer.collect()).entries()) best[c] = Math.min(best[c], time);
      }
    } finally {
      timer.dispose();
    }
    return describeCommands(this.#commands, best);
  }

  async read(output: string, out?: Float32Array | Int32Array): Promise<Tensor> {
    const value = findBoundary('output', output, this.#graph.outputs);
    this.#alive();
    const { type } = value;
    const count = elementCount(type.shape);
    if (out) checkLength('output', output, out.length, count);
    const View = viewOf(value);
    const direct = !out || out instanceof View;
    const data = direct && out ? out : new View(count);
    const range = this.#range(value);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    await this.#guard('read', () => this.#readback!.read(range.buffer, range.offset, bytes));
    if (out && !direct) out.set(data);
    const found = out ?? data;
    return { kind: 'dense', shape: type.shape, dtype: found instanceof Int32Array ? 'i32' : 'f32', data: found };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    const { memory } = this.#parts;
    for (const buffer of [...this.#owned, ...(this.#program?.buffers ?? [])]) memory.free(buffer);
    this.#readback?.dispose();
    this.#readbacks.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new Error('webgpu: the executable is used after dispose');
  }

  #mayRun(): void {
    this.#alive();
    if (this.#underWay > 0) throw new Error('webgpu: run before the last run has ended');
  }

  /** Submits a run and the copies of its error record and of some outputs; reads them when it has ended. */
  async #start(values: readonly Value[], timer?: DispatchTimer): Promise<Tensor[]> {
    const { device } = this.#parts.gpu;
    const program = this.#program!;
    const copied: MemoryRange[] = program.errors ? [{ buffer: program.errors, offset: 0, bytes: 4 * errorWords }] : [];
    for (const value of values)
      copied.push({ ...this.#range(value), bytes: elementCount(value.type.shape) * viewOf(value).BYTES_PER_ELEMENT });
    const staging = this.#readbacks.take(copied.reduce((sum, { bytes }) => sum + bytes, 0));
    // runs that are under way keep the record: what one found, those behind it see
    const isFirst = this.#underWay++ === 0;
    try {
      const failure = watchErrors(device, () => {
        const encoder = device.createCommandEncoder();
        if (program.errors && isFirst) encoder.clearBuffer(program.errors);
        program.encode(encoder, timer?.pass);
        timer?.resolve(encoder);
        encodeCopies(encoder, copied, staging);
        device.queue.submit([encoder.finish()]);
      });
      const parts = await this.#guard('run', async () => {
        const error = await failure;
        if (error) throw error;
        if (staging) return collectCopies(copied, staging);
        await device.queue.onSubmittedWorkDone();
        return [];
      });
      this.#readbacks.giveBack(staging);
      if (program.errors) {
        const [code, command, value] = new Int32Array(parts.shift()!.buffer);
        if (code !== 0) throw dataError(code, value, this.#commands[command].node);
      }
      return parts.map((bytes, i) => tensorOf(values[i], bytes));
    } finally {
      this.#underWay--;
    }
  }

  /** Runs work on the device and turns what it throws, and the loss of the device, into errors for people. */
  async #guard<T>(op: string, work: () => Promise<T>): Promise<T> {
    const { gpu } = this.#parts;
    try {
      const result = await work();
      if (gpu.lost) throw new Error('the device was lost');
      return result;
    } catch (cause) {
      throw await runError(op, cause, gpu, this.plan);
    }
  }

  #take(bytes: number, purpose: string): GPUBuffer {
    const buffer = this.#parts.memory.allocate(bytes, purpose);
    this.#owned.push(buffer);
    return buffer;
  }

  /** Gives every root outside the arena its buffer, and the arena its pieces. */
  #place({ params, states }: Bindings): void {
    const { memory, gpu } = this.#parts;
    const graph = this.#graph;
    for (const [name, value] of graph.params)
      this.#roots.set(value, boundRange(`parameter ${name}`, params.get(name)!, memory));
    for (const [name, value] of graph.states) {
      const bound = states?.get(name);
      if (bound) this.#roots.set(value, boundRange(`state ${name}`, bound, memory));
      else this.#allocateRoot(value, `state ${name}`);
    }
    for (const [name, value] of graph.inputs) this.#allocateRoot(value, `input ${name}`);
    for (const [value, tensor] of graph.constants)
      gpu.device.queue.writeBuffer(this.#allocateRoot(value, value.name), 0, tensorBytes(tensor));
    for (const { place, root } of this.#placed.placements.values())
      if (place === 'output' && !this.#roots.has(root)) this.#allocateRoot(root, `output ${root.name}`);
    for (let first = 0; first < this.#placed.arenaBytes; first += gpu.bufferBytes)
      this.#arena.push(this.#take(Math.min(gpu.bufferBytes, this.#placed.arenaBytes - first), 'intermediate values'));
  }

  #allocateRoot(value: Value, purpose: string): GPUBuffer {
    const bytes = storedBytes(value.type);
    const buffer = this.#take(bytes, purpose);
    clearValue(this.#parts.gpu.device, buffer, value.type);
    this.#roots.set(value, { buffer, offset: 0, bytes });
    return buffer;
  }

  async #prepare(): Promise<void> {
    const { memory, pipelines } = this.#parts;
    const largest = Math.max(4, ...[...this.#graph.outputs.values()].map((v) => storedBytes(v.type)));
    this.#readback = new Readback(memory, largest);
    this.#commands = joinNodes(this.#placed).flatMap((nodes) =>
      this.#encode(nodes).map((command) => ({ node: nodes[0], command })),
    );
    this.#program = await buildProgram(this.#commands, memory, pipelines);
    // for the first run's error record, so that it is part of the plan
    if (this.#program.errors) this.#readbacks.giveBack(this.#readbacks.take(4 * errorWords));
    await memory.settle();
  }

  #encode(nodes: readonly Node[]): readonly Command[] {
    const kernel = kernelOf(nodes[0])!;
    const contexts = nodes.map((node) => this.#context(node));
    return nodes.length > 1 ? kernel.encodeTogether!(contexts) : kernel.encode(contexts[0]);
  }

  #context(node: Node): EncodeContext {
    const workspace = this.#placed.workspaces.get(node);
    const gpu = this.#parts.gpu;
    const kernel = kernelOf(node)!;
    const operand = (value: Value) => {
      const { buffer, offset } = this.#range(value);
      return operandAt(value.type, buffer, offset);
    };
    const bytes = workspace === undefined ? 0 : alignedBytes(kernel.scratchBytes!(node, gpu));
    return {
      node,
      inputs: node.inputs.map(operand),
      outputs: node.outputs.map(operand),
      gpu,
      scratch: workspace === undefined ? undefined : { ...this.#arenaAt(workspace), bytes },
    };
  }

  #arenaAt(offset: number): { buffer: GPUBuffer; offset: number } {
    const { bufferBytes } = this.#parts.gpu;
    return { buffer: this.#arena[Math.floor(offset / bufferBytes)], offset: offset % bufferBytes };
  }

  #range(value: Value): MemoryRange {
    const placement = this.#placed.placements.get(value)!;
    const bytes = storedBytes(value.type);
    if (placement.place === 'arena') return { ...this.#arenaAt(placement.offset), bytes };
    const { buffer, offset } = this.#roots.get(placement.root)!;
    return { buffer, offset, bytes };
  }
}

/** Every value must fit into one binding; a device error names the first that does not and the op that makes it. */
function checkSizes(graph: Graph, limit: number): void {
  const check = (op: string, values: Iterable<{ name: string; type: ValueType }>) => {
    for (const { name, type } of values) checkSize(op, name, type, limit);
  };
  check('compile', [...graph.params.values(), ...graph.states.values(), ...graph.inputs.values()]);
  check('compile', graph.constants.keys());
  for (const node of graph.nodes) check(node.op.name, node.outputs);
}

/** The array type of a dense value's numbers; packed values cannot be copied. */
function viewOf({ name, type }: Value): Float32ArrayConstructor | Int32ArrayConstructor {
  if (type.dtype === 'packed') throw new Error(`webgpu: ${name} cannot be copied: it is packed`);
  return type.dtype === 'i32' ? Int32Array : Float32Array;
}

function tensorOf(value: Value, bytes: Uint8Array): Tensor {
  const data = new (viewOf(value))(bytes.buffer as ArrayBuffer);
  return { kind: 'dense', shape: value.type.shape, dtype: data instanceof Int32Array ? 'i32' : 'f32', data };
}
