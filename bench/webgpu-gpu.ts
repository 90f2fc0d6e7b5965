// A WebGPU device for kernel benchmarks in Node: timestamps on, everything the adapter has, and one function that checks
// and times a kernel.

import { bufferUsage, mapRead } from '../src/backends/webgpu/constants.ts';
import { type DeviceOptions, type OpenDevice, openDevice } from '../src/backends/webgpu/device.ts';
import type { KernelSource } from '../src/backends/webgpu/kernel-source.ts';
import { timeKernel } from '../src/backends/webgpu/time-kernel.ts';

export interface Bench {
  readonly description: string;
  readonly gpu: OpenDevice;
  readonly device: GPUDevice;
  readonly configurations: string;
  buffer(data: ArrayBufferView): GPUBuffer;
  empty(bytes: number): GPUBuffer;
  read(buffer: GPUBuffer, offset: number, bytes: number): Promise<ArrayBuffer>;
  /** Milliseconds of one dispatch. */
  time(kernel: KernelSource, buffers: readonly (GPUBuffer | GPUBufferBinding)[]): Promise<number>;
}

/** Throws a device error where there is no GPU, later what the device reports: invalid WGSL, no memory. */
export async function openBench(options: DeviceOptions): Promise<Bench> {
  const gpu = await openDevice({ ...options, disableToggles: ['timestamp_quantization'] });
  const { device, info, subgroupMatrices } = gpu;
  const empty = (bytes: number) =>
    device.createBuffer({
      size: Math.ceil(bytes / 16) * 16,
      usage: bufferUsage.storage | bufferUsage.copyTarget | bufferUsage.copySource,
    });
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
    gpu,
    device,
    configurations: JSON.stringify(subgroupMatrices),
    empty,
    read,
    buffer(data) {
      const buffer = empty(data.byteLength);
      device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      return buffer;
    },
    time: (kernel, buffers) => timeKernel(device, kernel, buffers),
  };
}
