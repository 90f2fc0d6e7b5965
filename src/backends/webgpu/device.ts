// One GPU: its adapter, limits and features, and what happens when it is lost.
//
// Features and limits are asked for at the adapter's maximum, since the defaults (128 MiB bindings, 16 KiB of workgroup
// memory) are below what models need. The objects stay referenced for as long as the process lives (gpu.ts).

import { deviceError, type SubbyteError } from '../../errors.ts';
import { isSoftware } from './adapters.ts';
import { bindingAlignment } from './constants.ts';
import { fragmentsOf, type SubgroupMatrix } from './fragments.ts';
import { findGpu, type GpuOptions, isNode, keepAlive } from './gpu.ts';

export interface DeviceOptions extends GpuOptions {
  /** Largest buffer and binding in bytes, when less than the adapter allows (for tests). */
  maximumBufferBytes?: number;
  powerPreference?: GPUPowerPreference;
  /**
   * What matrix products may do on tensor cores, where there are any. exact (default; off where the adapter is a program,
   * which takes long to compile them): those whose operands f16 holds exactly, with f32 sums. f16: all large ones and
   * attention, rounding operands to f16 (11 bits, scaled by a power of two). off: none.
   */
  tensorCores?: TensorCores;
  /** Features to do without although the adapter has them (for tests of what other adapters run). */
  withoutFeatures?: readonly string[];
}

export type TensorCores = 'off' | 'exact' | 'f16';

/** Features that kernels may ask for where the adapter has them. */
const wantedFeatures = [
  'shader-f16',
  'subgroups',
  'subgroup-size-control',
  'timestamp-query',
  'chromium-experimental-subgroup-matrix',
];

/** Extensions of WGSL itself: a device has them or not, nobody asks for them. */
const languageFeatures = ['packed_4x8_integer_dot_product'];

const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxUniformBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
] as const;

/** What kernels may know of the adapter when they choose tiles. */
export interface GpuTraits {
  readonly features: ReadonlySet<string>;
  /** Largest buffer that a kernel can bind, a multiple of 256. */
  readonly bufferBytes: number;
  /** Storage buffers that a kernel can bind. */
  readonly storageBuffers: number;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Threads in a workgroup, also along x. */
  readonly workgroupThreads: number;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly subgroupMatrices: readonly SubgroupMatrix[];
  /** What products may do on them; off where kernels cannot use them. */
  readonly tensorCores: TensorCores;
}

export interface OpenDevice extends GpuTraits {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  /** Set when the device was lost. */
  readonly lost: GPUDeviceLostInfo | undefined;
  /** The error to throw for work on a lost device, once it is known to be lost; undefined when it is not. */
  lossError(op: string): Promise<SubbyteError | undefined>;
}

/** Opens the default adapter. Throws a device error when there is no WebGPU or no adapter. */
export async function openDevice(options: DeviceOptions = {}): Promise<OpenDevice> {
  const gpu = await findGpu(options);
  const powerPreference = options.powerPreference ?? 'high-performance';
  const adapter = await gpu.requestAdapter({ powerPreference }).catch((cause) => {
    throw noAdapter(options.adapter, cause);
  });
  if (!adapter) throw noAdapter(options.adapter);
  keepAlive(adapter);
  const { limits, info } = adapter;
  const { withoutFeatures = [] } = options;
  const features = wantedFeatures.filter((name) => adapter.features.has(name) && !withoutFeatures.includes(name));
  const language = languageFeatures.filter(
    (name) => gpu.wgslLanguageFeatures?.has(name) && !withoutFeatures.includes(name),
  );
  const device = await adapter
    .requestDevice({
      requiredFeatures: features as GPUFeatureName[],
      requiredLimits: Object.fromEntries(wantedLimits.map((name) => [name, limits[name]])),
    })
    .catch((cause) => {
      throw noAdapter(undefined, cause);
    });
  keepAlive(device);
  const { maximumBufferBytes = Infinity } = options;
  const largest = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize, maximumBufferBytes);
  let lost: GPUDeviceLostInfo | undefined;
  void device.lost.then((reason) => {
    lost = reason;
  });
  const traits = {
    features: new Set([...features, ...language]),
    storageBuffers: limits.maxStorageBuffersPerShaderStage,
    workgroupBytes: limits.maxComputeWorkgroupStorageSize,
    workgroupThreads: Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX),
    subgroupMinSize: info.subgroupMinSize,
    subgroupMaxSize: info.subgroupMaxSize,
    subgroupMatrices: subgroupMatrices(info),
  };
  return {
    device,
    info,
    ...traits,
    tensorCores: fragmentsOf(traits) ? (options.tensorCores ?? (isSoftware(info) ? 'off' : 'exact')) : 'off',
    bufferBytes: Math.floor(largest / bindingAlignment) * bindingAlignment,
    get lost() {
      return lost;
    },
    async lossError(op) {
      // A failed call may be heard of before the loss that caused it.
      const known = lost ?? (await Promise.race([device.lost, pause(300)]));
      return known && lossError(op, known);
    },
  };
}

const pause = (ms: number) => new Promise<undefined>((resolve) => setTimeout(resolve, ms));

function subgroupMatrices(info: GPUAdapterInfo): readonly SubgroupMatrix[] {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrix> };
  return [...subgroupMatrixConfigs].map(({ componentType, resultComponentType, M, N, K }) => ({
    componentType,
    resultComponentType,
    M,
    N,
    K,
  }));
}

const nodeFix =
  'install a Vulkan, Metal or Direct3D 12 driver (on Debian: apt-get install libvulkan1 and the driver of the card)';
const browserFix =
  "turn on hardware acceleration in the browser's settings (Chrome: chrome://gpu says what is missing; on Linux start it with --enable-unsafe-webgpu --enable-features=Vulkan)";

function noAdapter(name: string | undefined, cause?: Error): SubbyteError {
  const problem = name ? `no graphics adapter is called ${name}` : 'no graphics adapter can be used';
  const reason = cause ? ` (${cause.message.replace(/\s*\n[\s*]*/g, ', ')})` : '';
  return deviceError(
    {
      code: 'webgpu-no-adapter',
      op: 'webgpu',
      problem: problem + reason,
      fix: `${isNode ? nodeFix : browserFix}, or choose the wasm backend`,
    },
    { cause },
  );
}

function lossError(op: string, { reason, message }: GPUDeviceLostInfo): SubbyteError {
  return deviceError({
    code: 'webgpu-device-lost',
    op,
    problem: reason === 'destroyed' ? 'the backend was disposed' : `the graphics device was lost (${message})`,
    fix: 'open the backend again and go on from the last checkpoint',
  });
}
