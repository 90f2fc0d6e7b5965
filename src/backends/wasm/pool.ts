// Threads that run one kernel module on one shared memory.
//
// The calling thread is thread 0; the others are Web Workers or Node worker threads that instantiate the same module.
// A job is one exported function called in every thread with (…args, thread, threads): the function takes its share
// of the work by these two numbers. A job starts by an atomic store and ends when all threads are done; both sides
// spin briefly, then sleep. Nothing is posted and nothing allocated for a job, except its argument list.
//
// Without worker threads (threads: 1, or a page that is not cross-origin isolated) everything runs in the caller.

import { deviceError } from '../../errors.ts';
import { type Allocator, createAllocator } from './allocator.ts';
import {
  argumentCountAddress,
  argumentsAddress,
  doneAddress,
  failedAddress,
  functionAddress,
  jobAddress,
  jobSleepersAddress,
  maximumArguments,
  mayBlockAddress,
} from './control.ts';
import { loadModule } from './module.ts';
import { spins, workerSource } from './worker-source.ts';

export interface PoolOptions {
  /** Threads including the caller; default: all cores, 1 where threads cannot share memory. */
  threads?: number;
  /** Bound of the shared memory in bytes, default and most 4 GiB. */
  maximumBytes?: number;
}

export interface Pool {
  readonly memory: WebAssembly.Memory;
  readonly allocator: Allocator;
  readonly threads: number;
  /** Calls the exported function `name` as name(…args, thread, threads) in every thread; returns when all are done. */
  run(name: string, ...args: number[]): void;
  /** Calls the exported function `name` in the calling thread only and gives its result. */
  call(name: string, ...args: number[]): number;
  /** Ends the threads; the pool and its memory must not be used afterwards. */
  dispose(): void;
}

type KernelFunction = (...args: number[]) => number;

interface WorkerHandle {
  ready: Promise<void>;
  terminate(): void;
}

interface WorkerData {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  thread: number;
  threads: number;
  names: string[];
}

const isNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

async function startNodeWorker(data: WorkerData): Promise<WorkerHandle> {
  const { Worker } = await import('node:worker_threads');
  const source = `${workerSource}
    const { parentPort, workerData } = require('node:worker_threads');
    start(parentPort, workerData);`;
  const worker = new Worker(source, { eval: true, workerData: data, execArgv: [] });
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
  });
  ready.then(
    () => worker.unref(),
    () => {},
  );
  return { ready, terminate: () => void worker.terminate() };
}

function startWebWorker(data: WorkerData): WorkerHandle {
  const source = `${workerSource}; onmessage = (event) => start(self, event.data);`;
  const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
  const worker = new Worker(url);
  const ready = new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = (event) => reject(new Error(event.message));
  }).finally(() => URL.revokeObjectURL(url));
  worker.postMessage(data);
  return { ready, terminate: () => worker.terminate() };
}

/** Whether workers may be given the memory. */
const mayShare = () => isNode || globalThis.crossOriginIsolated;

/** Threads that this environment can give. */
async function availableThreads(): Promise<number> {
  if (isNode) return (await import('node:os')).availableParallelism();
  return mayShare() ? navigator.hardwareConcurrency : 1;
}

/** A browser's main thread must not sleep in Atomics.wait. */
function mayBlock(): boolean {
  return isNode || !('document' in globalThis);
}

function createMemory(maximumBytes: number): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: 16, maximum: Math.ceil(maximumBytes / 65536), shared: true });
  } catch (cause) {
    throw deviceError(
      {
        code: 'wasm-no-memory',
        op: 'wasm',
        problem: 'the system refused to reserve address space for a WebAssembly memory',
        got: `a maximum of ${maximumBytes} bytes`,
        fix: 'set maximumBytes lower or dispose of other backends first',
      },
      { cause },
    );
  }
}

/**
 * Starts the threads of kernel module `name` (a folder of kernels/). Throws a device error when the module or memory for
 * it is missing, or when a page asks for threads that it may not have.
 *
 * @example
 * const pool = await createPool('quantize', { threads: 2 });
 * const p = pool.allocator.allocate(4096);
 * pool.run('encodeRows', p, rows, cols);
 */
export async function createPool(name: string, options: PoolOptions = {}): Promise<Pool> {
  const module = await loadModule(name);
  const maximumBytes = Math.min(options.maximumBytes ?? 2 ** 32, 2 ** 32);
  const threads = Math.max(1, Math.floor(options.threads ?? (await availableThreads())));
  if (threads > 1 && !mayShare())
    throw deviceError({
      code: 'wasm-not-isolated',
      op: 'wasm',
      problem: 'threads share memory, which only pages that are cross-origin isolated may do',
      got: `${threads} threads`,
      fix: 'serve the page with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or use one thread',
    });
  const memory = createMemory(maximumBytes);
  const abort = () => {
    throw new Error(`${name}: abort`);
  };
  const instance = await WebAssembly.instantiate(module, { env: { memory, abort } });
  const functions = new Map<string, KernelFunction>();
  for (const [key, value] of Object.entries(instance.exports))
    if (typeof value === 'function') functions.set(key, value as KernelFunction);
  const names = [...functions.keys()];
  const words = new Int32Array(memory.buffer);
  const doubles = new Float64Array(memory.buffer);
  const sleepy = mayBlock();
  words[mayBlockAddress / 4] = sleepy ? 1 : 0;

  const workers: WorkerHandle[] = [];
  for (let thread = 1; thread < threads; thread++) {
    const data = { module, memory, thread, threads, names };
    workers.push(isNode ? await startNodeWorker(data) : startWebWorker(data));
  }
  await Promise.all(workers.map((w) => w.ready));

  const startJob = (index: number) => {
    words[functionAddress / 4] = index;
    Atomics.store(words, doneAddress / 4, 0);
    Atomics.add(words, jobAddress / 4, 1);
    if (Atomics.load(words, jobSleepersAddress / 4) > 0) Atomics.notify(words, jobAddress / 4);
  };

  const waitForWorkers = () => {
    const expected = threads - 1;
    for (let i = 0; ; i++) {
      const done = Atomics.load(words, doneAddress / 4);
      if (done === expected) return;
      if (sleepy && i > spins) Atomics.wait(words, doneAddress / 4, done);
    }
  };

  const find = (key: string): KernelFunction => {
    const f = functions.get(key);
    if (!f) throw new Error(`${name}.wasm exports no function ${key}`);
    return f;
  };

  return {
    memory,
    allocator: createAllocator(memory, maximumBytes),
    threads,
    run(key, ...args) {
      const f = find(key);
      if (threads === 1) {
        f(...args, 0, 1);
        return;
      }
      if (args.length > maximumArguments) throw new Error(`${key}: more than ${maximumArguments} arguments`);
      words[argumentCountAddress / 4] = args.length;
      doubles.set(args, argumentsAddress / 8);
      startJob(names.indexOf(key));
      let failure: unknown;
      try {
        f(...args, 0, threads);
      } catch (error) {
        failure = error;
        Atomics.store(words, failedAddress / 4, 1);
      }
      waitForWorkers();
      if (Atomics.load(words, failedAddress / 4) !== 0)
        throw new Error(`${name}.wasm: ${key} failed in ${failure ? 'the calling' : 'a worker'} thread`, {
          cause: failure,
        });
    },
    call: (key, ...args) => find(key)(...args),
    dispose() {
      if (threads > 1) startJob(-1);
      for (const worker of workers) worker.terminate();
    },
  };
}
