// `npm run bench -- <suite> [options]`: speed against peers, as ratios within one run, correctness checked in that
// run. Suites are files beside this one that export `run(options)`. Figures depend on the machine; the ratios travel.

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** Smaller sizes and fewer repeats: a check that the suite works, not a figure to quote. */
  quick: boolean;
  json: boolean;
}

const suites: Record<string, () => Promise<{ run(options: BenchOptions): Promise<unknown> }>> = {
  matmul: () => import('./matmul.ts'),
  ggml: () => import('./ggml-quantizers.ts'),
  rtn: () => import('./round-to-nearest.ts'),
  model: () => import('./quantize-model.ts'),
  eval: () => import('./eval.ts'),
  forward: () => import('./forward.ts'),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});
const wanted = positionals.length > 0 ? positionals : Object.keys(suites);
const unknown = wanted.filter((name) => !(name in suites));
if (unknown.length > 0) {
  console.error(`bench: no suite ${unknown.join(', ')}; there are ${Object.keys(suites).join(', ')}`);
  process.exit(1);
}
console.error(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.versions.node}`);
for (const name of wanted) {
  console.error(`\n== ${name}`);
  const result = await (await suites[name]()).run({ quick: values.quick, json: values.json });
  if (values.json) console.log(JSON.stringify({ suite: name, result }));
}
process.exit(0);
