// A few seconds of every op, against the reference: does this machine compute what it should?

import type { Backend } from './backend.ts';
import { differences, runOpCase } from './op-case.ts';
import { opCases } from './op-cases.ts';
import { createReferenceBackend } from './reference/reference-backend.ts';
import { webgpuTolerance } from './webgpu/cases.ts';

export interface SelfTest {
  /** Cases that agreed. */
  readonly passed: number;
  /** Cases without a kernel on this backend. */
  readonly unsupported: number;
  /** Cases that the time did not reach. */
  readonly left: number;
  /** One line for each case that did not agree. */
  readonly failures: readonly string[];
}

/** Runs the op cases in turn, one of every op first, for about `seconds`. Throws what a lost device throws. */
export async function selfTest(backend: Backend, seconds: number, signal?: AbortSignal): Promise<SelfTest> {
  const reference = createReferenceBackend();
  const end = performance.now() + 1000 * seconds;
  const failures: string[] = [];
  let passed = 0;
  let unsupported = 0;
  let done = 0;
  const order = interleaved();
  for (const opCase of order) {
    signal?.throwIfAborted();
    if (performance.now() > end) break;
    done++;
    try {
      const found = await runOpCase(backend, opCase);
      const expected = await runOpCase(reference, opCase);
      const tolerance = backend.name === 'webgpu' ? webgpuTolerance(opCase) : opCase.tolerance;
      const problems = differences(found, expected, tolerance);
      if (problems.length === 0) passed++;
      else failures.push(`${opCase.name}: ${problems[0]}`);
    } catch (error) {
      if (!isMissingKernel(error)) throw error;
      unsupported++;
    }
  }
  return { passed, unsupported, left: order.length - done, failures };
}

const isMissingKernel = (error: unknown) =>
  (error as { details?: { code?: string } }).details?.code === 'missing-kernel';

/** The first case of every op, then the second of every op, and so on: names begin with the op. */
function interleaved() {
  const byOp = new Map<string, (typeof opCases)[number][]>();
  for (const opCase of opCases) {
    const op = opCase.name.split(' ')[0];
    byOp.set(op, [...(byOp.get(op) ?? []), opCase]);
  }
  const lists = [...byOp.values()];
  const longest = Math.max(...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list.slice(i, i + 1))).flat();
}
