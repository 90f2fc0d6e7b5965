// Train a small model twice, in f32 and with all products in MXFP4 (Quartet). Run: node examples/05-train.ts

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { createConfig } from '../src/train/config/config.ts';
import { runTraining } from '../src/train/loop.ts';
import { prepareRun } from '../src/train/prepare.ts';

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-train-'));
const backend = await createWasmBackend();

for (const use of ['f32', 'quartet'] as const) {
  const config = createConfig({
    model: {
      family: 'qwen3',
      layers: 2,
      hiddenSize: 64,
      heads: 2,
      headDim: 32,
      mlpSize: 128,
      tokenizer: here('../models/qwen3-6m'),
    },
    data: {
      train: here('../models/calibration.txt.xz'),
      validation: here('../models/val.txt.xz'),
      cache: path.join(folder, 'tokens'),
    },
    batch: { sequences: 4, tokens: 64 },
    schedule: { learningRate: 5e-3 },
    optimizer: { clipNorm: 1 },
    recipe: { use },
    output: { folder: path.join(folder, use), evaluateTokens: 4096, tensorboard: false },
    steps: 60,
  });
  const prepared = await prepareRun(config);
  const losses: number[] = [];
  const result = await runTraining(config, prepared, backend, { onStep: ({ loss }) => losses.push(loss) });
  await prepared.close();
  const megabytes = (result.memoryBytes / 1e6).toFixed(1);
  console.log(
    `${use.padEnd(8)} loss ${losses[0].toFixed(3)} → ${losses.at(-1)?.toFixed(3)}, validation ${result.validation?.nll.toFixed(3)}, ${megabytes} MB`,
  );
}
backend.dispose();
await rm(folder, { recursive: true });
