// The rate of a copy on the GPU, which kernels that are bound by memory are compared with.

import { copyKernel } from '../src/backends/webgpu/measure.ts';
import type { Bench } from './webgpu-gpu.ts';

/** Copies `bytes`, a multiple of 16; prints and returns GB read and written a second. */
export async function copyRate(bench: Bench, bytes: number): Promise<number> {
  const buffers = [bench.empty(bytes), bench.empty(bytes)];
  const rate = (2 * bytes) / (await bench.time(copyKernel(bytes / 16), buffers)) / 1e6;
  for (const buffer of buffers) buffer.destroy();
  console.log(`copy of ${bytes / 2 ** 20} MiB: ${rate.toFixed(0)} GB/s read and written`);
  return rate;
}
