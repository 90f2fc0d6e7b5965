// Copying device memory to the host through one staging buffer, piece by piece when it is small.

import { bufferUsage, mapRead } from './constants.ts';
import type { MemoryRange } from './kernel.ts';
import type { DeviceMemory } from './memory.ts';

const mostStagingBytes = 2 ** 25;

export class Readback {
  readonly #memory: DeviceMemory;
  readonly #staging: GPUBuffer;
  readonly byteLength: number;
  #last: Promise<unknown> = Promise.resolve();

  /** Staging for reads of up to `bytes` bytes at a time, at most 32 MiB. */
  constructor(memory: DeviceMemory, bytes: number) {
    this.#memory = memory;
    this.byteLength = Math.min(mostStagingBytes, Math.ceil(bytes / 4) * 4);
    this.#staging = memory.allocate(this.byteLength, 'a staging buffer', bufferUsage.mapRead);
  }

  /** Copies `target.byteLength` bytes (a multiple of 4) from `offset` of a buffer; calls are served one by one. */
  read(buffer: GPUBuffer, offset: number, target: Uint8Array): Promise<void> {
    const done = this.#last.then(() => this.#read(buffer, offset, target));
    this.#last = done.catch(() => {});
    return done;
  }

  async #read(buffer: GPUBuffer, offset: number, target: Uint8Array): Promise<void> {
    for (let first = 0; first < target.length; first += this.byteLength) {
      const bytes = Math.min(this.byteLength, target.length - first);
      const encoder = this.#memory.device.createCommandEncoder();
      this.encode(encoder, buffer, offset + first, bytes);
      this.#memory.device.queue.submit([encoder.finish()]);
      target.set(await this.collect(bytes), first);
    }
  }

  /** Records the copy of a few bytes, for callers that submit it with other work. */
  encode(encoder: GPUCommandEncoder, buffer: GPUBuffer, offset: number, bytes: number): void {
    encoder.copyBufferToBuffer(buffer, offset, this.#staging, 0, bytes);
  }

  /** Waits for the submitted copy and returns its bytes. */
  async collect(bytes: number): Promise<Uint8Array> {
    await this.#staging.mapAsync(mapRead, 0, bytes);
    const copy = new Uint8Array(this.#staging.getMappedRange(0, bytes)).slice();
    this.#staging.unmap();
    return copy;
  }

  dispose(): void {
    this.#memory.free(this.#staging);
  }
}

/** Staging for runs under way, a buffer each; kept for the runs to come. */
export class Readbacks {
  readonly #memory: DeviceMemory;
  readonly #all: GPUBuffer[] = [];
  readonly #free: GPUBuffer[] = [];

  constructor(memory: DeviceMemory) {
    this.#memory = memory;
  }

  get byteLength(): number {
    return this.#all.reduce((sum, { size }) => sum + size, 0);
  }

  /** Staging of `bytes` bytes at least, until it is given back; nothing for 0 bytes. */
  take(bytes: number): GPUBuffer | undefined {
    if (bytes === 0) return undefined;
    const at = this.#free.findIndex(({ size }) => size >= bytes);
    if (at >= 0) return this.#free.splice(at, 1)[0];
    const made = this.#memory.allocate(bytes, 'a staging buffer', bufferUsage.mapRead);
    this.#all.push(made);
    return made;
  }

  giveBack(staging: GPUBuffer | undefined): void {
    if (staging) this.#free.push(staging);
  }

  dispose(): void {
    for (const buffer of this.#all.splice(0)) this.#memory.free(buffer);
  }
}

/** Records copies of pieces of memory, one behind the other, into staging. */
export function encodeCopies(encoder: GPUCommandEncoder, pieces: readonly MemoryRange[], staging?: GPUBuffer): void {
  let end = 0;
  for (const { buffer, offset, bytes } of pieces) {
    encoder.copyBufferToBuffer(buffer, offset, staging!, end, bytes);
    end += bytes;
  }
}

/** Waits for such copies, once they are submitted, and returns the bytes of each. */
export async function collectCopies(pieces: readonly MemoryRange[], staging: GPUBuffer): Promise<Uint8Array[]> {
  let end = 0;
  await staging.mapAsync(mapRead);
  const mapped = staging.getMappedRange();
  const found = pieces.map(({ bytes }) => new Uint8Array(mapped.slice(end, (end += bytes))));
  staging.unmap();
  return found;
}
