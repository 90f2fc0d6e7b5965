// Runs the cases of every op that has a WebGPU kernel on this machine's GPU and compares with the reference: the same
// check as src/backends/webgpu/backend.test.ts, on a machine that has only the production dependencies.
//
// Large products run twice: as they are, and with operands that may be rounded to f16 for tensor cores; large attention
// runs so rounded.
//
// Usage: node scripts/check-webgpu.ts [--robustness off] [name ...]      (names: parts of case names; all when absent)
// Prints the cases that disagree and how long compiling and running took; exit code 1 when one does.

import { parseArgs } from 'node:util';
import { largeAttentionCases } from '../src/backends/cases/large-attention.ts';
import { largeProductCases } from '../src/backends/cases/large-products.ts';
import { differences, type OpCase, runOpCase } from '../src/backends/op-case.ts';
import { opCases } from '../src/backends/op-cases.ts';
import { createReferenceBackend } from '../src/backends/reference/reference-backend.ts';
import { createWebgpuBackend, type WebgpuBackend } from '../src/backends/webgpu/backend.ts';
import { hasKernels, webgpuTolerance } from '../src/backends/webgpu/cases.ts';

const { values, positionals } = parseArgs({
  options: { robustness: { type: 'string', default: 'on' } },
  allowPositionals: true,
});
const backend = await createWebgpuBackend({ robustness: values.robustness !== 'off' });
console.log(backend.description, `(bounds checks ${values.robustness})`);
const reference = createReferenceBackend();
let failed = 0;
let ran = 0;
const began = performance.now();

async function check(on: WebgpuBackend, cases: readonly OpCase[]): Promise<void> {
  const wanted = cases.filter(({ name }) => positionals.length === 0 || positionals.some((p) => name.includes(p)));
  for (const opCase of wanted.filter((c) => hasKernels(c, on.gpu))) {
    ran++;
    let problems: string[];
    try {
      const found = await runOpCase(on, opCase);
      problems = differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase));
    } catch (error) {
      problems = [String(error)];
    }
    if (problems.length === 0) continue;
    failed++;
    console.log(`${opCase.name} (${on.gpu.tensorCores})\n  ${problems.join('\n  ')}`);
  }
}

await check(backend, opCases);
await check(
  backend,
  largeProductCases.filter(({ rounds }) => !rounds),
);
const rounding = await createWebgpuBackend({ robustness: values.robustness !== 'off', tensorCores: 'f16' });
await check(rounding, [...largeProductCases, ...largeAttentionCases]);
const seconds = ((performance.now() - began) / 1000).toFixed(1);
console.log(`${ran - failed} of ${ran} cases agree; ${backend.pipelineCount} pipelines, ${seconds} s`);
backend.dispose();
rounding.dispose();
process.exitCode = failed > 0 ? 1 : 0;
