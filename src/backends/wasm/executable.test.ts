// What the backend promises besides numbers: memory figures, errors, shared buffers, states.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SubbyteError } from '../../errors.ts';
import { quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Graph } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add } from '../../graph/ops/arithmetic.ts';
import { attention } from '../../graph/ops/attention.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { rmsNorm } from '../../graph/ops/norm.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { qtensor, tensorF32 } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { gaussian } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

const format = parseFormat('mxfp4');
const weight = qtensor([96, 64], quantize(gaussian(1, [96, 64]), 96, 64, format));

/** A slice of a decoder: table, norm, packed product, cached attention, loss. */
function decoder(): Graph {
  return trace((g) => {
    const ids = g.input('ids', i32([3]));
    const start = g.input('start', i32([1]));
    const table = g.param('table', f32([11, 64]));
    const x = rmsNorm(embedding(table, ids), g.param('norm', f32([64])), { epsilon: 1e-5 });
    const qkv = matmul(x, g.param('weight', packed([96, 64], format)), { transposeB: true });
    const heads = reshape(qkv, [1, 3, 6, 16]);
    const k = cacheWrite(g.state('k', f32([1, 8, 6, 16])), heads, start);
    const v = cacheWrite(g.state('v', f32([1, 8, 6, 16])), affine(heads, { scale: 0.5 }), start);
    const y = reshape(attention(heads, k, v, { causal: true, start }), [3, 96]);
    const hidden = add(y, g.constant(tensorF32([96], gaussian(5, [96]))));
    g.output('nll', crossEntropy(hidden, g.param('head', f32([11, 96])), g.input('targets', i32([3]))));
    g.output('hidden', hidden);
  });
}

describe('an executable', () => {
  let backend: WasmBackend;
  const buffers = new Map<string, Buffer>();
  beforeAll(async () => {
    backend = await createWasmBackend({ threads: 2 });
    buffers.set('table', await backend.upload(tensorF32([11, 64], gaussian(2, [11, 64]))));
    buffers.set('norm', await backend.upload(tensorF32([64], gaussian(3, [64]))));
    buffers.set('weight', await backend.upload(weight));
    buffers.set('head', await backend.upload(tensorF32([11, 96], gaussian(4, [11, 96]))));
  });
  afterAll(() => {
    for (const buffer of buffers.values()) buffer.dispose();
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  const writeAll = (run: Awaited<ReturnType<WasmBackend['compile']>>, ids: number[], start: number) => {
    run.write('ids', Int32Array.from(ids));
    run.write('start', Int32Array.of(start));
    run.write('targets', Int32Array.of(1, 10, -1));
  };

  it('takes exactly the planned bytes, and gives its share back', async () => {
    const before = backend.usedBytes;
    const run = await backend.compile(decoder(), { params: buffers });
    expect(run.plan.peakBytes).toBe(backend.usedBytes);
    expect(run.plan.parameterBytes).toBe(before + 64 * 6);
    writeAll(run, [1, 2, 3], 0);
    run.run();
    run.run();
    expect(backend.usedBytes).toBe(run.plan.peakBytes);
    run.dispose();
    expect(backend.usedBytes).toBe(before);
  });

  it('counts bound states once, whoever owns them', async () => {
    const states = new Map(['k', 'v'].map((name) => [name, backend.allocate(f32([1, 8, 6, 16]))]));
    const run = await backend.compile(decoder(), { params: buffers, states });
    expect(run.plan.peakBytes).toBe(backend.usedBytes);
    run.dispose();
    for (const state of states.values()) state.dispose();
  });

  it('carries a cache from run to run and between executables, as the reference does', async () => {
    const reference = createReferenceBackend();
    const params = new Map<string, Buffer>();
    params.set('table', await reference.upload(tensorF32([11, 64], gaussian(2, [11, 64]))));
    params.set('norm', await reference.upload(tensorF32([64], gaussian(3, [64]))));
    params.set('weight', await reference.upload(weight));
    params.set('head', await reference.upload(tensorF32([11, 96], gaussian(4, [11, 96]))));
    const expected = await reference.compile(decoder(), { params });
    const states = new Map(['k', 'v'].map((name) => [name, backend.allocate(f32([1, 8, 6, 16]))]));
    for (const [i, ids] of [
      [1, 2, 3],
      [4, 5, 6],
    ].entries()) {
      const run = await backend.compile(decoder(), { params: buffers, states });
      for (const target of [run, expected]) {
        writeAll(target, ids, 3 * i);
        target.run();
      }
      const [a, b] = [(await run.read('nll')).data, (await expected.read('nll')).data];
      for (let n = 0; n < 3; n++) expect(a[n]).toBeCloseTo(b[n], 4);
      run.dispose();
    }
    for (const state of states.values()) state.dispose();
  });

  it('names op, value and range when an index is outside, and works again afterwards', async () => {
    const run = await backend.compile(decoder(), { params: buffers });
    writeAll(run, [1, 11, 3], 0);
    expect(() => run.run()).toThrow(/embedding: an id is out of range in embedding#0, got 11, expected 0 … 10/);
    writeAll(run, [1, 2, 3], 6);
    expect(() => run.run()).toThrow(/start is out of range in \S+, got 6, expected 0 … 5/);
    writeAll(run, [1, 2, 3], 5);
    run.write('targets', Int32Array.of(0, 11, 0));
    expect(() => run.run()).toThrow(/crossEntropy: a target is out of range in \S+, got 11, expected 0 … 10/);
    writeAll(run, [1, 2, 3], 5);
    run.run();
    run.dispose();
    expect(() => run.run()).toThrow('dispose');
  });

  it('refuses buffers of another memory and lengths that do not fit', async () => {
    const other = await createWasmBackend({ threads: 1, maximumBytes: 2 ** 24 });
    const foreign = new Map(buffers).set('norm', await other.upload(tensorF32([64], gaussian(3, [64]))));
    await expect(backend.compile(decoder(), { params: foreign })).rejects.toThrow('another wasm backend');
    other.dispose();
    const run = await backend.compile(decoder(), { params: buffers });
    expect(() => run.write('ids', Int32Array.of(1))).toThrow('got 1, expected 3');
    await expect(run.read('absent')).rejects.toThrow('no output absent');
    run.dispose();
  });

  it('names op and backend when there is no kernel', async () => {
    const graph = decoder();
    const node = graph.nodes[1];
    graph.nodes[1] = { ...node, op: { ...node.op, name: 'convolution' } };
    await expect(backend.compile(graph, { params: buffers })).rejects.toThrow(
      /convolution: the wasm backend has no kernel/,
    );
  });

  it('states request and rest when memory is exhausted, and gives back what it took', async () => {
    const small = await createWasmBackend({ threads: 1, maximumBytes: 3 * 2 ** 20 });
    const graph = trace((g) => g.output('y', affine(g.input('x', f32([200_000])), { scale: 2 })));
    const run = await small.compile(graph, { params: new Map() });
    const error = await small.compile(graph, { params: new Map() }).then(
      () => undefined,
      (e: SubbyteError) => e,
    );
    expect(error?.kind).toBe('device');
    expect(error?.message).toMatch(
      /not enough memory for \S+ \S+, got a request of 800000 bytes, expected at most \d+/,
    );
    expect(small.usedBytes).toBe(run.plan.peakBytes);
    run.dispose();
    expect(small.usedBytes).toBe(0);
    small.dispose();
  });
});
