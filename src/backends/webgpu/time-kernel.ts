// How long a kernel takes on a device.
//
// Dispatches are timed in series between two GPU timestamps, or by the clock of the host where the device has none. An
// idle card lowers its clock, so series go on until the card has worked for a while; the fastest counts.

import { bufferUsage, mapRead } from './constants.ts';
import type { KernelSource } from './kernel-source.ts';

export interface TimingOptions {
  /** Milliseconds that the card works before timing ends (default 400). */
  readonly atLeast?: number;
  /** Dispatches of a series (default 10). */
  readonly length?: number;
}

const queryResolve = 0x0200;

/** Milliseconds of one dispatch. Throws an Error with the device's words when the kernel or a buffer is invalid. */
export async function timeKernel(
  device: GPUDevice,
  { code, workgroups }: KernelSource,
  buffers: readonly (GPUBuffer | GPUBufferBinding)[],
  { atLeast = 400, length = 10 }: TimingOptions = {},
): Promise<number> {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((resource, binding) => ({
      binding,
      resource: 'buffer' in resource ? resource : { buffer: resource },
    })),
  });
  const problem = await device.popErrorScope();
  if (problem) throw new Error(problem.message.slice(0, 300));
  const clock = device.features.has('timestamp-query') ? gpuClock(device) : undefined;
  let best = Infinity;
  const start = performance.now();
  for (let i = 0; i < 3 || performance.now() - start < atLeast; i++) {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass(clock?.pass);
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let d = 0; d < length; d++) pass.dispatchWorkgroups(...workgroups);
    pass.end();
    clock?.resolve(encoder);
    const before = performance.now();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    const elapsed = clock ? await clock.elapsed() : performance.now() - before;
    if (elapsed > 0) best = Math.min(best, elapsed / length);
  }
  clock?.dispose();
  return best;
}

function gpuClock(device: GPUDevice) {
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: queryResolve | bufferUsage.copySource });
  const staging = device.createBuffer({ size: 16, usage: bufferUsage.mapRead | bufferUsage.copyTarget });
  return {
    pass: { timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 } },
    resolve(encoder: GPUCommandEncoder) {
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    },
    /** Milliseconds between the timestamps of the submitted pass. */
    async elapsed(): Promise<number> {
      await staging.mapAsync(mapRead);
      const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
      staging.unmap();
      return Number(end - begin) / 1e6;
    },
    dispose() {
      for (const item of [querySet, resolved, staging]) item.destroy();
    },
  };
}
