// What the backend promises besides numbers: memory figures, errors, shared buffers, states, arenas in pieces.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import type { SubbyteError } from '../../errors.ts';
import type { Graph } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add } from '../../graph/ops/arithmetic.ts';
import { attention } from '../../graph/ops/attention.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { rmsNorm } from '../../graph/ops/norm.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { Backend, Buffer, Executable } from '../backend.ts';
import { gaussian } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';
import type { WebgpuExecutable } from './executable.ts';

/** A slice of a decoder: table, norm, product, cached attention, a residual. */
function decoder(): Graph {
  return trace((g) => {
    const ids = g.input('ids', i32([3]));
    const start = g.input('start', i32([1]));
    const x = rmsNorm(embedding(g.param('table', f32([11, 64])), ids), g.param('norm', f32([64])), { epsilon: 1e-5 });
    const qkv = matmul(x, g.param('weight', f32([96, 64])), { transposeB: true });
    const heads = reshape(qkv, [1, 3, 6, 16]);
    const k = cacheWrite(g.state('k', f32([1, 8, 6, 16])), heads, start);
    const v = cacheWrite(g.state('v', f32([1, 8, 6, 16])), affine(heads, { scale: 0.5 }), start);
    const y = reshape(attention(heads, k, v, { causal: true, start }), [3, 96]);
    g.output('hidden', add(y, g.constant(tensorF32([96], gaussian(5, [96])))));
  });
}

const weights = { table: [11, 64], norm: [64], weight: [96, 64] };
async function uploadAll(backend: Backend): Promise<Map<string, Buffer>> {
  const buffers = new Map<string, Buffer>();
  for (const [seed, [name, shape]] of Object.entries(weights).entries())
    buffers.set(name, await backend.upload(tensorF32(shape, gaussian(seed, shape))));
  return buffers;
}

function writeAll(run: Executable, ids: number[], start: number): void {
  run.write('ids', Int32Array.from(ids));
  run.write('start', Int32Array.of(start));
}

const caught = async (work: unknown): Promise<SubbyteError> => {
  try {
    await work;
  } catch (error) {
    return error as SubbyteError;
  }
  throw new Error('nothing was thrown');
};

const missing = missingGpu();

describe.skipIf(missing)(`an executable${missing ? ` (${missing})` : ''}`, () => {
  let backend: WebgpuBackend;
  let buffers: Map<string, Buffer>;
  beforeAll(async () => {
    backend = await createTestBackend();
    buffers = await uploadAll(backend);
  });
  afterAll(() => {
    for (const buffer of buffers.values()) buffer.dispose();
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  it('takes exactly the planned bytes, and gives its share back', async () => {
    const before = backend.usedBytes;
    const run = await backend.compile(decoder(), { params: buffers });
    expect(run.plan.peakBytes).toBe(backend.usedBytes);
    expect(run.plan.parameterBytes).toBe(before + 512); // and the constant
    writeAll(run, [1, 2, 3], 0);
    await run.run();
    await run.run();
    expect(backend.usedBytes).toBe(run.plan.peakBytes);
    run.dispose();
    expect(backend.usedBytes).toBe(before);
  });

  it('times every dispatch in a run like any other', async () => {
    const run = (await backend.compile(decoder(), { params: buffers })) as WebgpuExecutable;
    writeAll(run, [1, 2, 3], 0);
    await run.run();
    const { data } = await run.read('hidden');
    const used = backend.usedBytes;
    const commands = await run.profile(2);
    expect(backend.usedBytes).toBe(used);
    expect((await run.read('hidden')).data).toEqual(data);
    const names = ['embedding', 'rmsNorm', 'matmul', 'cacheWrite', 'attention', 'affine', 'add'];
    expect(new Set(commands.map(({ node }) => node.op.name))).toEqual(new Set(names));
    for (const { microseconds } of commands) expect(microseconds).toBeGreaterThanOrEqual(0);
    const product = commands.filter(({ node }) => node.op.name === 'matmul');
    expect(product.reduce((sum, { flops }) => sum + flops, 0)).toBe(2 * 3 * 96 * 64);
    // x [3, 64], the weight and the result, each at a multiple of 256 bytes
    expect(product[0].bytes).toBe(4 * (3 * 64 + 96 * 64) + 1280);
    run.dispose();
  });

  it('counts bound states once, whoever owns them', async () => {
    const states = new Map(['k', 'v'].map((name) => [name, backend.allocate(f32([1, 8, 6, 16]))]));
    const run = await backend.compile(decoder(), { params: buffers, states });
    expect(run.plan.peakBytes).toBe(backend.usedBytes);
    run.dispose();
    for (const state of states.values()) state.dispose();
  });

  it('compiles nothing again for a graph it has seen', async () => {
    const first = await backend.compile(decoder(), { params: buffers });
    const count = backend.pipelineCount;
    const second = await backend.compile(decoder(), { params: buffers });
    expect(backend.pipelineCount).toBe(count);
    first.dispose();
    second.dispose();
  });

  it('carries a cache from run to run and between executables, as the reference does', async () => {
    const reference = createReferenceBackend();
    const expected = await reference.compile(decoder(), { params: await uploadAll(reference) });
    const states = new Map(['k', 'v'].map((name) => [name, backend.allocate(f32([1, 8, 6, 16]))]));
    for (const [i, ids] of [
      [1, 2, 3],
      [4, 5, 6],
    ].entries()) {
      const run = await backend.compile(decoder(), { params: buffers, states });
      for (const target of [run, expected]) {
        writeAll(target, ids, 3 * i);
        await target.run();
      }
      const [a, b] = [(await run.read('hidden')).data, (await expected.read('hidden')).data];
      for (let n = 0; n < a.length; n++) expect(a[n]).toBeCloseTo(b[n], 4);
      run.dispose();
    }
    for (const state of states.values()) state.dispose();
  });

  it('names op, value and range when an index is outside, and works again afterwards', async () => {
    const run = await backend.compile(decoder(), { params: buffers });
    writeAll(run, [1, 11, 3], 0);
    await expect(run.run()).rejects.toThrow(/embedding: an id is out of range in embedding#0, got 11, expected 0 … 10/);
    writeAll(run, [1, -1, 3], 0);
    await expect(run.run()).rejects.toThrow(/an id is out of range in \S+, got -1/);
    writeAll(run, [1, 2, 3], 6);
    await expect(run.run()).rejects.toThrow(/start is out of range in \S+, got 6, expected 0 … 5/);
    writeAll(run, [1, 2, 3], 5);
    await run.run();
    run.dispose();
    await expect(run.run()).rejects.toThrow('dispose');
  });

  it('refuses runs that overlap, buffers of another device and lengths that do not fit', async () => {
    const other = await createTestBackend();
    const foreign = new Map(buffers).set('norm', await other.upload(tensorF32([64], gaussian(3, [64]))));
    await expect(backend.compile(decoder(), { params: foreign })).rejects.toThrow('another webgpu backend');
    other.dispose();
    const run = await backend.compile(decoder(), { params: buffers });
    expect(() => run.write('ids', Int32Array.of(1))).toThrow('got 1, expected 3');
    await expect(run.read('absent')).rejects.toThrow('no output absent');
    writeAll(run, [1, 2, 3], 0);
    const first = run.run();
    await expect(run.run()).rejects.toThrow('before the last run has ended');
    await first;
    run.dispose();
  });

  it('names op and backend when there is no kernel', async () => {
    const graph = decoder();
    const node = graph.nodes[1];
    graph.nodes[1] = { ...node, op: { ...node.op, name: 'convolution' } };
    await expect(backend.compile(graph, { params: buffers })).rejects.toThrow(
      /convolution: the webgpu backend has no kernel/,
    );
  });

  it('reads several outputs at once, and into arrays of another type', async () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([5]));
      g.output('double', affine(x, { scale: 2 }));
      g.output('triple', affine(x, { scale: 3 }));
    });
    const run = await backend.compile(graph, { params: new Map() });
    run.write('x', Int32Array.of(1, 2, 3, 4, 5));
    await run.run();
    const [double, triple] = await Promise.all([run.read('double'), run.read('triple', new Int32Array(5))]);
    expect([...double.data]).toEqual([2, 4, 6, 8, 10]);
    expect([...triple.data]).toEqual([3, 6, 9, 12, 15]);
    run.dispose();
  });
});

describe.skipIf(missing)(`limits of a device${missing ? ` (${missing})` : ''}`, () => {
  const wide = () =>
    trace((g) => {
      // Three values of 4096 bytes are alive at once.
      const x = g.input('x', f32([1024]));
      const [a, b, c] = [1, 2, 3].map((scale) => softmax(affine(x, { scale })));
      g.output('y', add(add(a, b), c));
    });

  it('cuts an arena that is larger than a binding into pieces', async () => {
    const x = gaussian(1, [1024]);
    const results: Float32Array[] = [];
    for (const maximumBufferBytes of [4096, Infinity]) {
      const backend = await createTestBackend({ maximumBufferBytes });
      const run = await backend.compile(wide(), { params: new Map() });
      expect(run.plan.arenaBytes).toBeGreaterThan(2 * 4096);
      run.write('x', x);
      await run.run();
      results.push(Float32Array.from((await run.read('y')).data));
      backend.dispose();
    }
    expect(results[0]).toEqual(results[1]);
  });

  it('names op, bytes and limit of a value that no kernel can bind', async () => {
    const backend = await createTestBackend({ maximumBufferBytes: 2048 });
    const graph = trace((g) => g.output('y', add(g.input('a', f32([32, 1])), g.input('b', f32([1, 32])))));
    const error = await caught(backend.compile(graph, { params: new Map() }));
    expect(error.exitCode).toBe(3);
    expect(error.message).toMatch(/^add: add#0 f32\[32, 32\] is larger .*, got 4096 bytes, expected at most 2048/);
    expect(backend.usedBytes).toBe(0);
    await expect(backend.upload(tensorF32([1024], new Float32Array(1024)))).rejects.toThrow('got 4096 bytes');
    backend.dispose();
  });

  it('states request and budget when memory is exhausted, and gives back what it took', async () => {
    const backend = await createTestBackend({ maximumBytes: 45_000 });
    const run = await backend.compile(wide(), { params: new Map() });
    const used = backend.usedBytes;
    const error = await caught(backend.compile(wide(), { params: new Map() }));
    expect(error.kind).toBe('device');
    expect(error.message).toMatch(/not enough device memory for .*, got a request of \d+ bytes with \d+ in use/);
    expect(backend.usedBytes).toBe(used);
    run.dispose();
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  it('ends a run on a device that is gone with a device error', async () => {
    const backend = await createTestBackend();
    const run = await backend.compile(wide(), { params: new Map() });
    run.write('x', gaussian(1, [1024]));
    await run.run();
    backend.gpu.device.destroy();
    for (const work of [
      () => run.run(),
      () => run.read('y'),
      () => backend.upload(tensorF32([1], new Float32Array(1))),
    ]) {
      const error = await caught(work());
      expect(error.exitCode).toBe(3);
      expect(error.message).toMatch(/^(run|read|upload): the backend was disposed/);
    }
    run.dispose();
  });

  it('says that no adapter has a name', async () => {
    const error = await caught(createTestBackend({ adapter: 'no such card' }));
    expect(error.exitCode).toBe(3);
    expect(error.message).toMatch(/no graphics adapter is called no such card .*; install a Vulkan/);
  });
});
