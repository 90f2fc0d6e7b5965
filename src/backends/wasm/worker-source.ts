// The program of a worker thread, as text.
//
// It is started from text (a Blob in browsers, `eval` in Node) so that no bundler has to find a second file. A worker
// instantiates the module on the shared memory, then for ever: waits until the job counter changes, calls the
// exported function that the control block names, counts itself as done. It spins briefly before it sleeps, since
// jobs often follow each other within microseconds.

import {
  argumentCountAddress,
  argumentsAddress,
  doneAddress,
  failedAddress,
  functionAddress,
  jobAddress,
  jobSleepersAddress,
} from './control.ts';

/** How often a waiting thread looks before it sleeps: about two milliseconds, which waking up can cost as well. */
export const spins = 400000;

export const workerSource = `
const start = async (port, data) => {
  const { module, memory, thread, threads, names } = data;
  const words = new Int32Array(memory.buffer);
  const doubles = new Float64Array(memory.buffer);
  const abort = () => { throw new Error('abort'); };
  const { exports } = await WebAssembly.instantiate(module, { env: { memory, abort } });
  let job = Atomics.load(words, ${jobAddress / 4});
  port.postMessage('ready');
  for (;;) {
    for (let i = 0; i < ${spins} && Atomics.load(words, ${jobAddress / 4}) === job; i++);
    if (Atomics.load(words, ${jobAddress / 4}) === job) {
      Atomics.add(words, ${jobSleepersAddress / 4}, 1);
      Atomics.wait(words, ${jobAddress / 4}, job);
      Atomics.sub(words, ${jobSleepersAddress / 4}, 1);
      if (Atomics.load(words, ${jobAddress / 4}) === job) continue;
    }
    job = Atomics.load(words, ${jobAddress / 4});
    const index = words[${functionAddress / 4}];
    if (index < 0) return;
    const args = [];
    for (let i = 0; i < words[${argumentCountAddress / 4}]; i++) args.push(doubles[${argumentsAddress / 8} + i]);
    try {
      exports[names[index]](...args, thread, threads);
    } catch (error) {
      // The caller's exception cannot carry this one: print the first, unless a thread before it failed.
      if (Atomics.exchange(words, ${failedAddress / 4}, 1) === 0) console.error('wasm thread ' + thread + ': ' + error);
    }
    Atomics.add(words, ${doneAddress / 4}, 1);
    Atomics.notify(words, ${doneAddress / 4});
  }
};
`;
