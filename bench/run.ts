// `npm run bench -- <suite> [options]`: speed against peers, as ratios within one run, correctness checked in that
// run. Suites are files beside this one that export `run(options)`. Figures depend on the machine; the ratios travel.

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** Smaller sizes and fewer repeats: a check that the suite works, not a figure to quote. */
  quick: boolean;
  json: boolean;
  gpu: GpuOptions;
}

/** What only the suites on GPUs look at. */
export interface GpuOptions {
  /** Their names, or numbers with commas. */
  sizes?: string;
  /** A regular expression: which of its parts a suite runs. */
  only?: string;
  /** Dawn's backend; `null` compiles and runs nothing. */
  backend?: string;
  /** Bounds checks in kernels (default true). */
  robustness?: boolean;
  /** A JSON file with rates of PyTorch on the same machine. */
  peer?: string;
  /** Products that peers queue before they wait. */
  batch?: string;
}

const suites: Record<string, () => Promise<{ run(options: BenchOptions): Promise<unknown> }>> = {
  matmul: () => import('./matmul.ts'),
  ggml: () => import('./ggml-quantizers.ts'),
  rtn: () => import('./round-to-nearest.ts'),
  model: () => import('./quantize-model.ts'),
  eval: () => import('./eval.ts'),
  forward: () => import('./forward.ts'),
  webgpu: () => import('./webgpu.ts'),
  'webgpu-peers': () => import('./webgpu-peers.ts'),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  allowNegative: true,
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    sizes: { type: 'string' },
    only: { type: 'string' },
    backend: { type: 'string' },
    robustness: { type: 'boolean' },
    peer: { type: 'string' },
    batch: { type: 'string' },
  },
});
const onCpu = Object.keys(suites).filter((name) => !name.startsWith('webgpu'));
const wanted = positionals.length > 0 ? positionals : onCpu;
const unknown = wanted.filter((name) => !(name in suites));
if (unknown.length > 0) {
  console.error(`bench: no suite ${unknown.join(', ')}; there are ${Object.keys(suites).join(', ')}`);
  process.exit(1);
}
console.error(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.versions.node}`);
const { quick, json, ...gpu } = values;
for (const name of wanted) {
  console.error(`\n== ${name}`);
  const result = await (await suites[name]()).run({ quick, json, gpu });
  if (json) console.log(JSON.stringify({ suite: name, result }));
}
process.exit();
