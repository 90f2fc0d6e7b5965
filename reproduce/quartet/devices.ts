// What the study computes on: the tests without training, and the lanes that train.
//
// On a GPU a scheme's training may do on tensor cores what `subbyte train` lets it do, and the tests compare with products
// that round nothing more than f32 does. Two trainings share the device from this thread, so that one has work for it
// while the other compiles, starts and ends; they find each other's kernels. On WebAssembly trainings run side by side,
// one a thread.

import type { Backend } from '../../src/backends/backend.ts';
import type { TensorCores } from '../../src/backends/webgpu/device.ts';
import type { ReproductionContext } from '../../src/report/reproduction.ts';
import { tensorCoresOf } from '../../src/train/recipes/tensor-cores.ts';
import { type Lane, localLane } from './lane.ts';
import type { Settings } from './settings.ts';
import type { StudyText } from './texts.ts';
import { openWorkerLane } from './worker-lane.ts';

/** More would share the same time. */
const lanesOfGpu = 2;

export class StudyDevices {
  readonly #context: ReproductionContext;
  readonly #open = new Map<TensorCores, Promise<Backend>>();

  constructor(context: ReproductionContext) {
    this.#context = context;
  }

  /** A backend whose products do this on tensor cores; the same one every time, and for both on a CPU. */
  async backend(tensorCores: TensorCores): Promise<Backend> {
    const other = await [...this.#open.values()][0];
    if (other && other.name !== 'webgpu') return other;
    const opened = this.#open.get(tensorCores) ?? this.#context.openBackend({ tensorCores });
    this.#open.set(tensorCores, opened);
    return opened;
  }

  async lanes(settings: Settings, text: StudyText, cache: string, trainings: number): Promise<readonly Lane[]> {
    const { options, seed, threads } = this.#context;
    const count = Math.min(threads, trainings);
    const { name } = await this.backend(tensorCoresOf(settings.runs[0].scheme));
    if (name !== 'wasm' || count === 1) {
      const lane = localLane(settings, text, (run) => this.backend(tensorCoresOf(run.scheme)));
      return Array.from({ length: name === 'webgpu' ? Math.min(lanesOfGpu, count) : 1 }, () => lane);
    }
    const opening = Array.from({ length: count }, () => openWorkerLane({ options, seed, cache }));
    const found = await Promise.allSettled(opening);
    const lanes = found.flatMap((lane) => (lane.status === 'fulfilled' ? [lane.value] : []));
    const failed = found.find((lane) => lane.status === 'rejected');
    if (!failed) return lanes;
    await Promise.all(lanes.map((lane) => lane.close()));
    throw failed.reason;
  }

  async close(): Promise<void> {
    for (const opened of this.#open.values())
      await opened.then(
        (backend) => backend.dispose(),
        () => undefined,
      );
    this.#open.clear();
  }
}
