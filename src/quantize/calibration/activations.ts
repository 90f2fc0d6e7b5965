// Activations of all calibration windows between two stages, in memory up to a budget and on disk beyond it.
//
// A store holds one f32 value [rows, width] for every window, in chunks of as many windows as run together. Whether a
// store lies in memory or in a file is decided once, when it is made: it takes its bytes from the budget or spills.
// Contents are the same either way. A file has no name that outlives the run.

import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { fileError } from '../../io/file-errors.ts';

/** Bytes that activations may take in memory. */
export interface ActivationBudget {
  readonly limit: number;
  /** In use now, and the most so far. */
  used: number;
  peak: number;
  /** Bytes that went to files instead, the most at one time. */
  spilled: number;
  spilledPeak: number;
  /** Stores that are not disposed. */
  readonly open: Set<ActivationStore>;
}

export const activationBudget = (limit: number): ActivationBudget => ({
  limit,
  used: 0,
  peak: 0,
  spilled: 0,
  spilledPeak: 0,
  open: new Set(),
});

export interface ActivationStore {
  readonly chunks: number;
  /** Numbers in a chunk. */
  readonly size: number;
  readonly onDisk: boolean;
  /** The numbers of a chunk; valid until the next read. */
  read(chunk: number): Float32Array;
  /** Lets `fill` write the numbers of a chunk. */
  write(chunk: number, fill: (to: Float32Array) => Promise<unknown>): Promise<void>;
  dispose(): void;
}

/**
 * Makes a store of `chunks` × `size` numbers.
 *
 * Throws a device error naming the file when the disk is full or the folder cannot be written.
 *
 * @example const hidden = openActivations(32, 2048 * 384, budget, 'out/.work');
 */
export function openActivations(
  chunks: number,
  size: number,
  budget: ActivationBudget,
  folder: string,
): ActivationStore {
  const fits = budget.used + 4 * chunks * size <= budget.limit;
  const store = fits ? inMemory(chunks, size, budget) : onDisk(chunks, size, budget, folder);
  budget.open.add(store);
  return store;
}

function inMemory(chunks: number, size: number, budget: ActivationBudget): ActivationStore {
  const bytes = 4 * chunks * size;
  // one allocation: it goes back to the system as a whole
  let data: Float32Array | undefined = new Float32Array(chunks * size);
  budget.used += bytes;
  budget.peak = Math.max(budget.peak, budget.used);
  const part = (chunk: number) => {
    if (!data) throw new Error('activations: read after dispose');
    return data.subarray(chunk * size, (chunk + 1) * size);
  };
  const self: ActivationStore = {
    chunks,
    size,
    onDisk: false,
    read: part,
    write: async (chunk, fill) => void (await fill(part(chunk))),
    dispose() {
      if (!data) return;
      data = undefined;
      budget.used -= bytes;
      budget.open.delete(self);
    },
  };
  return self;
}

let files = 0;

function onDisk(chunks: number, size: number, budget: ActivationBudget, folder: string): ActivationStore {
  const file = path.join(folder, `activations-${process.pid}-${files++}.f32`);
  const bytes = 4 * size;
  const attempt = <T>(verb: string, action: () => T): T => {
    try {
      return action();
    } catch (cause) {
      throw fileError(verb, file, cause);
    }
  };
  let handle: number | undefined = attempt('write', () => openSync(file, 'w+'));
  // where the system allows it the file loses its name at once, so that a killed run leaves nothing behind
  if (process.platform !== 'win32') rmSync(file);
  const buffer = new Float32Array(size);
  const raw = new Uint8Array(buffer.buffer);
  budget.spilled += chunks * bytes;
  budget.spilledPeak = Math.max(budget.spilledPeak, budget.spilled);
  const opened = () => {
    if (handle === undefined) throw new Error('activations: read after dispose');
    return handle;
  };
  const self: ActivationStore = {
    chunks,
    size,
    onDisk: true,
    read(chunk) {
      attempt('read', () => {
        for (let done = 0; done < bytes; ) {
          const count = readSync(opened(), raw, done, bytes - done, chunk * bytes + done);
          if (count === 0) throw new Error('the file of spilled activations ended early');
          done += count;
        }
      });
      return buffer;
    },
    async write(chunk, fill) {
      await fill(buffer);
      attempt('write', () => {
        for (let done = 0; done < bytes; ) done += writeSync(opened(), raw, done, bytes - done, chunk * bytes + done);
      });
    },
    dispose() {
      if (handle === undefined) return;
      closeSync(handle);
      handle = undefined;
      budget.spilled -= chunks * bytes;
      budget.open.delete(self);
      rmSync(file, { force: true });
    },
  };
  return self;
}
