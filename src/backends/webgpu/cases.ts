// Which of the shared op cases the WebGPU backend can run, and how closely it must agree.

import { liveNodes } from '../../graph/live-nodes.ts';
import { trace } from '../../graph/trace.ts';
import type { OpCase } from '../op-case.ts';
import type { GpuTraits } from './device.ts';
import { kernels } from './kernels.ts';

/** Whether every op of the case has a kernel on this device. */
export function hasKernels(opCase: OpCase, gpu: GpuTraits): boolean {
  return liveNodes(trace(opCase.build)).every((node) => {
    const kernel = kernels[node.op.name];
    return kernel && !kernel.unsupported?.(node, gpu);
  });
}

/**
 * The case's tolerance, or what WGSL guarantees where that is less: its division is within 2.5 ULP (3e-7), not
 * correctly rounded (https://www.w3.org/TR/WGSL/#floating-point-accuracy). The share of a step's gradient is a quotient;
 * fake-quantize.test.ts compares the rest of fakeQuantize exactly.
 */
export function webgpuTolerance({ name, tolerance }: OpCase): OpCase['tolerance'] {
  // The scale 2^-127 is subnormal, and WGSL may flush it: values up to 2^-126 with it become 0. The largest number of
  // these cases is about 8e31, so this allows 2.4e-38 and is exact for everything larger.
  if (name.endsWith(', ties and tiny numbers')) return 3e-70;
  if (!/^(div|fakeQuantize)\b/.test(name) || name === 'div by zero') return tolerance;
  return Math.max(tolerance === 'exact' ? 0 : tolerance, 3e-7);
}
