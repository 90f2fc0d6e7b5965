import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildRandom, randomSteps } from '../../../test/support/random-graph.ts';
import { parseFormat } from '../../formats/registry.ts';
import { applyOp } from '../../graph/apply.ts';
import { opCatalog } from '../../graph/catalog.ts';
import type { OpDefinition } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add, mul } from '../../graph/ops/arithmetic.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { differences, gaussian, runOpCase } from '../op-case.ts';
import { opCases } from '../op-cases.ts';
import { kernels } from './kernels.ts';
import { createReferenceBackend } from './reference-backend.ts';

const backend = createReferenceBackend();
const none = { params: new Map<string, Buffer>() };

describe('op cases', () => {
  it('walk over every op, and every op has a kernel', () => {
    const used = new Set(opCases.flatMap((c) => trace(c.build).nodes.map((node) => node.op.name)));
    expect([...opCatalog.keys()].filter((name) => !used.has(name))).toEqual([]);
    expect([...opCatalog.keys()].filter((name) => !kernels.has(name))).toEqual([]);
  });

  it('have different names', () => {
    expect(new Set(opCases.map((c) => c.name)).size).toBe(opCases.length);
  });

  it('leave float32 rounding within the tolerance that other backends get', async () => {
    const exact = createReferenceBackend({ precision: 'f64' });
    const problems: string[] = [];
    for (const c of opCases) {
      if (c.tolerance === 'exact') continue;
      const found = differences(await runOpCase(backend, c), await runOpCase(exact, c), c.tolerance);
      problems.push(...found.map((line) => `${c.name}: ${line}`));
    }
    expect(problems).toEqual([]);
  });
});

describe('reference backend', () => {
  it('runs again and again on the same memory', async () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([3]));
      g.output('y', add(affine(x, { scale: 2 }), softmax(x)));
      g.output('same', reshape(x, [3, 1]));
    });
    const run = await backend.compile(graph, none);
    run.write('x', Float32Array.of(0, 0, 0));
    run.run();
    const third = Math.fround(1 / 3);
    expect((await run.read('y')).data).toEqual(Float32Array.of(third, third, third));
    run.run();
    expect((await run.read('y')).data).toEqual(Float32Array.of(third, third, third));
    run.write('x', Float32Array.of(100, 0, 0));
    run.run();
    const out = new Float32Array(3);
    expect((await run.read('y', out)).data).toBe(out);
    expect(out[0]).toBe(201);
    expect(await run.read('same')).toMatchObject({ shape: [3, 1], data: Float32Array.of(100, 0, 0) });
  });

  it('gives with shared memory what it gives when every value has its own', async () => {
    const values = { x: gaussian(1, [4, 3]), z: gaussian(2, [2, 3]), start: Int32Array.of(0) };
    const params = new Map([['w', await backend.upload(tensorF32([4, 3], gaussian(3, [4, 3])))]]);
    const outputs = fc.array(fc.nat(1000), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(randomSteps, outputs, async (steps, chosen) => {
        const results = [];
        // As outputs all values have memory of their own, so that no plan can spoil them.
        for (const all of [false, true]) {
          const run = await backend.compile(
            trace((g) => buildRandom(g, steps, chosen, all)),
            { params },
          );
          for (const [name, data] of Object.entries(values)) run.write(name, data);
          run.run();
          run.run(); // the cache keeps rows of the first run; both graphs see the same ones
          results.push(await Promise.all(chosen.map((_, i) => run.read(`y${i}`))));
        }
        expect(results[0]).toEqual(results[1]);
      }),
      { numRuns: 150 },
    );
  });

  it('copies what it uploads and gives copies back', async () => {
    const w = Float32Array.of(1, 2);
    const buffer = await backend.upload(tensorF32([2], w));
    w[0] = 99;
    const graph = trace((g) => void g.output('y', mul(g.input('x', f32([2])), g.param('w', f32([2])))));
    const run = await backend.compile(graph, { params: new Map([['w', buffer]]) });
    run.write('x', Float32Array.of(1, 1));
    run.run();
    const y = await run.read('y');
    expect(y.data).toEqual(Float32Array.of(1, 2));
    y.data[0] = 7;
    expect((await run.read('y')).data[0]).toBe(1);
  });

  it('keeps float64 where asked, and rounds each result to float32 otherwise', async () => {
    const graph = trace(
      (g) => void g.output('y', affine(affine(g.input('x', f32([1])), { scale: 0.1 }), { scale: 3 })),
    );
    const results = [];
    for (const precision of ['f32', 'f64'] as const) {
      const run = await createReferenceBackend({ precision }).compile(graph, none);
      run.write('x', Float64Array.of(1.1));
      run.run();
      results.push((await run.read('y')).data[0]);
    }
    expect(results).toEqual([Math.fround(3 * Math.fround(0.1 * Math.fround(1.1))), 1.1 * 0.1 * 3]);
  });

  it('starts states without a buffer at zero and keeps them', async () => {
    const graph = trace((g) => {
      const cache = cacheWrite(
        g.state('c', f32([1, 3, 1, 1])),
        g.input('x', f32([1, 1, 1, 1])),
        g.input('start', i32([1])),
      );
      g.output('y', cache);
    });
    const run = await backend.compile(graph, none);
    for (const [i, expected] of [
      [5, 0, 0],
      [5, 6, 0],
      [5, 6, 7],
    ].entries()) {
      run.write('start', Int32Array.of(i));
      run.write('x', Float32Array.of(5 + i));
      run.run();
      expect([...(await run.read('y')).data]).toEqual(expected);
    }
  });

  it('plans twice the bytes for float64', async () => {
    const graph = trace((g) => void g.output('y', softmax(softmax(g.input('x', f32([64]))))));
    const single = (await backend.compile(graph, none)).plan;
    const double = (await createReferenceBackend({ precision: 'f64' }).compile(graph, none)).plan;
    expect(single.peakBytes).toBe(3 * 256);
    expect(double.peakBytes).toBe(2 * single.peakBytes);
  });
});

describe('what a backend refuses', () => {
  const linear = trace((g) => {
    const w = g.param('w', packed([4, 32], parseFormat('mxfp4')));
    g.output('y', matmul(g.input('x', f32([2, 32])), w, { transposeB: true }));
  });

  it('an unbound parameter', async () => {
    await expect(backend.compile(linear, none)).rejects.toThrow(
      'compile: parameter w is not bound, expected mxfp4[4, 32]; upload it',
    );
  });

  it('memory of another type', async () => {
    const w = await backend.upload(tensorF32([4, 32], new Float32Array(128)));
    const bound = backend.compile(linear, { params: new Map([['w', w]]) });
    await expect(bound).rejects.toThrow(
      'compile: parameter w is bound to memory of another type, got f32[4, 32], expected mxfp4[4, 32]',
    );
  });

  it('memory of another backend', async () => {
    const foreign: Buffer = { type: packed([4, 32], parseFormat('mxfp4')), byteLength: 68, dispose() {} };
    const bound = backend.compile(linear, { params: new Map([['w', foreign]]) });
    await expect(bound).rejects.toThrow('parameter w is bound to memory of another backend');
  });

  it('an op without a kernel, when it compiles', async () => {
    const unknown: OpDefinition<Record<string, never>> = { name: 'fold', infer: ([x]) => [x] };
    const graph = trace((g) => void g.output('y', applyOp(unknown, [g.input('x', f32([1]))], {})[0]));
    await expect(backend.compile(graph, none)).rejects.toThrow(
      'fold: the reference backend has no kernel for this op (fold#0)',
    );
  });

  it('data of the wrong length, and names that do not exist', async () => {
    const graph = trace((g) => void g.output('y', affine(g.input('x', f32([2, 3])), { scale: 1 })));
    const run = await backend.compile(graph, none);
    expect(() => run.write('x', new Float32Array(5))).toThrow(
      'write: input x has another number of values, got 5, expected 6',
    );
    expect(() => run.write('z', new Float32Array(6))).toThrow('write: the graph has no input z, expected one of x');
    await expect(run.read('z')).rejects.toThrow('read: the graph has no output z, expected one of y');
    await expect(run.read('y', new Float32Array(2))).rejects.toThrow(
      'read: output y has another number of values, got 2',
    );
  });
});
