// What a device can do, measured in a second or two: copying, f32 products, tensor cores.

import { timeProduct } from '../time-product.ts';
import { isSoftware } from './adapters.ts';
import type { WebgpuBackend } from './backend.ts';
import { bufferUsage } from './constants.ts';
import { fragmentsOf } from './fragments.ts';
import type { KernelSource } from './kernel-source.ts';
import { subgroupMatmul } from './kernels/matmul-subgroup-source.ts';
import { largestTile } from './kernels/matmul-tensor-cores.ts';
import { timeKernel } from './time-kernel.ts';

export interface DeviceRates {
  /** Bytes read and written a second by a copy from buffer to buffer. */
  readonly copyBytes: number;
  /** Multiplications and additions a second of the f32 product that graphs use, by size. */
  readonly f32: { readonly size: number; readonly flops: number };
  /** The same of f16 products on subgroup matrices, where the adapter has them. */
  readonly f16?: { readonly size: number; readonly flops: number };
}

/** Throws what the device reports. */
export async function measureDevice(backend: WebgpuBackend): Promise<DeviceRates> {
  const f32 = await timeProduct(backend, { atLeast: 30 });
  return { copyBytes: await copyRate(backend), f32, f16: await tensorRate(backend) };
}

const copyThreads = 256;
const mostGroups = 65535;

/** Copies so many vec4<u32>. Bindings: from, to. */
export function copyKernel(vectors: number): KernelSource {
  const groups = Math.min(mostGroups, Math.ceil(vectors / copyThreads));
  return {
    workgroups: [groups, 1, 1],
    code: `@group(0) @binding(0) var<storage, read> from_: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> to_: array<vec4u>;
@compute @workgroup_size(${copyThreads}) fn main(@builtin(global_invocation_id) id: vec3u) {
  for (var i = id.x; i < ${vectors}u; i += ${groups * copyThreads}u) { to_[i] = from_[i]; }
}`,
  };
}

/** The largest of growing copies that the device holds: small ones would stay in its caches. */
async function copyRate({ gpu }: WebgpuBackend): Promise<number> {
  const { device } = gpu;
  let rate = 0;
  for (let bytes = 2 ** 24; bytes <= Math.min(2 ** 30, gpu.bufferBytes / 2); bytes *= 4) {
    const [from, to] = [0, 1].map(() => device.createBuffer({ size: bytes, usage: bufferUsage.storage }));
    const ms = await timeKernel(device, copyKernel(bytes / 16), [from, to], { atLeast: 100, length: 2 });
    from.destroy();
    to.destroy();
    rate = (2 * bytes) / (ms / 1000);
    // a device that takes this long has no cache worth leaving
    if (ms > 50) break;
  }
  return rate;
}

async function tensorRate({ gpu }: WebgpuBackend): Promise<DeviceRates['f16']> {
  const fragments = fragmentsOf(gpu);
  // a program that has them would take minutes
  if (!fragments || isSoftware(gpu.info)) return undefined;
  const size = 4096;
  const { device } = gpu;
  const usage = bufferUsage.storage;
  const buffers = [2, 2, 4].map((width) => device.createBuffer({ size: width * size * size, usage }));
  const outer = { storage: 'f16', contiguous: 'outer' } as const;
  const kernel = subgroupMatmul({
    M: size,
    N: size,
    K: size,
    a: { ...outer, contiguous: 'k' },
    b: outer,
    tile: largestTile(fragments),
  });
  const ms = await timeKernel(device, kernel, buffers);
  for (const buffer of buffers) buffer.destroy();
  return { size, flops: (2 * size ** 3) / (ms / 1000) };
}
