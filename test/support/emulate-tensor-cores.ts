// Kernels for tensor cores as kernels that every WebGPU runs: no f16, no subgroups, no subgroup matrices. Subgroups are
// neighbouring threads. Throws at what it cannot rewrite. Slow; for tests.

import type { Fragments } from '../../src/backends/webgpu/fragments.ts';
import { emulateExchanges } from './emulate-exchanges.ts';
import { emulateFragments } from './emulate-fragments.ts';
import { emulateHalves } from './emulate-halves.ts';

export function emulateTensorCores(code: string, fragments: Fragments): string {
  const { lanes } = fragments;
  if (!/^enable /m.test(code)) return code;
  const threads = Number(code.match(/@workgroup_size\((\d+)\)/)?.[1]);
  const thread = code.match(/@builtin\(local_invocation_index\) (\w+)/)?.[1];
  if (!threads || !thread) throw new Error('a kernel that does not number its threads');
  let text = code.replace(/^enable [^;]*;( enable [^;]*;)*/gm, '');
  const starts = [`emulated_thread = ${thread};`];
  for (const [builtin, value] of Object.entries({ subgroup_id: `/ ${lanes}u`, subgroup_invocation_id: `% ${lanes}u` }))
    text = text.replace(new RegExp(`@builtin\\(${builtin}\\) (\\w+): u32,?`), (_, name) => {
      starts.push(`let ${name} = ${thread} ${value};`);
      return '';
    });
  text = text.replace(/(@workgroup_size[^{]*\{)/, `$1\n  ${starts.join(' ')}`);
  text = emulateHalves(emulateExchanges(emulateFragments(text, fragments), threads));
  return `${text}\nvar<private> emulated_thread: u32;\nconst emulated_lanes = ${lanes}u;\n`;
}
