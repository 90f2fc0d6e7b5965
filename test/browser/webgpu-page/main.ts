// The page of webgpu.test.ts: what the test calls by name is on `window.subbyte`.

import type { Executable } from '../../../src/backends/backend.ts';
import { differences, type OpCase, runOpCase } from '../../../src/backends/op-case.ts';
import { opCases } from '../../../src/backends/op-cases.ts';
import { createReferenceBackend } from '../../../src/backends/reference/reference-backend.ts';
import { createWebgpuBackend, type WebgpuBackend } from '../../../src/backends/webgpu/backend.ts';
import { hasKernels, webgpuTolerance } from '../../../src/backends/webgpu/cases.ts';
import { windowLogits } from '../../../src/evaluate/verify.ts';
import type { Node, ValueType } from '../../../src/graph/graph.ts';
import { liveNodes } from '../../../src/graph/live-nodes.ts';
import { matmul } from '../../../src/graph/ops/matmul.ts';
import { trace } from '../../../src/graph/trace.ts';
import { f32 } from '../../../src/graph/value-type.ts';
import { openSafetensorsUrl } from '../../../src/io/safetensors-url.ts';
import { loadDecoder } from '../../../src/models/loaded.ts';
import { openWeights } from '../../../src/models/weights.ts';
import { tensorF32 } from '../../../src/tensor/tensor.ts';

let backend: WebgpuBackend;
let executable: Executable;

const square = trace((g) => {
  const x = g.input('x', f32([4, 4]));
  g.output('y', matmul(x, x));
});

const typeName = (type: ValueType) => (type.dtype === 'packed' ? type.format.kind : type.dtype);

/** What a kernel is chosen by, roughly: op, kind, which attributes there are, types of operands. */
function signature({ op, inputs, outputs, attributes }: Node): string {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  const words = given.map(([name, value]) => (name === 'kind' ? value : name));
  return [op.name, ...words, ...[...inputs, ...outputs].map(({ type }) => typeName(type))].join();
}

/** The first case with each signature. */
function oneOfEach(cases: readonly OpCase[]): OpCase[] {
  const met = new Set<string>();
  return cases.filter(({ build }) => {
    const before = met.size;
    for (const node of liveNodes(trace(build))) met.add(signature(node));
    return met.size > before;
  });
}

const page = {
  /** Opens the backend: its description, and names of cases that it has kernels for, all or one of each signature. */
  async open(all: boolean) {
    backend = await createWebgpuBackend();
    const able = opCases.filter((opCase) => hasKernels(opCase, backend.gpu));
    return { description: backend.description, names: (all ? able : oneOfEach(able)).map(({ name }) => name) };
  },

  /** What differs from the reference backend, which runs in the page too; empty when nothing does. */
  async check(name: string): Promise<string[]> {
    const opCase = opCases.find((c) => c.name === name)!;
    const found = await runOpCase(backend, opCase);
    return differences(found, await runOpCase(createReferenceBackend(), opCase), webgpuTolerance(opCase));
  },

  /** Logits of one window of a model behind a URL. */
  async logits(url: string, ids: readonly number[]): Promise<number[]> {
    const model = await loadDecoder(await openWeights(await openSafetensorsUrl(url)), backend);
    const logits = await windowLogits({ model }, Int32Array.from(ids));
    model.dispose();
    return [...logits];
  },

  usedBytes: () => backend.usedBytes,

  /** Compiles a graph that attempts() will run. */
  async prepare() {
    executable = await backend.compile(square, { params: new Map() });
    await executable.run();
  },

  /** Calls everything that reaches the device: what each gives, as text. */
  async attempts(): Promise<string[]> {
    const calls: (() => Promise<unknown>)[] = [
      async () => executable.run(),
      () => executable.read('y'),
      () => backend.upload(tensorF32([1], new Float32Array(1))),
      () => backend.compile(square, { params: new Map() }),
    ];
    const texts: string[] = [];
    for (const call of calls) texts.push(await call().then(() => 'done', String));
    return texts;
  },
};

declare global {
  interface Window {
    subbyte: typeof page;
  }
}
window.subbyte = page;
