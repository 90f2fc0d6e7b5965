// A WebGPU device for kernel benchmarks in Node: timestamps on, everything the adapter has, and one function that checks
// and times a kernel.

import { create, globals } from 'webgpu';
import type { KernelSource } from '../src/backends/webgpu/kernels/matmul-subgroup.ts';

Object.assign(globalThis, globals);

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

/** Throws what the device reports: a missing adapter, invalid WGSL. */
export async function openBench(toggles: string): Promise<Bench> {
  const gpu = create([`enable-dawn-features=${toggles}`, 'disable-dawn-features=timestamp_quantization']);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('bench: no GPU adapter');
  keep.push(gpu, adapter);
  const { limits } = adapter;
  const device = await adapter.requestDevice({
    requiredFeatures: [...adapter.features].filter((f) =>
      ['shader-f16', 'subgroups', 'timestamp-query', 'chromium-experimental-subgroup-matrix'].includes(f),
    ) as GPUFeatureName[],
    requiredLimits: {
      maxBufferSize: limits.maxBufferSize,
      maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
      maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
      maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
    },
  });
  keep.push(device);
  const empty = (bytes: number) =>
    device.createBuffer({
      size: Math.ceil(bytes / 16) * 16,
      usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC,
    });
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const read = async (buffer: GPUBuffer, offset: number, bytes: number) => {
    const target = device.createBuffer({ size: bytes, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, target, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await target.mapAsync(GPUMapMode.READ);
    const copy = target.getMappedRange().slice(0);
    target.destroy();
    return copy;
  };
  const { info } = adapter;
  return {
    description: `${info.description || info.device} (${info.vendor}, ${info.architecture})`,
    device,
    configurations: JSON.stringify((info as { subgroupMatrixConfigs?: unknown }).subgroupMatrixConfigs ?? []),
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
      let best = Infinity;
      for (let i = 0; i < series; i++) {
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

/** Collected objects of Dawn end the process later, far from the cause. */
const keep: unknown[] = [];
