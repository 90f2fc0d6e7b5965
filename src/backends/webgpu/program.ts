// The dispatches of a compiled graph: pipelines made, memory bound, numbers written, before the first run.

import type { Node } from '../../graph/graph.ts';
import { assemble, commandWords } from './assemble.ts';
import { alignedBytes, bufferUsage } from './constants.ts';
import type { Binding, Command, Word } from './kernel.ts';
import type { DeviceMemory } from './memory.ts';
import type { PipelineCache } from './pipelines.ts';
import { errorWords } from './wgsl/report.ts';

export interface PlannedCommand {
  readonly node: Node;
  readonly command: Command;
}

interface Step {
  readonly pipeline: GPUComputePipeline;
  readonly bindings: GPUBindGroup;
  readonly workgroups: Command['workgroups'];
}

/** The pass of a dispatch, by its number. */
type PassOf = (command: number) => GPUComputePassDescriptor;

export interface Program {
  /** Records every dispatch, in order, into one pass, or each into the pass that `passOf` describes. */
  encode(encoder: GPUCommandEncoder, passOf?: PassOf): void;
  /** Set when a kernel can report data errors; cleared before a run by whoever records it. */
  readonly errors: GPUBuffer | undefined;
  /** What the program takes besides values. */
  readonly buffers: readonly GPUBuffer[];
  readonly byteLength: number;
}

/** The words of all commands in one block, each command's at a multiple of 256, and where each lies. */
function layWords(commands: readonly PlannedCommand[]) {
  const places: { offset: number; size: number }[] = [];
  const chunks: { offset: number; words: readonly Word[] }[] = [];
  let end = 0;
  commands.forEach(({ command }, i) => {
    const words = commandWords(command, i);
    places.push({ offset: end, size: 4 * words.length });
    chunks.push({ offset: end, words });
    end += alignedBytes(4 * words.length);
  });
  const data = new DataView(new ArrayBuffer(end));
  for (const { offset, words } of chunks)
    words.forEach((word, j) => {
      if (typeof word === 'number') data.setUint32(offset + 4 * j, word, true);
      else data.setFloat32(offset + 4 * j, word.f32, true);
    });
  return { data: new Uint8Array(data.buffer), places };
}

/** A command with its tables bound: pieces of one buffer that is written here. */
function bindTables(
  commands: readonly PlannedCommand[],
  take: (bytes: number, purpose: string, usage: number) => GPUBuffer,
  { queue }: GPUDevice,
): readonly PlannedCommand[] {
  const sizeOf = (table: Uint32Array) => alignedBytes(table.byteLength);
  const tables = commands.flatMap(({ command }) => Object.values(command.tables ?? {}));
  const bytes = tables.reduce((sum, table) => sum + sizeOf(table), 0);
  if (bytes === 0) return commands;
  const buffer = take(bytes, 'tables of kernels', bufferUsage.storage);
  let offset = 0;
  return commands.map(({ node, command }): PlannedCommand => {
    if (!command.tables) return { node, command };
    const bindings: Record<string, Binding> = { ...command.bindings };
    for (const [name, table] of Object.entries(command.tables)) {
      queue.writeBuffer(buffer, offset, table);
      bindings[name] = { range: { buffer, offset, bytes: table.byteLength }, access: 'read', type: 'u32' };
      offset += sizeOf(table);
    }
    return { node, command: { ...command, bindings } };
  });
}

/** Compiles every command; pipelines that are not cached are made side by side. */
export async function buildProgram(
  planned: readonly PlannedCommand[],
  memory: DeviceMemory,
  cache: PipelineCache,
): Promise<Program> {
  const { device } = memory;
  const buffers: GPUBuffer[] = [];
  const take = (bytes: number, purpose: string, usage: number) => {
    const buffer = memory.allocate(bytes, purpose, usage);
    buffers.push(buffer);
    return buffer;
  };
  try {
    const commands = bindTables(planned, take, device);
    const assembled = commands.map(({ node, command }) => assemble(node.outputs[0].name, command));
    const pipelines = await Promise.all(assembled.map((a, i) => cache.pipeline(commands[i].node.op.name, a)));
    const { data, places } = layWords(commands);
    const words = data.length > 0 ? take(data.length, 'kernel arguments', bufferUsage.uniform) : undefined;
    const errors = assembled.some(({ reports }) => reports)
      ? take(4 * errorWords, 'data errors', bufferUsage.storage)
      : undefined;
    if (words) device.queue.writeBuffer(words, 0, data);
    const steps = assembled.map((a, i): Step => {
      const resources: GPUBufferBinding[] = a.storage.map(({ range: { buffer, offset, bytes } }) => ({
        buffer,
        offset,
        size: bytes,
      }));
      resources.push({ buffer: words!, ...places[i] });
      if (a.reports) resources.push({ buffer: errors! });
      const entries = resources.map((resource, binding) => ({ binding, resource }));
      const bindings = device.createBindGroup({ layout: cache.layout(a), entries });
      return { pipeline: pipelines[i], bindings, workgroups: commands[i].command.workgroups };
    });
    return {
      errors,
      buffers,
      byteLength: buffers.reduce((sum, { size }) => sum + size, 0),
      encode: (encoder, passOf) => record(steps, encoder, passOf),
    };
  } catch (error) {
    for (const buffer of buffers) memory.free(buffer);
    throw error;
  }
}

function record(steps: readonly Step[], encoder: GPUCommandEncoder, passOf: PassOf | undefined): void {
  let pass = passOf ? undefined : encoder.beginComputePass();
  steps.forEach(({ pipeline, bindings, workgroups }, i) => {
    if (passOf) {
      pass?.end();
      pass = encoder.beginComputePass(passOf(i));
    }
    pass!.setPipeline(pipeline);
    pass!.setBindGroup(0, bindings);
    pass!.dispatchWorkgroups(...workgroups);
  });
  pass?.end();
}
