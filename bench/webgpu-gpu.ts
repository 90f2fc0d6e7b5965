// A WebGPU device for kernel benchmarks in Node: timestamps on, everything the adapter has, and one function that checks
// and times a kernel.

import { bufferUsage, mapRead } from '../src/backends/webgpu/constants.ts';
import { type DeviceOptions, openDevice } from '../src/backends/webgpu/device.ts';
import type { KernelSource } from '../src/backends/webgpu/kernels/matmul-subgroup.ts';

/** Buffers that timestamps are written to. */
const queryResolve = 0x0200;

export interface Bench {
  readonly description: string;
  readonly device: GPUDevice;
  readonly configurations: string;
  buffer(data: ArrayBufferView): GPUBuffer;
  empty(bytes: number): GPUBuffer;
  read(buffer: GPUBuffer, offset: number, bytes: number): Promise<ArrayBuffer>;
  /** Milliseconds of one dispatch: the fastest of some series, between GPU timestamps. */
  time(kernel: KernelSource, buffers: readonly GPUBuffer[], series?: number, length?: number): Promise<number>;
}

/** Throws a device error where there is no GPU, later what the device reports: invalid WGSL, no memory. */
export async function openBench(options: DeviceOptions): Promise<Bench> {
  const { device, info, subgroupMatrices } = await openDevice({
    ...options,
    disableToggles: ['timestamp_quantization'],
  });
  const empty = (bytes: number) =>
    device.createBuffer({
      size: Math.ceil(bytes / 16) * 16,
      usage: bufferUsage.storage | bufferUsage.copyTarget | bufferUsage.copySource,
    });
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: queryResolve | bufferUsage.copySource });
  const read = async (buffer: GPUBuffer, offset: number, bytes: number) => {
    const target = device.createBuffer({ size: bytes, usage: bufferUsage.copyTarget | bufferUsage.mapRead });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, target, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await target.mapAsync(mapRead);
    const copy = target.getMappedRange().slice(0);
    target.destroy();
    return copy;
  };
  return {
    description: `${info.description || info.device} (${info.vendor}, ${info.architecture})`,
    device,
    configurations: JSON.stringify(subgroupMatrices),
    empty,
    read,
    buffer(data) {
      const buffer = empty(data.byteLength);
      device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      return buffer;
    },
    async time({ code, workgroups }, buffers, series = 4, length = 10) {
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code });
      const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
      const group = device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
      });
      const problem = await device.popErrorScope();
      if (problem) throw new Error(problem.message.slice(0, 300));
      // an idle card lowers its clock: work for a while before the first series counts
      let best = Infinity;
      const start = performance.now();
      for (let i = 0; i < series || performance.now() - start < 400; i++) {
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass({
          timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
        });
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        for (let d = 0; d < length; d++) pass.dispatchWorkgroups(...workgroups);
        pass.end();
        encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
        device.queue.submit([encoder.finish()]);
        const [begin, end] = new BigUint64Array(await read(resolved, 0, 16));
        best = Math.min(best, Number(end - begin) / 1e6 / length);
      }
      return best;
    },
  };
}
