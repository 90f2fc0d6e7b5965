// Buffers of one device: their sizes counted, limits checked before, failures reported after.
//
// WebGPU says only later whether a buffer could be made. Each allocation is watched by error scopes, and settle() waits
// for the answers; everything that uses the memory calls it first.

import { deviceError, type SubbyteError } from '../../errors.ts';
import { bufferUsage } from './constants.ts';

/** The first error of the calls that `body` makes, undefined when there is none. */
export function watchErrors(device: GPUDevice, body: () => void): Promise<GPUError | undefined> {
  const filters: GPUErrorFilter[] = ['validation', 'internal', 'out-of-memory'];
  let answers: Promise<GPUError | null>[] = [];
  for (const filter of filters) device.pushErrorScope(filter);
  try {
    body();
  } finally {
    // Scopes are a stack; they are closed before anything else can run.
    answers = filters.map(() => device.popErrorScope());
  }
  return Promise.all(answers).then((errors) => errors.find((error) => error !== null) ?? undefined);
}

export interface MemoryLimits {
  /** Largest single buffer. */
  readonly bufferBytes: number;
  /** All buffers together. */
  readonly maximumBytes: number;
}

export class DeviceMemory {
  readonly device: GPUDevice;
  readonly limits: MemoryLimits;
  #usedBytes = 0;
  readonly #sizes = new Map<GPUBuffer, number>();
  readonly #pending = new Set<Promise<Error | undefined>>();

  constructor(device: GPUDevice, limits: MemoryLimits) {
    this.device = device;
    this.limits = limits;
  }

  /** Bytes handed out and not freed. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * A zero-filled buffer of `bytes` bytes (a multiple of 4). Throws a device error when it is beyond the limits; call
   * settle() before using it.
   */
  allocate(bytes: number, purpose: string, usage: number = bufferUsage.storage): GPUBuffer {
    const { bufferBytes, maximumBytes } = this.limits;
    if (bytes > bufferBytes || this.#usedBytes + bytes > maximumBytes) throw this.#exhausted(bytes, purpose);
    let buffer: GPUBuffer | undefined;
    const answer = watchErrors(this.device, () => {
      buffer = this.device.createBuffer({
        size: bytes,
        usage: usage | bufferUsage.copyTarget | (usage & bufferUsage.mapRead ? 0 : bufferUsage.copySource),
        label: purpose,
      });
    }).then(
      (error) => error && this.#exhausted(bytes, purpose, error),
      (gone: Error) => gone,
    );
    this.#pending.add(answer);
    const made = buffer!;
    this.#sizes.set(made, bytes);
    this.#usedBytes += bytes;
    return made;
  }

  /** The same, or undefined where there is no room; waits for the answer. */
  async tryAllocate(bytes: number, purpose: string): Promise<GPUBuffer | undefined> {
    const { bufferBytes, maximumBytes } = this.limits;
    if (bytes > bufferBytes || this.#usedBytes + bytes > maximumBytes) return undefined;
    await this.settle();
    const buffer = this.allocate(bytes, purpose);
    try {
      await this.settle();
      return buffer;
    } catch {
      this.free(buffer);
      return undefined;
    }
  }

  free(buffer: GPUBuffer): void {
    const bytes = this.#sizes.get(buffer);
    if (bytes === undefined) throw new Error('webgpu: the buffer was not allocated here');
    this.#sizes.delete(buffer);
    this.#usedBytes -= bytes;
    buffer.destroy();
  }

  /** Waits until all allocations so far are known to have succeeded; throws the first one's error that did not. */
  async settle(): Promise<void> {
    const pending = [...this.#pending];
    this.#pending.clear();
    const failed = (await Promise.all(pending)).find((error) => error);
    if (failed) throw failed;
  }

  #exhausted(bytes: number, purpose: string, cause?: GPUError): SubbyteError {
    const { bufferBytes, maximumBytes } = this.limits;
    const budget = maximumBytes < Infinity ? `, ${maximumBytes} in all` : '';
    return deviceError(
      {
        code: 'webgpu-out-of-memory',
        op: 'webgpu',
        problem: `not enough device memory for ${purpose}${cause ? ` (${cause.message.split('\n')[0]})` : ''}`,
        got: `a request of ${bytes} bytes with ${this.#usedBytes} in use`,
        expected: `at most ${bufferBytes} bytes in one buffer${budget}`,
        fix: 'use a shorter window, a smaller batch or a smaller format',
      },
      { cause },
    );
  }
}
