// What went wrong on the device, for people.

import { deviceError, SubbyteError } from '../../errors.ts';
import type { MemoryPlan } from '../backend.ts';
import type { OpenDevice } from './device.ts';

/** The error to throw when work on the device failed with `cause`: a lost device, or a failure with sizes and limits. */
export async function runError(op: string, cause: unknown, gpu: OpenDevice, plan: MemoryPlan): Promise<SubbyteError> {
  if (cause instanceof SubbyteError) return cause;
  const lost = await gpu.lossError(op);
  if (lost) return lost;
  const message = (cause as { message?: string }).message?.split('\n')[0] ?? String(cause);
  return deviceError(
    {
      code: 'webgpu-failure',
      op,
      problem: `the device refused the work (${message})`,
      got: `a graph of ${plan.peakBytes} bytes`,
      expected: `buffers of at most ${gpu.bufferBytes} bytes`,
      fix: 'use a shorter window or a smaller batch, or choose the wasm backend',
    },
    { cause },
  );
}
