// Every family of WebGPU kernels as a ladder: a simple version, then better ones, timed by the GPU and checked in the run.
//
//   npm run bench -- webgpu [--sizes tiny|quick|full] [--only REGEX] [--backend null] [--peer anchors.json] [--json]
//
// `×first`: rate over that of the family's first version. `of peer`: rate over that of PyTorch on the same card (cuBLAS,
// its attention, its copy), from torch-anchors.py, which runs first where python3 has torch, or from the file of --peer;
// for bytes a second, over the suite's own copy where there is no PyTorch. `--backend null` compiles everything for
// Dawn's null device and runs nothing. Tile shapes of tensor cores are explored by webgpu-matmul.ts, peers that run on
// WebGPU themselves by webgpu-peers.ts.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { renderTable } from '../src/cli/table.ts';
import type { BenchOptions, GpuOptions } from './run.ts';
import { Lab, type Step } from './webgpu-ladder.ts';
import { layerFamilies } from './webgpu-layers.ts';
import { productFamilies } from './webgpu-products.ts';
import { roundingFamilies } from './webgpu-rounding.ts';
import { tensorCoreFamilies } from './webgpu-tensor-cores.ts';

/** Rows and columns; tokens; words. */
const presets = {
  tiny: { sizes: [128], tokens: 64, words: 512 },
  quick: { sizes: [1024], tokens: 512, words: 8192 },
  full: { sizes: [4096, 8192], tokens: 2048, words: 32_768 },
} as const;

export async function run({ quick, gpu: options }: BenchOptions) {
  const name = (options.sizes ?? (quick ? 'quick' : 'full')) as keyof typeof presets;
  const preset = presets[name];
  if (!preset) throw new Error(`bench: no sizes ${name}; there are ${Object.keys(presets).join(', ')}`);
  const robustness = options.robustness ?? true;
  const lab = new Lab({ robustness, backend: options.backend });
  const { description, gpu } = await lab.backend();
  const card = `${description}; ${gpu.info.vendor} ${gpu.info.architecture}; robustness ${robustness ? 'on' : 'off'}`;
  console.error(card);
  const anchors = anchorsOf(options, preset.sizes);
  if (anchors.device) console.error(`PyTorch ${anchors.torch} on ${anchors.device}`);
  const [n, large] = preset.sizes;
  const families = [
    ...roundingFamilies(n),
    ...productFamilies(n),
    ...tensorCoreFamilies(n),
    ...layerFamilies(n, preset.tokens, preset.words),
    // at the larger size what is bound by arithmetic only
    ...(large ? [...productFamilies(large).slice(0, 3), ...tensorCoreFamilies(large)] : []),
  ];
  const wanted = new RegExp(options.only ?? '');
  const steps: Step[] = [];
  let copy = Number(anchors.copy ?? 0);
  for (const make of families) {
    const family = make();
    if (!wanted.test(family.name)) continue;
    const found = await lab.climb(family, family.anchor === 'copy' ? copy : Number(anchors[family.anchor ?? ''] ?? 0));
    if (!copy) copy = found.find(({ version }) => version === 'copy')?.rate ?? 0;
    steps.push(...found);
    console.error(`\n${family.name}\n${table(found, lab.dry)}`);
  }
  const problems = steps.filter(({ problem }) => problem);
  if (problems.length > 0) {
    console.error(`\n${problems.length} of ${steps.length} versions have no figure or a wrong result`);
    process.exitCode = 1;
  }
  return { card, dawn: options.backend ?? 'default', robustness, sizes: name, anchors, steps };
}

/** What PyTorch reaches here, or what a file says that it reached; nothing where there is neither. */
function anchorsOf({ peer, backend }: GpuOptions, sizes: readonly number[]): Record<string, string | number> {
  if (peer) return JSON.parse(readFileSync(peer, 'utf8'));
  if (backend === 'null') return {};
  const script = fileURLToPath(new URL('torch-anchors.py', import.meta.url));
  const { status, stdout } = spawnSync('python3', [script, ...sizes.map(String)], { encoding: 'utf8' });
  return status === 0 ? JSON.parse(stdout) : {};
}

const units = { 'FLOP/s': ['TFLOP/s', 1e12], 'B/s': ['GB/s', 1e9] } as const;

function table(steps: readonly Step[], dry: boolean): string {
  const [unit, scale] = units[steps[0].unit];
  const right = (title: string) => ({ title, align: 'right' as const });
  const number = (value: number | undefined, print: (value: number) => string) =>
    value === undefined || !Number.isFinite(value) ? '' : print(value);
  return renderTable(
    [
      { title: 'version' },
      right('µs'),
      right(unit),
      right('×first'),
      right('of peer'),
      right('error'),
      { title: 'kernel' },
    ],
    steps.map((s) => [
      s.version,
      number(s.milliseconds, (ms) => (1000 * ms).toFixed(1)),
      number(s.rate, (rate) => (rate / scale).toPrecision(4)),
      number(s.overFirst, (x) => x.toFixed(2)),
      number(s.overAnchor, (x) => x.toFixed(3)),
      number(s.error, (x) => x.toExponential(1)),
      s.problem ?? s.lacks ?? (dry ? 'compiled' : (s.kernels ?? '')),
    ]),
  );
}
