// The page of webgpu.test.ts: what the test calls by name is on `window.subbyte`.

import type { Backend } from '../../../src/backends/backend.ts';
import { differences, type OpCase, runOpCase } from '../../../src/backends/op-case.ts';
import { opCases } from '../../../src/backends/op-cases.ts';
import { createReferenceBackend } from '../../../src/backends/reference/reference-backend.ts';
import { createWebgpuBackend, type WebgpuBackend } from '../../../src/backends/webgpu/backend.ts';
import { hasKernels, webgpuTolerance } from '../../../src/backends/webgpu/cases.ts';
import { windowLogits } from '../../../src/evaluate/verify.ts';
import { liveNodes } from '../../../src/graph/live-nodes.ts';
import { trace } from '../../../src/graph/trace.ts';
import { openSafetensorsUrl } from '../../../src/io/safetensors-url.ts';
import { loadDense } from '../load-dense.ts';

let backend: WebgpuBackend;

/** The first `most` cases of every op and of every function that cases are named after. */
function fewOfEach(cases: readonly OpCase[], most: number): OpCase[] {
  const counts = new Map<string, number>();
  return cases.filter(({ name, build }) => {
    const kinds = new Set([name.split(' ')[0], ...liveNodes(trace(build)).map((node) => node.op.name)]);
    if ([...kinds].every((kind) => (counts.get(kind) ?? 0) >= most)) return false;
    for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    return true;
  });
}

const page = {
  /** Opens the backend: its description, and names of cases that it has kernels for, `most` of each op. */
  async open(most: number) {
    backend = await createWebgpuBackend();
    const able = opCases.filter((opCase) => hasKernels(opCase, backend.gpu));
    return { description: backend.description, names: fewOfEach(able, most).map(({ name }) => name) };
  },

  /** What differs from the reference backend, which runs in the page too; empty when nothing does. */
  async check(name: string): Promise<string[]> {
    const opCase = opCases.find((c) => c.name === name)!;
    const found = await runOpCase(backend, opCase);
    return differences(found, await runOpCase(createReferenceBackend(), opCase), webgpuTolerance(opCase));
  },

  /** Logits of one window of a model behind a URL. */
  async logits(url: string, ids: readonly number[]): Promise<number[]> {
    const model = await loadDense(await openSafetensorsUrl(url), backend as Backend);
    const logits = await windowLogits({ model }, Int32Array.from(ids));
    model.dispose();
    return [...logits];
  },

  usedBytes: () => backend.usedBytes,
};

declare global {
  interface Window {
    subbyte: typeof page;
  }
}
window.subbyte = page;
