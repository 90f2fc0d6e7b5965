// Where the time of a training step goes on this machine's GPU: tokens a second, then every dispatch by GPU timestamps.
// Weights and token ids are random; no files are needed, and only the production dependencies.
//
// Usage: node scripts/profile-training.ts [--recipe bf16] [--layers 8] [--hidden 384] [--mlp 1024] [--heads 6]
//   [--kv-heads 2] [--head-dim 64] [--vocabulary 4096] [--batch 64] [--tokens 512] [--accumulate 1] [--steps 10]
//   [--runs 3] [--dearest 15] [--robustness on] [--tensor-cores f16] [--json FILE]
//
// Each dispatch is timed --runs times in a pass of its own, the fastest counts; a step as a whole overlaps what it can.
// GB/s: memory that a dispatch binds, each binding once. TFLOP/s: by the ops' own counts.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Backend } from '../src/backends/backend.ts';
import { createWebgpuBackend, type WebgpuBackend } from '../src/backends/webgpu/backend.ts';
import type { TensorCores } from '../src/backends/webgpu/device.ts';
import { WebgpuExecutable } from '../src/backends/webgpu/executable.ts';
import type { CommandProfile } from '../src/backends/webgpu/profile.ts';
import { uniformSource } from '../src/formats/random.ts';
import { printType } from '../src/graph/value-type.ts';
import { createConfig } from '../src/train/config/config.ts';
import type { Batch } from '../src/train/data/batches.ts';
import { newModelConfig, newWeights } from '../src/train/init.ts';
import { openPhases } from '../src/train/recipes/phases.ts';
import type { RecipeName } from '../src/train/recipes/registry.ts';
import { loadTrainable } from '../src/train/step.ts';
import { Trainer } from '../src/train/trainer.ts';

const text = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({
  options: {
    recipe: text('bf16'),
    layers: text('8'),
    hidden: text('384'),
    mlp: text('1024'),
    heads: text('6'),
    'kv-heads': text('2'),
    'head-dim': text('64'),
    vocabulary: text('4096'),
    batch: text('64'),
    tokens: text('512'),
    accumulate: text('1'),
    steps: text('10'),
    runs: text('3'),
    dearest: text('15'),
    robustness: text('on'),
    'tensor-cores': text('f16'),
    json: { type: 'string' },
  },
});
const steps = Number(values.steps);
const config = createConfig({
  steps,
  model: {
    layers: Number(values.layers),
    hiddenSize: Number(values.hidden),
    mlpSize: Number(values.mlp),
    heads: Number(values.heads),
    kvHeads: Number(values['kv-heads']),
    headDim: Number(values['head-dim']),
    vocabSize: Number(values.vocabulary),
    tokenizer: 'none',
  },
  data: { train: 'none' },
  batch: { sequences: Number(values.batch), tokens: Number(values.tokens), accumulate: Number(values.accumulate) },
  recipe: { use: values.recipe as RecipeName },
});
const { batch, optimizer, seeds, model: shape } = config;

/** A backend that remembers what it compiled. */
function remembering(backend: WebgpuBackend, compiled: WebgpuExecutable[]): Backend {
  return {
    ...backend,
    description: backend.description,
    async compile(graph, bindings) {
      const executable = await backend.compile(graph, bindings);
      if (executable instanceof WebgpuExecutable) compiled.push(executable);
      return executable;
    },
  };
}

const webgpu = await createWebgpuBackend({
  robustness: values.robustness !== 'off',
  tensorCores: values['tensor-cores'] as TensorCores,
  disableToggles: ['timestamp_quantization'],
});
const compiled: WebgpuExecutable[] = [];
const backend = remembering(webgpu, compiled);
const vocabSize = Number(values.vocabulary);
const weights = await newWeights(newModelConfig(shape, { vocabSize, maxPositions: batch.tokens }), {
  std: shape.initStd,
  residualScale: shape.initResidualScale,
  seed: seeds.init,
});
const loaded = await loadTrainable(weights, backend);
const phases = openPhases(loaded.config, { ...config, seed: seeds.rounding });
const began = performance.now();
const trainer = await Trainer.open(loaded, {
  ...batch,
  optimizer: { ...optimizer, kind: 'adamw' },
  clipNorm: optimizer.clipNorm,
  decays: (name) => (loaded.types.get(name)?.shape.length ?? 0) >= 2,
  products: phases.products(0),
});
const size = batch.sequences * batch.tokens;
const settings = `${values.recipe}, ${shape.layers} layers of ${shape.hiddenSize}/${shape.mlpSize}, batch ${batch.sequences}×${batch.tokens} × ${batch.accumulate}`;
console.log(`${webgpu.description}, bounds checks ${values.robustness}`);
console.log(`${settings}, ${(trainer.byteLength / 2 ** 30).toFixed(2)} GiB`);
console.log(`compiled in ${((performance.now() - began) / 1000).toFixed(1)} s, ${webgpu.pipelineCount} pipelines`);

const random = uniformSource(1, 0);
const draw = (i: number) => Math.floor(random.at(i) * vocabSize);
const drawBatch = (index: number): Batch => {
  const ids = Int32Array.from({ length: size + 1 }, (_, i) => draw(index * (size + 1) + i));
  return { ids: ids.slice(0, -1), targets: ids.slice(1) };
};
const batches = Array.from({ length: 4 }, (_, i) => drawBatch(i));
let step = 0;
let loss = 0;
/** Takes steps, each started before the one before it has ended where the backend can; seconds of one. */
async function timeSteps(count: number): Promise<number> {
  const start = performance.now();
  let last: Promise<unknown> = Promise.resolve();
  for (let i = 0; i < count; i++) {
    const parts = Array.from({ length: batch.accumulate }, (_, k) => batches[(step + k) % batches.length]);
    const next = trainer.step(++step, parts, 1e-4);
    next.then(({ losses }) => {
      [loss] = losses;
    });
    await (trainer.startsAhead ? last : next);
    last = next;
  }
  await last;
  return (performance.now() - start) / 1000 / count;
}
// an idle card has a lower clock, and takes a second of work to raise it
const warm = performance.now();
do await timeSteps(3);
while (performance.now() - warm < 1500);
const seconds = await timeSteps(steps);
const rate = (size * batch.accumulate) / seconds;
console.log(
  `${Math.round(rate)} tokens/s: ${(1000 * seconds).toFixed(2)} ms a step over ${steps} steps, ` +
    `${((trainer.flops * batch.accumulate) / seconds / 1e12).toFixed(1)} TFLOP/s, loss ${loss.toFixed(4)}`,
);

const commands: CommandProfile[] = [];
for (const executable of compiled) commands.push(...(await executable.profile(Number(values.runs))));
const total = commands.reduce((sum, { microseconds }) => sum + microseconds, 0);

const number = (x: number, width: number, digits = 0) => x.toFixed(digits).padStart(width);
const rates = (microseconds: number, bytes: number, flops: number) =>
  `${number(microseconds, 10, 1)} µs ${number((100 * microseconds) / total, 5, 1)} %` +
  `${number(bytes / microseconds / 1e3, 7)} GB/s` +
  (flops > 0 ? `${number(flops / microseconds / 1e6, 8, 1)} TFLOP/s` : ' '.repeat(16));
const kindOf = ({ node }: CommandProfile) => {
  const { kind, transposeA, transposeB } = node.attributes as Record<string, unknown>;
  const flags = [kind, transposeA && 'transposeA', transposeB && 'transposeB'].filter(Boolean);
  return [node.op.name, ...flags].join(' ');
};

console.log(`\n${commands.length} dispatches, ${number(total / 1000, 0, 2)} ms, each alone; by op:`);
const groups = Map.groupBy(commands, kindOf);
const sum = (list: readonly CommandProfile[], of: (c: CommandProfile) => number) =>
  list.reduce((all, c) => all + of(c), 0);
const grouped = [...groups]
  .map(([name, list]) => ({
    name,
    count: list.length,
    microseconds: sum(list, (c) => c.microseconds),
    bytes: sum(list, (c) => c.bytes),
    flops: sum(list, (c) => c.flops),
  }))
  .sort((a, b) => b.microseconds - a.microseconds);
for (const { name, count, microseconds, bytes, flops } of grouped)
  console.log(`${name.padEnd(32)}${number(count, 5)} ×${rates(microseconds, bytes, flops)}`);

const shapes = ({ node }: CommandProfile) =>
  `${node.inputs.map(({ type }) => printType(type)).join(', ')} → ${node.outputs.map(({ type }) => printType(type)).join(', ')}`;
const row = (c: CommandProfile) =>
  `${rates(c.microseconds, c.bytes, c.flops)}  ${kindOf(c)} .${c.part} ${c.label ?? ''} ${c.node.scope}  ${shapes(c)}  ${c.workgroups.join('×')} workgroups`;
console.log('\ndearest dispatches:');
const dearest = commands.toSorted((a, b) => b.microseconds - a.microseconds).slice(0, Number(values.dearest));
for (const command of dearest) console.log(row(command));
if (values.json)
  writeFileSync(
    values.json,
    JSON.stringify(
      commands.map((c) => ({
        op: kindOf(c),
        part: c.part,
        label: c.label,
        scope: c.node.scope,
        shapes: shapes(c),
        workgroups: c.workgroups,
        microseconds: c.microseconds,
        bytes: c.bytes,
        flops: c.flops,
      })),
      undefined,
      1,
    ),
  );
trainer.dispose();
webgpu.dispose();
