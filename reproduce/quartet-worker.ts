// A worker thread of the Quartet study: trains what it is sent, one training at a time (quartet/worker-lane.ts).

import { parentPort, workerData } from 'node:worker_threads';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { SubbyteError } from '../src/errors.ts';
import { type Lane, localLane } from './quartet/lane.ts';
import { readSettings } from './quartet/settings.ts';
import { openStudyText } from './quartet/texts.ts';
import type { Reply, Request, WorkerStudy } from './quartet/worker-lane.ts';

const send = (reply: Reply) => parentPort?.postMessage(reply);

function sendFailure(error: unknown): void {
  if (error instanceof SubbyteError) send({ failure: { kind: error.kind, details: error.details } });
  else send({ failure: { stack: error instanceof Error ? (error.stack ?? error.message) : String(error) } });
}

async function openLane({ options, seed, cache }: WorkerStudy): Promise<Lane> {
  const settings = readSettings(options, seed);
  const text = await openStudyText(options, settings.configOf(settings.runs[0], 'any'), cache);
  const backend = await createWasmBackend({ threads: 1 });
  return localLane(settings, text, async () => backend);
}

function listen(lane: Lane): void {
  let control = new AbortController();
  parentPort?.on('message', async (request: Request) => {
    if (request === 'stop') {
      control.abort(new SubbyteError('interrupted', { code: 'stopped', op: 'reproduce quartet', problem: 'stopped' }));
      return;
    }
    control = new AbortController();
    const onStep = (step: number) => send({ step });
    try {
      send({ result: await lane.train({ ...request, signal: control.signal, onStep }) });
    } catch (error) {
      sendFailure(error);
    }
  });
  send('ready');
}

await openLane(workerData as WorkerStudy).then(listen, sendFailure);
