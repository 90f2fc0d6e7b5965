// Runs the nodes of a graph one by one on a device: each node's dispatches can be timed, each value read back as bytes.

import { assemble, commandWords } from '../src/backends/webgpu/assemble.ts';
import { operandAt, storedBytes } from '../src/backends/webgpu/buffer.ts';
import { alignedBytes, bufferUsage } from '../src/backends/webgpu/constants.ts';
import type { KernelSource } from '../src/backends/webgpu/kernel-source.ts';
import { kernelOf } from '../src/backends/webgpu/kernels.ts';
import { errorWords } from '../src/backends/webgpu/wgsl/report.ts';
import type { Graph, Node, Value } from '../src/graph/graph.ts';
import type { Bench } from './webgpu-gpu.ts';

interface Dispatch {
  readonly kernel: KernelSource;
  readonly buffers: readonly (GPUBuffer | GPUBufferBinding)[];
}

/** A graph on a device, every value in a buffer of its own. */
export class NodeRun {
  readonly #bench: Bench;
  readonly #buffers = new Map<Value, GPUBuffer>();
  readonly #owned: GPUBuffer[] = [];

  constructor(bench: Bench) {
    this.#bench = bench;
  }

  /** Gives an input its data. */
  write(value: Value, data: ArrayBufferView): void {
    const buffer = this.#take(storedBytes(value.type));
    this.#bench.device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    this.#buffers.set(value, buffer);
  }

  /** Runs a graph once, then gives the milliseconds of each of its nodes that `timed` asks for. */
  async run(graph: Graph, timed: (node: Node) => boolean): Promise<Map<Node, number>> {
    const dispatches = new Map(graph.nodes.map((node) => [node, this.#dispatchesOf(node)]));
    for (const list of dispatches.values()) for (const dispatch of list) this.#submit(dispatch);
    await this.#bench.device.queue.onSubmittedWorkDone();
    const times = new Map<Node, number>();
    for (const [node, list] of dispatches) {
      if (!timed(node)) continue;
      let sum = 0;
      for (const { kernel, buffers } of list) sum += await this.#bench.time(kernel, buffers);
      times.set(node, sum);
    }
    return times;
  }

  async bytes(value: Value): Promise<Uint8Array> {
    return new Uint8Array(await this.#bench.read(this.#buffers.get(value)!, 0, storedBytes(value.type)));
  }

  dispose(): void {
    for (const buffer of this.#owned) buffer.destroy();
  }

  #take(bytes: number, usage: number = bufferUsage.storage): GPUBuffer {
    const size = Math.max(alignedBytes(bytes), 256);
    const buffer = this.#bench.device.createBuffer({
      size,
      usage: usage | bufferUsage.copyTarget | bufferUsage.copySource,
    });
    this.#owned.push(buffer);
    return buffer;
  }

  #dispatchesOf(node: Node): Dispatch[] {
    const { gpu, device } = this.#bench;
    const kernel = kernelOf(node)!;
    const shared = node.op.inPlace ?? {};
    const operand = (value: Value) => operandAt(value.type, this.#buffers.get(value)!, 0);
    node.outputs.forEach((value, i) => {
      const input = shared[i];
      this.#buffers.set(
        value,
        input === undefined ? this.#take(storedBytes(value.type)) : this.#buffers.get(node.inputs[input])!,
      );
    });
    const bytes = alignedBytes(kernel.scratchBytes?.(node, gpu) ?? 0);
    const scratch = bytes > 0 ? { buffer: this.#take(bytes), offset: 0, bytes } : undefined;
    const [inputs, outputs] = [node.inputs.map(operand), node.outputs.map(operand)];
    return kernel.encode({ node, inputs, outputs, gpu, scratch }).map((command, i) => {
      const { text, storage, reports } = assemble(node.op.name, command);
      const words = commandWords(command, i);
      const data = new DataView(new ArrayBuffer(4 * words.length));
      words.forEach((word, j) => {
        if (typeof word === 'number') data.setUint32(4 * j, word, true);
        else data.setFloat32(4 * j, word.f32, true);
      });
      const uniform = this.#take(data.byteLength, bufferUsage.uniform);
      device.queue.writeBuffer(uniform, 0, data.buffer);
      const ranges = storage.map(({ range: { buffer, offset, bytes: size } }) => ({ buffer, offset, size }));
      return {
        kernel: { code: text, workgroups: command.workgroups },
        buffers: [...ranges, uniform, ...(reports ? [this.#take(4 * errorWords)] : [])],
      };
    });
  }

  #submit({ kernel: { code, workgroups }, buffers }: Dispatch): void {
    const { device } = this.#bench;
    const module = device.createShaderModule({ code });
    const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
    const entries = buffers.map((resource, binding) => ({
      binding,
      resource: 'buffer' in resource ? resource : { buffer: resource },
    }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...workgroups);
    pass.end();
    device.queue.submit([encoder.finish()]);
  }
}
