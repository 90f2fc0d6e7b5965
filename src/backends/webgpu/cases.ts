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
 * correctly rounded (https://www.w3.org/TR/WGSL/#floating-point-accuracy).
 */
export function webgpuTolerance({ name, tolerance }: OpCase): OpCase['tolerance'] {
  if (tolerance === 'exact') return 'exact';
  return name.startsWith('div ') ? Math.max(tolerance, 3e-7) : tolerance;
}
