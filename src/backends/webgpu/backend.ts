// The WebGPU backend: the same graphs on any GPU, in Node through Dawn and in browsers.

import { userError } from '../../errors.ts';
import type { Graph, ValueType } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { typeOfTensor } from '../../graph/value-type.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Backend, Bindings, Buffer, Executable } from '../backend.ts';
import { checkBindings, checkKernels } from '../bindings.ts';
import { packBuffers, tensorBytes, WebgpuBuffer } from './buffer.ts';
import { type DeviceOptions, type GpuTraits, type OpenDevice, openDevice } from './device.ts';
import { orLoss } from './errors.ts';
import { type DeviceParts, WebgpuExecutable } from './executable.ts';
import { fuseQuantize } from './fuse-quantize.ts';
import { fuseSelected } from './fuse-selected.ts';
import { kernelOf, kernels } from './kernels.ts';
import { DeviceMemory } from './memory.ts';
import { PipelineCache } from './pipelines.ts';
import { readTransposed } from './read-transposed.ts';
import { shareBounds } from './share-bounds.ts';
import { cutRows, uploadPieces } from './split-buffer.ts';
import { splitWeights } from './split-graph.ts';

export interface WebgpuOptions extends DeviceOptions {
  /** Bytes that all buffers together may take; as much as the device has when absent. */
  maximumBytes?: number;
  /** Chains of ops that one kernel can run are run by it (default true); the results are the same bits. */
  fuse?: boolean;
}

/** A Backend that also shows its device and how much memory is in use. */
export interface WebgpuBackend extends Backend {
  readonly gpu: OpenDevice;
  /** Bytes of buffers and executables that are not disposed. */
  readonly usedBytes: number;
  /** Compiled pipelines. */
  readonly pipelineCount: number;
}

/** Writes larger than this go in pieces, so that the queue's own copy of them stays small. */
const pieceBytes = 2 ** 26;

/**
 * Opens a GPU. In Node it needs the npm package `webgpu`; kernels are compiled when a graph is.
 *
 * Throws a device error when there is no WebGPU or adapter, and later when memory runs out or the device is lost.
 *
 * @example
 * const backend = await createWebgpuBackend();
 * const run = await backend.compile(graph, { params: new Map([['w', await backend.upload(weight)]]) });
 * run.write('x', values);
 * await run.run();
 * const y = await run.read('y');
 */
export async function createWebgpuBackend(options: WebgpuOptions = {}): Promise<WebgpuBackend> {
  const gpu = await openDevice(options);
  const { device, bufferBytes } = gpu;
  const memory = new DeviceMemory(device, { bufferBytes, maximumBytes: options.maximumBytes ?? Infinity });
  const parts: DeviceParts = { gpu, memory, pipelines: new PipelineCache(device) };
  const backend: WebgpuBackend = {
    name: 'webgpu',
    description: describe(gpu),
    gpu,
    get usedBytes() {
      return memory.usedBytes;
    },
    get pipelineCount() {
      return parts.pipelines.size;
    },
    async upload(tensor: AnyTensor): Promise<Buffer> {
      const pieces = cutRows(typeOfTensor(tensor), bufferBytes);
      if (pieces) return uploadPieces(tensor, pieces, (piece) => backend.upload(piece));
      const buffer = new WebgpuBuffer(memory, typeOfTensor(tensor));
      try {
        await orLoss('upload', gpu, () => upload(tensor, buffer.rangeIn(memory).buffer, memory));
        const lost = gpu.lost && (await gpu.lossError('upload'));
        if (lost) throw lost;
      } catch (error) {
        buffer.dispose();
        throw error;
      }
      return buffer;
    },
    allocate(type: ValueType): Buffer {
      return new WebgpuBuffer(memory, type);
    },
    pack(buffers: Iterable<Buffer>): Promise<void> {
      return orLoss('pack', gpu, () => packBuffers(buffers, memory));
    },
    async compile(graph: Graph, bindings: Bindings): Promise<Executable> {
      checkKernels(graph, 'webgpu', (op) => op in kernels);
      checkBindings(graph, bindings);
      const split = splitWeights(graph, bindings, bufferBytes);
      const fused = options.fuse === false ? split.graph : rewrite(split.graph, gpu);
      checkSupport(fused, gpu);
      return orLoss('compile', gpu, () => WebgpuExecutable.compile(fused, split.bindings, parts));
    },
    dispose() {
      device.destroy();
    },
  };
  return backend;
}

/** Writes a tensor's bytes, and waits until the memory is known to be there. */
async function upload(tensor: AnyTensor, target: GPUBuffer, memory: DeviceMemory): Promise<void> {
  const { queue } = memory.device;
  const view = tensorBytes(tensor);
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  for (let first = 0; first < bytes.length; first += pieceBytes) {
    if (first > 0) await queue.onSubmittedWorkDone();
    queue.writeBuffer(target, first, bytes, first, Math.min(pieceBytes, bytes.length - first));
  }
  await memory.settle();
}

/** The passes over a graph, in order: each looks at what the one before it left. */
const rewrite = (graph: Graph, gpu: GpuTraits): Graph =>
  shareBounds(fuseSelected(fuseQuantize(readTransposed(graph, gpu), gpu)), gpu);

function checkSupport(graph: Graph, gpu: GpuTraits): void {
  for (const node of liveNodes(graph)) {
    const problem = kernelOf(node)?.unsupported?.(node, gpu);
    if (problem)
      throw userError({
        code: 'missing-kernel',
        op: node.op.name,
        problem: `the webgpu backend has no kernel for ${problem} (${node.outputs[0].name})`,
        fix: 'run the graph on another backend',
      });
  }
}

function describe({ info, features, subgroupMatrices }: OpenDevice): string {
  const name = info.description || info.device || [info.vendor, info.architecture].filter(Boolean).join(' ');
  const extras = [features.has('shader-f16') && 'f16', subgroupMatrices.length > 0 && 'subgroup matrices'];
  return ['webgpu', name || 'unnamed adapter', ...extras.filter(Boolean)].join(', ');
}
