// The trainings of the Quartet study: what stops and goes on is what was never stopped.

import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StudyDevices } from '../../reproduce/quartet/devices.ts';
import { type FinishedRun, readFinished, runKey } from '../../reproduce/quartet/finished.ts';
import { type Lane, localLane } from '../../reproduce/quartet/lane.ts';
import { readSettings } from '../../reproduce/quartet/settings.ts';
import { runStudy, type StudyContext } from '../../reproduce/quartet/study.ts';
import { openStudyText } from '../../reproduce/quartet/texts.ts';
import { timeLimit } from '../../reproduce/quartet/time-limit.ts';
import { openWorkerLane } from '../../reproduce/quartet/worker-lane.ts';
import type { Backend, Bindings } from '../../src/backends/backend.ts';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import type { TensorCores } from '../../src/backends/webgpu/device.ts';
import { SubbyteError } from '../../src/errors.ts';
import type { Graph } from '../../src/graph/graph.ts';
import type { StudyOptions } from '../../src/report/reproduction.ts';
import { inTemporaryFolder, root } from '../cli/run-cli.ts';
import { createTestBackend, missingGpu } from '../support/software-gpu.ts';

let wasm: Backend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 1 });
});
afterAll(() => wasm.dispose());

const options: StudyOptions = {
  seeds: 1,
  schemes: ['quartet'],
  changes: {
    steps: 6,
    model: { layers: 1, hiddenSize: 32, heads: 1, mlpSize: 32 },
    batch: { sequences: 2, tokens: 16 },
  },
};

interface Given
  extends Partial<Pick<StudyContext, 'signal' | 'minutes' | 'now' | 'onProgress' | 'onFinished' | 'openLanes'>> {
  /** Worker threads; none: a lane in this thread. */
  readonly workers?: number;
}

async function study(folder: string, changed: StudyOptions = {}, { workers = 0, ...given }: Given = {}) {
  const all = { ...options, ...changed };
  const settings = readSettings(all, 0);
  const cache = path.join(folder, 'tokens');
  const text = await openStudyText(all, settings.configOf(settings.runs[0], folder), cache);
  const openLanes = async () =>
    workers === 0
      ? [localLane(settings, text, async () => wasm)]
      : Promise.all(Array.from({ length: workers }, () => openWorkerLane({ options: all, seed: 0, cache })));
  try {
    return await runStudy({ settings, text, folder, openLanes, onProgress: () => {}, ...given });
  } finally {
    await text.close();
  }
}

const losses = (runs: readonly FinishedRun[]) => runs.map((run) => [run.scheme, run.seed, run.loss, run.curve]);

describe('the study', () => {
  it('goes on where a training was stopped, and ends as if it had not been', async () => {
    await inTemporaryFolder(async (folder) => {
      const [whole, stopped] = ['whole', 'stopped'].map((name) => path.join(folder, name));
      const expected = await study(whole);
      expect(expected.left).toBe(0);
      expect(losses(expected.finished).map(([scheme]) => scheme)).toEqual(['bf16', 'quartet']);

      const control = new AbortController();
      const onProgress = (fraction: number) => {
        // in the third step of the second training
        if (fraction > 0.7) control.abort(new SubbyteError('interrupted', { code: 'x', op: 'x', problem: 'x' }));
      };
      await expect(study(stopped, {}, { signal: control.signal, onProgress })).rejects.toMatchObject({
        kind: 'interrupted',
        details: { fix: expect.stringContaining('again') },
      });
      expect(await readdir(path.join(stopped, 'runs'))).toHaveLength(1);
      const fractions: number[] = [];
      const resumed = await study(stopped, {}, { onProgress: (fraction) => fractions.push(fraction) });
      expect(losses(resumed.finished)).toEqual(losses(expected.finished));
      expect(fractions.length).toBeLessThan(6);
      expect(await readdir(path.join(stopped, 'runs'))).toEqual([]);
    });
  });

  it('begins nothing when the time is up, keeps lines of other settings, and skips a broken one', async () => {
    await inTemporaryFolder(async (folder) => {
      const file = path.join(folder, 'runs.jsonl');
      expect(await study(folder, {}, { minutes: 0 })).toMatchObject({ finished: [], left: 2 });
      const first = await study(folder);
      await appendFile(file, '{"key":"half');
      const longer = await study(folder, { schemes: ['f32'], seeds: 2 });
      expect(longer.left).toBe(0);
      expect(longer.finished.map((run) => [run.scheme, run.seed])).toEqual([
        ['bf16', 0],
        ['bf16', 1],
        ['f32', 0],
        ['f32', 1],
      ]);
      expect(await readFinished(file)).toHaveLength(5);
      const before = await readFile(file, 'utf8');
      expect(losses((await study(folder)).finished)).toEqual(losses(first.finished));
      expect(await readFile(file, 'utf8')).toBe(before);
    });
  });

  it('trains side by side on threads, with the losses of one lane, also where it was stopped', async () => {
    await inTemporaryFolder(async (folder) => {
      const schemes = ['quartet', 'forward-sr'];
      const expected = await study(path.join(folder, 'one'), { schemes });
      const two = path.join(folder, 'two');
      const control = new AbortController();
      const onProgress = (fraction: number) => {
        if (fraction > 0.4) control.abort(new SubbyteError('interrupted', { code: 'x', op: 'x', problem: 'x' }));
      };
      const stopped = study(two, { schemes }, { workers: 2, signal: control.signal, onProgress });
      await expect(stopped).rejects.toMatchObject({ kind: 'interrupted', details: { code: 'x' } });
      const ended: string[] = [];
      const onFinished = (run: FinishedRun, done: number, all: number) => ended.push(`${run.scheme} ${done}/${all}`);
      const found = await study(two, { schemes }, { workers: 2, onFinished });
      expect(losses(found.finished)).toEqual(losses(expected.finished));
      expect(found.finished.at(-1)?.device).toBe('wasm, 1 thread, relaxed SIMD');
      expect(ended.length).toBeGreaterThan(0);
      expect(ended.at(-1)).toMatch(/ 3\/3$/);
      expect(await readdir(path.join(two, 'runs'))).toEqual([]);
    });
  });

  it('ends with the error of a training that fails, and keeps what the others have', async () => {
    await inTemporaryFolder(async (folder) => {
      let begun = 0;
      const broken: Lane = {
        train: async () => {
          throw new Error('no memory');
        },
        close: async () => void closed++,
      };
      let closed = 0;
      const good: Lane = {
        train: async ({ signal }) => {
          begun++;
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
          throw signal.reason;
        },
        close: async () => void closed++,
      };
      await expect(study(folder, {}, { openLanes: async () => [good, broken] })).rejects.toThrow('no memory');
      expect([begun, closed]).toEqual([1, 2]);
    });
  });

  it('says in a worker what is wrong as it does here', async () => {
    await inTemporaryFolder(async (cache) => {
      const open = openWorkerLane({ options: { ...options, data: ['nowhere.txt'] }, seed: 0, cache });
      await expect(open).rejects.toMatchObject({
        kind: 'user',
        details: { file: expect.stringContaining('nowhere.txt') },
      });
    });
  });

  it('begins no training that would not end in time but would in a call of its own', () => {
    let seconds = 10;
    const limit = timeLimit(110 / 60, undefined, () => seconds);
    expect(limit.allows(1e9)).toBe(true);
    seconds = 60;
    limit.took(100, 45, 40, true);
    expect([112, 113, 212].map((steps) => limit.allows(steps))).toEqual([true, false, false]);
    // fits into no call: it has to go over several
    expect(limit.allows(213)).toBe(true);
    // the first of another lane compiles too; the slowest steps count
    limit.took(100, 31, 30, true);
    expect([112, 113].map((steps) => limit.allows(steps))).toEqual([true, false]);
    // what firsts have to compile does not count for later ones
    limit.took(100, 31, 30, false);
    expect([122, 123].map((steps) => limit.allows(steps))).toEqual([true, false]);
    limit.stop();
    expect(timeLimit(undefined, undefined).allows(1e9)).toBe(true);
    expect(timeLimit(0, undefined).isUp()).toBe(true);
  });

  it('takes a short training where a long one would not end in time, and one that was stopped anyhow', async () => {
    await inTemporaryFolder(async (folder) => {
      let clock = 0;
      const made: string[] = [];
      const lane: Lane = {
        train: async ({ run }) => {
          made.push(`${run.scheme} ${run.steps}`);
          clock += 10 * run.steps;
          return { loss: 1, tokens: 1, seconds: 10 * run.steps, memoryBytes: 1, device: 'd', curve: [] };
        },
        close: async () => {},
      };
      const changed = { schemes: ['backward-sr', 'backward-rtn'], changes: { ...options.changes, steps: 8 } };
      const call = (seconds: number) => {
        [clock, made.length] = [0, 0];
        return study(folder, changed, { openLanes: async () => [lane], now: () => clock, minutes: seconds / 60 });
      };
      expect((await call(150)).left).toBe(2);
      expect(made).toEqual(['bf16 8', 'backward-sr 2', 'backward-rtn 2']);
      expect((await call(150)).left).toBe(1);
      expect(made).toEqual(['backward-sr 8']);
      // other seeds; two of the long ones have a folder from before
      const more = { ...changed, seeds: 2 };
      const settings = readSettings({ ...options, ...more }, 0);
      const text = await openStudyText({}, settings.configOf(settings.runs[0], folder), path.join(folder, 'tokens'));
      await text.close();
      const stopped = settings.runs.find((run) => run.seed === 1 && run.scheme === 'backward-sr' && run.steps === 8)!;
      const name = `backward-sr-1-${runKey(settings, stopped, text.digest)}`;
      await mkdir(path.join(folder, 'runs', name), { recursive: true });
      [clock, made.length] = [0, 0];
      const given = { openLanes: async () => [lane], now: () => clock, minutes: 150 / 60 };
      await study(folder, more, given);
      expect(made).toEqual(['bf16 8', 'backward-sr 8']);
    });
  });

  it('takes token files that were carried along for the texts that they were made of', async () => {
    await inTemporaryFolder(async (folder) => {
      await study(folder);
      const tokens = path.join(folder, 'tokens');
      const [held, train] = (await readdir(tokens)).filter((name) => name.endsWith('.tokens')).sort();
      const carried = { data: [path.join(tokens, train)], validation: [path.join(tokens, held)] };
      expect((await study(folder, carried, { minutes: 0 })).left).toBe(0);
      const alone = await study(folder, { data: carried.data }, { minutes: 0 });
      expect(alone.left).toBe(2);
    });
  });
});

describe('devices', () => {
  /** WebAssembly under the name of a GPU with tensor cores. */
  const likeGpu = (tensorCores: TensorCores, dispose: () => void): Backend =>
    Object.create(wasm, {
      name: { value: 'webgpu' },
      gpu: { value: { tensorCores } },
      dispose: { value: dispose },
    });

  it('lets tensor cores of a GPU do for each scheme what train lets them do, and nothing inexact in the tests', async () => {
    await inTemporaryFolder(async (folder) => {
      const all = { ...options, schemes: ['f32', 'quartet'] };
      const settings = readSettings(all, 0);
      const cache = path.join(folder, 'tokens');
      const text = await openStudyText(all, settings.configOf(settings.runs[0], folder), cache);
      const opened: (TensorCores | undefined)[] = [];
      let closed = 0;
      const devices = new StudyDevices({
        ...{ seed: 0, threads: 2, folder, options: all },
        async openBackend({ tensorCores } = {}) {
          opened.push(tensorCores);
          return likeGpu(tensorCores ?? 'exact', () => closed++);
        },
      });
      try {
        expect(await devices.backend('exact')).toBe(await devices.backend('exact'));
        expect(opened).toEqual(['exact']);
        const openLanes = (trainings: number) => devices.lanes(settings, text, cache, trainings);
        const { finished } = await runStudy({ settings, text, folder, openLanes, onProgress: () => {} });
        expect(opened).toEqual(['exact', 'f16']);
        expect(finished.map((run) => [run.scheme, run.tensorCores])).toEqual([
          ['bf16', 'f16'],
          ['quartet', 'f16'],
          ['f32', 'exact'],
        ]);
      } finally {
        await text.close();
        await devices.close();
      }
      expect(closed).toBe(2);
    });
  });

  it.skipIf(missingGpu())(
    'trains two at a time on a GPU with the losses of one, also where they were stopped; other seeds compile nothing',
    { timeout: 300_000 },
    async () => {
      await inTemporaryFolder(async (folder) => {
        const gpu = await createTestBackend();
        const shared = Object.create(gpu, {
          dispose: { value: () => {} },
          compile: {
            // the product that steps are compared with takes SwiftShader a minute
            value: (graph: Graph, bindings: Bindings) =>
              (graph.nodes.length === 1 ? wasm : gpu).compile(graph, bindings),
          },
        }) as Backend;
        const validation = path.join(folder, 'held.txt');
        await writeFile(validation, 'A few held-out windows are enough to tell one training from another. '.repeat(3));
        const on = async (name: string, threads: number, seeds: number, stopAt = 2) => {
          const all = { ...options, seeds, data: [path.join(root, 'models/val.txt.xz')], validation: [validation] };
          const settings = readSettings(all, 0);
          const cache = path.join(folder, 'tokens');
          const text = await openStudyText(all, settings.configOf(settings.runs[0], folder), cache);
          const devices = new StudyDevices({
            ...{ seed: 0, threads, folder, options: all },
            openBackend: async () => shared,
          });
          const control = new AbortController();
          let lanes = 0;
          try {
            return await runStudy({
              ...{ settings, text, folder: path.join(folder, name), signal: control.signal },
              async openLanes(trainings) {
                const opened = await devices.lanes(settings, text, cache, trainings);
                lanes = opened.length;
                return opened;
              },
              onProgress(fraction) {
                if (fraction > stopAt)
                  control.abort(new SubbyteError('interrupted', { code: 'x', op: 'x', problem: 'x' }));
              },
            });
          } finally {
            expect(lanes).toBe(Math.min(2, threads));
            await text.close();
            await devices.close();
          }
        };
        try {
          const one = await on('one', 1, 1);
          const { pipelineCount } = gpu;
          await expect(on('two', 8, 1, 0.4)).rejects.toMatchObject({ kind: 'interrupted' });
          expect(await readdir(path.join(folder, 'two/runs'))).toHaveLength(2);
          const two = await on('two', 8, 2);
          const first = two.finished.filter(({ seed }) => seed === 0);
          expect(losses(first)).toEqual(losses(one.finished));
          expect(two.finished).toHaveLength(4);
          expect(gpu.pipelineCount).toBe(pipelineCount);
        } finally {
          gpu.dispose();
        }
      });
    },
  );

  it('opens one backend on a CPU, whatever tensor cores may do', async () => {
    const context = { seed: 0, threads: 1, folder: 'none', options, openBackend: async () => wasm };
    const devices = new StudyDevices(context);
    expect(await devices.backend('exact')).toBe(await devices.backend('f16'));
  });
});
