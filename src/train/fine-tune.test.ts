// Fine-tuning the shipped model on the CPU: 50 steps of AdamW over ten batches of the validation text, 2 × 128 tokens
// each, seen five times. Reference for the expectation: the model starts near its validation loss, 2.8 nats for long
// windows, and can learn 2560 tokens by heart.

import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { encodeText } from '../evaluate/tokens.ts';
import { openCheckpoint } from '../io/open.ts';
import { readText } from '../io/text.ts';
import { loadTokenizer } from '../io/tokenizer.ts';
import { openWeights } from '../models/weights.ts';
import { buildTrainingStep, loadTrainable, readWeights } from './step.ts';

const [B, T, batches] = [2, 128, 10];
const models = fileURLToPath(new URL('../../models/', import.meta.url));

async function validationTokens(): Promise<Int32Array> {
  const checkpoint = await openCheckpoint(`${models}qwen3-6m`);
  const tokenizer = await loadTokenizer(checkpoint).finally(() => checkpoint.close());
  const text = (await readText(`${models}val.txt.xz`)).slice(0, 20_000);
  return encodeText((part) => tokenizer.encode(part), text, batches * B * T);
}

/** The loss before each of `steps` steps, and a digest of all weights after step `digestAt`. */
async function fineTune(tokens: Int32Array, threads: number, steps: number, digestAt: number) {
  const checkpoint = await openCheckpoint(`${models}qwen3-6m`);
  const backend = await createWasmBackend({ threads });
  const model = await loadTrainable(await openWeights(checkpoint), backend).finally(() => checkpoint.close());
  const optimizer = { kind: 'adamw', weightDecay: 0.1 } as const;
  const graph = buildTrainingStep(model.config, model.types, { batch: B, tokens: T, optimizer, clipNorm: 1 });
  const executable = await backend.compile(graph, { params: new Map(), states: model.buffers });
  const losses: number[] = [];
  const hash = createHash('sha256');
  for (let step = 0; step < steps; step++) {
    const first = (step % batches) * B * T;
    const ids = tokens.slice(first, first + B * T);
    executable.write('ids', ids);
    executable.write(
      'targets',
      ids.map((_, i) => (i % T === T - 1 ? -1 : ids[i + 1])),
    );
    executable.write('learningRate', Float32Array.of(1e-3));
    executable.write('step', Int32Array.of(step + 1));
    executable.run();
    losses.push((await executable.read('loss')).data[0]);
    if (step + 1 !== digestAt) continue;
    for await (const [, { data }] of readWeights(model)) hash.update(new Uint8Array(data.buffer));
  }
  backend.dispose();
  return { losses, digest: hash.digest('hex') };
}

it('learns its batches: from 3.2 nats to less than 0.6 in 50 steps, with the same bits in every run', async () => {
  const tokens = await validationTokens();
  expect(tokens).toHaveLength(batches * B * T);
  const whole = await fineTune(tokens, 2, 50, 3);
  const mean = (first: number) => whole.losses.slice(first, first + batches).reduce((a, b) => a + b) / batches;
  expect(mean(0)).toBeGreaterThan(3);
  expect(mean(0)).toBeLessThan(3.5);
  expect(mean(10)).toBeLessThan(1.8);
  expect(mean(40)).toBeLessThan(0.6);

  for (const threads of [2, 1]) {
    const again = await fineTune(tokens, threads, 3, 3);
    expect(again.losses).toEqual(whole.losses.slice(0, 3));
    expect(again.digest).toBe(whole.digest);
  }
}, 180_000);
