// Ladders of kernels on a GPU: versions of one job, each timed and checked in the same run.
//
// A version is a graph, compiled by the backend as any other, or one WGSL text. Times are GPU timestamps: the fastest
// pass of every dispatch over as many runs as keep the card busy for `busy` milliseconds (an idle card lowers its
// clock), added up. Rows of the result are independent of those below them, so that the reference backend, which is in
// float64, checks the first few from the first few rows of the operands.

import { createReferenceBackend } from '../src/backends/reference/reference-backend.ts';
import { isSoftware } from '../src/backends/webgpu/adapters.ts';
import { createWebgpuBackend, type WebgpuBackend } from '../src/backends/webgpu/backend.ts';
import { bufferUsage, mapRead } from '../src/backends/webgpu/constants.ts';
import type { GpuTraits } from '../src/backends/webgpu/device.ts';
import type { WebgpuExecutable } from '../src/backends/webgpu/executable.ts';
import type { KernelSource } from '../src/backends/webgpu/kernel-source.ts';
import { timeKernel } from '../src/backends/webgpu/time-kernel.ts';
import type { Value } from '../src/graph/graph.ts';
import { type GraphBuilder, trace } from '../src/graph/trace.ts';
import { typeOfTensor } from '../src/graph/value-type.ts';
import type { AnyTensor } from '../src/tensor/tensor.ts';

/** A graph with output y, and what its parameters hold. */
export interface Job {
  readonly params: Readonly<Record<string, AnyTensor>>;
  /** Traces y from the parameters. */
  readonly body: (params: Readonly<Record<string, Value>>, g: GraphBuilder) => Value;
  /** Ops that only make the result readable; their dispatches do not count. */
  readonly uncounted?: readonly string[];
}

export interface Text extends KernelSource {
  /** What its bindings hold, y last: the parameters in order, of packed ones the codes, when absent. */
  readonly operands?: (job: Job) => readonly ArrayBufferView[];
}

export interface Version {
  readonly name: string;
  /** The job for the first `rows` rows. */
  readonly job: (rows: number) => Job;
  /** Features of the adapter that it does without. */
  readonly without?: readonly string[];
  /** A text that does the same job, timed in its place. */
  readonly kernel?: Text;
  /** Why an adapter cannot run it; undefined when it can. */
  readonly needs?: (gpu: GpuTraits) => string | undefined;
  /** Operations or bytes, where they are not the family's. */
  readonly work?: number;
  /** Rows that the reference checks, where they are not the family's. */
  readonly checked?: number;
}

export interface Family {
  readonly name: string;
  readonly unit: 'FLOP/s' | 'B/s';
  /** Operations, or bytes that must be read and written. */
  readonly work: number;
  readonly rows: number;
  /** Rows that the reference checks. */
  readonly checked: number;
  /** Largest difference from the reference, relative to its largest result. */
  readonly tolerance: number;
  /** Name of the figure of another library that the versions are compared with. */
  readonly anchor?: string;
  readonly versions: readonly Version[];
}

export interface Step {
  readonly family: string;
  readonly version: string;
  readonly unit: Family['unit'];
  readonly milliseconds?: number;
  readonly rate?: number;
  /** Rate over that of the first version of the family. */
  readonly overFirst?: number;
  /** Rate over that of the anchor. */
  readonly overAnchor?: number;
  readonly error?: number;
  /** Kernels that ran, where they say which version they are. */
  readonly kernels?: string;
  /** What the adapter lacks. */
  readonly lacks?: string;
  /** Why there is no figure although there should be, or what is wrong with it. */
  readonly problem?: string;
}

export interface LabOptions {
  readonly robustness: boolean;
  /** Dawn's backend; with `null` versions are compiled and nothing runs. */
  readonly backend?: string;
}

/** Adapters with all and with fewer features, opened when a version asks. */
export class Lab {
  readonly #options: LabOptions;
  readonly #open = new Map<string, Promise<WebgpuBackend>>();
  readonly dry: boolean;

  constructor(options: LabOptions) {
    this.#options = options;
    this.dry = options.backend === 'null';
  }

  backend(without: readonly string[] = []): Promise<WebgpuBackend> {
    const key = without.join();
    let opened = this.#open.get(key);
    if (!opened) {
      const { robustness, backend } = this.#options;
      const enableToggles = robustness ? [] : ['disable_workgroup_init'];
      const disableToggles = ['timestamp_quantization'];
      opened = createWebgpuBackend({ robustness, backend, enableToggles, disableToggles, withoutFeatures: without });
      this.#open.set(key, opened);
    }
    return opened;
  }

  async climb(family: Family, anchor: number | undefined): Promise<Step[]> {
    const steps: Step[] = [];
    for (const version of family.versions) {
      const { name, unit } = family;
      try {
        const lacks = version.needs?.((await this.backend(version.without)).gpu);
        if (lacks) {
          steps.push({ family: name, version: version.name, unit, lacks });
          continue;
        }
        const found = await this.#measure(family, version);
        const rate = found.milliseconds && (version.work ?? family.work) / (found.milliseconds / 1000);
        const first = steps[0]?.rate;
        steps.push({
          family: name,
          version: version.name,
          unit,
          ...found,
          ...(rate ? { rate, overFirst: first ? rate / first : 1 } : {}),
          ...(rate && anchor ? { overAnchor: rate / anchor } : {}),
          ...((found.error ?? 0) <= family.tolerance ? {} : { problem: 'WRONG' }),
        });
      } catch (error) {
        const [problem] = (error instanceof Error ? error.message : String(error)).split('\n');
        steps.push({ family: name, version: version.name, unit, problem });
      }
    }
    return steps;
  }

  async #measure(family: Family, version: Version): Promise<Pick<Step, 'milliseconds' | 'error' | 'kernels'>> {
    const backend = await this.backend(version.without);
    const busy = isSoftware(backend.gpu.info) ? 0 : 400;
    const found = version.kernel
      ? await timeText(backend, version.job(family.rows), version.kernel, this.dry ? undefined : busy)
      : await timeGraph(backend, version.job(family.rows), this.dry ? undefined : busy);
    if (this.dry) return {};
    const { y, ...rest } = found;
    return { ...rest, error: difference(y, await expected(version.job(version.checked ?? family.checked))) };
  }
}

const traced = ({ params, body }: Job) =>
  trace((g) => {
    const values = Object.entries(params).map(([name, tensor]) => [name, g.param(name, typeOfTensor(tensor))] as const);
    g.output('y', body(Object.fromEntries(values), g));
  });

async function expected(job: Job): Promise<ArrayLike<number>> {
  const reference = createReferenceBackend();
  const params = new Map<string, Awaited<ReturnType<typeof reference.upload>>>();
  for (const [name, tensor] of Object.entries(job.params)) params.set(name, await reference.upload(tensor));
  const executable = await reference.compile(traced(job), { params });
  await executable.run();
  return (await executable.read('y')).data;
}

/** Relative to the largest expected number; of y only the first numbers are compared. */
function difference(y: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let largest = 0;
  let worst = 0;
  for (let i = 0; i < wanted.length; i++) {
    largest = Math.max(largest, Math.abs(wanted[i]));
    const error = Math.abs(y[i] - wanted[i]);
    worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
  }
  return worst / (largest || 1);
}

/** Runs that are queued before one is timed. */
const queued = 16;

async function timeGraph(backend: WebgpuBackend, job: Job, busy: number | undefined) {
  const params = new Map<string, Awaited<ReturnType<typeof backend.upload>>>();
  try {
    for (const [name, tensor] of Object.entries(job.params)) params.set(name, await backend.upload(tensor));
    const executable = (await backend.compile(traced(job), { params })) as WebgpuExecutable;
    try {
      if (busy === undefined) return { y: [] };
      await executable.run();
      const y = (await executable.read('y')).data;
      const counted = (op: string) => !job.uncounted?.includes(op);
      let best: Float64Array | undefined;
      let kernels = '';
      const start = performance.now();
      for (let i = 0; i < 2 || performance.now() - start < busy; i++) {
        // a timed run waits for its timestamps: alone it would leave the card idle for most of the time
        if (busy > 0) await Promise.all(Array.from({ length: queued }, () => executable.start([])));
        const commands = (await executable.profile()).filter(({ node }) => counted(node.op.name));
        best = Float64Array.from(commands, ({ microseconds }, c) => Math.min(microseconds, best?.[c] ?? Infinity));
        kernels = [...new Set(commands.flatMap(({ label }) => label ?? []))].join(', ');
      }
      return { y, milliseconds: best!.reduce((sum, time) => sum + time, 0) / 1000, ...(kernels && { kernels }) };
    } finally {
      executable.dispose();
    }
  } finally {
    for (const buffer of params.values()) buffer.dispose();
  }
}

const storedParts = ({ params }: Job) =>
  Object.values(params).map((tensor) => (tensor.kind === 'dense' ? tensor.data : tensor.data.codes));

async function timeText(backend: WebgpuBackend, job: Job, kernel: Text, busy: number | undefined) {
  const { device } = backend.gpu;
  const result = traced(job).outputs.get('y')!.type;
  const bytes = 4 * result.shape.reduce((a, b) => a * b, 1);
  const make = (size: number) =>
    device.createBuffer({ size, usage: bufferUsage.storage | bufferUsage.copyTarget | bufferUsage.copySource });
  const buffers: GPUBuffer[] = [];
  try {
    for (const data of (kernel.operands ?? storedParts)(job)) {
      const buffer = make(Math.ceil(data.byteLength / 4) * 4);
      device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
      buffers.push(buffer);
    }
    buffers.push(make(bytes));
    if (busy === undefined) {
      await timeKernel(device, kernel, buffers, { atLeast: 0, length: 1 });
      return { y: [] };
    }
    const milliseconds = await timeKernel(device, kernel, buffers, { atLeast: busy, length: busy > 0 ? 10 : 1 });
    const y = await readBytes(device, buffers.at(-1)!, bytes);
    return { y: new Float32Array(y), milliseconds };
  } finally {
    for (const buffer of buffers) buffer.destroy();
  }
}

/** A copy of the first bytes of a buffer. */
export async function readBytes(device: GPUDevice, buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  const target = device.createBuffer({ size: bytes, usage: bufferUsage.copyTarget | bufferUsage.mapRead });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, target, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await target.mapAsync(mapRead);
  const copy = target.getMappedRange().slice(0);
  target.destroy();
  return copy;
}
