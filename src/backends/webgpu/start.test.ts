// Runs that are started ahead, values that lie side by side, updates that share dispatches.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { affine } from '../../graph/ops/affine.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { holdUpdates } from '../../graph/ops/hold-updates.ts';
import { adamw, sgd } from '../../graph/ops/optimizers.ts';
import { sum } from '../../graph/ops/reduce.ts';
import { sumSquares } from '../../graph/ops/sum-squares.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { gaussian } from '../op-case.ts';
import { readBuffer } from '../read-buffer.ts';
import type { WebgpuBackend } from './backend.ts';
import type { WebgpuExecutable } from './executable.ts';

const missing = missingGpu();

/** w ← w + x, with outputs Σ w and a guarded number; `id` looks up a table of one row. */
const counter = trace((g) => {
  const [x, guard] = ['x', 'guard'].map((name) => g.input(name, f32([3])));
  g.output('guard', holdUpdates(guard));
  g.output('row', embedding(g.constant(tensorF32([1, 1], Float32Array.of(7))), g.input('id', i32([1]))));
  const minusOne = g.constant(tensorF32([1], Float32Array.of(-1)));
  g.output('total', sum(sgd(g.state('w', f32([3])), x, minusOne, { weightDecay: 0 })));
});

const shapes: Shape[] = [[5], [64, 33], [1], [3, 4099], [4096]];

/** AdamW over many weights with the squares of their gradients; the states are those of the run. */
const many = trace((g) => {
  const gradients = shapes.map((shape, i) => affine(g.input(`g${i}`, f32(shape)), { scale: 0.5 }));
  g.output('squares', sumSquares(gradients));
  const numbers = {
    learningRate: g.input('rate', f32([1])),
    step: g.input('step', i32([1])),
    factor: affine(g.input('norm', f32([1])), { scale: 3 }),
  };
  for (const [i, shape] of shapes.entries()) {
    const [w, m, v] = ['w', 'm', 'v'].map((name) => g.state(`${name}${i}`, f32(shape)));
    const constants = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: i % 2 };
    adamw(w, { m, v }, gradients[i], numbers, constants);
  }
});

describe.skipIf(missing)(`a run that is started${missing ? ` (${missing})` : ''}`, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => {
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  const open = async () => {
    const run = (await backend.compile(counter, { params: new Map() })) as WebgpuExecutable;
    const start = async (x: number, { guard = 1, id = 0 } = {}) => {
      run.write('x', Float32Array.of(x, 0, 0));
      run.write('guard', Float32Array.of(0, guard, 0));
      run.write('id', Int32Array.of(id));
      const [total, guarded] = await run.start(['total', 'guard']);
      return [total.data[0], guarded.data[1]];
    };
    return { run, start };
  };

  it('sees its own inputs and gives its own outputs, whatever is started behind it', async () => {
    const { run, start } = await open();
    const found = await Promise.all([start(1), start(10), start(100)]);
    expect(found.map(([total]) => total)).toEqual([1, 11, 111]);
    expect(backend.usedBytes).toBe(run.plan.peakBytes);
    const last = start(0);
    await expect(run.run()).rejects.toThrow('before the last run has ended');
    expect((await last)[0]).toBe(111);
    run.dispose();
  });

  it.each([Number.NaN, Number.NEGATIVE_INFINITY])('that holds its updates at %f holds those behind it', async (bad) => {
    const { run, start } = await open();
    const found = await Promise.all([start(1), start(10, { guard: bad }), start(100)]);
    expect(found).toEqual([
      [1, 1],
      [1, bad],
      [1, 1],
    ]);
    expect(await start(1000)).toEqual([1001, 1]);
    run.dispose();
  });

  it('with a data error fails those behind it, which update nothing', async () => {
    const { run, start } = await open();
    const found = await Promise.allSettled([start(1), start(10, { id: 1 }), start(100)]);
    expect(found.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
    for (const one of found.slice(1))
      expect((one as PromiseRejectedResult).reason.message).toContain('embedding: an id is out of range');
    expect(await start(1000)).toEqual([1001, 1]);
    run.dispose();
  });

  it('over packed states gives the same bits in fewer dispatches', async () => {
    const trained = async (packed: boolean) => {
      const states = new Map<string, Buffer>();
      for (const [i, shape] of shapes.entries())
        for (const [k, name] of ['w', 'm', 'v'].entries()) {
          const values = gaussian(10 * i + k, shape).map((x) => (name === 'v' ? x * x : x));
          states.set(`${name}${i}`, await backend.upload(tensorF32(shape, values)));
        }
      const before = backend.usedBytes;
      if (packed) await backend.pack?.(states.values());
      expect(backend.usedBytes).toBe(before);
      const run = (await backend.compile(many, { params: new Map(), states })) as WebgpuExecutable;
      for (const [i, shape] of shapes.entries()) run.write(`g${i}`, gaussian(100 + i, shape));
      run.write('rate', Float32Array.of(0.01));
      run.write('norm', Float32Array.of(0.2));
      const numbers: number[][] = [];
      for (let step = 1; step <= 2; step++) {
        run.write('step', Int32Array.of(step));
        const [squares] = await run.start(['squares']);
        numbers.push([...squares.data]);
      }
      const bytes: [string, string][] = [];
      for (const [name, buffer] of states) {
        const { data } = await readBuffer(backend, name, buffer);
        bytes.push([name, new Uint32Array(Float32Array.from(data).buffer).join()]);
      }
      const updates = (await run.profile()).filter(({ node }) => node.op.name === 'adamw').length;
      run.dispose();
      for (const buffer of states.values()) buffer.dispose();
      return { numbers, bytes, updates };
    };
    const [apart, packed] = [await trained(false), await trained(true)];
    expect(packed.numbers).toEqual(apart.numbers);
    expect(packed.bytes).toEqual(apart.bytes);
    expect([apart.updates, packed.updates]).toEqual([shapes.length, 1]);
    for (const [i, shape] of shapes.entries()) {
      const expected = gaussian(100 + i, shape).reduce((total, x) => total + (x / 2) ** 2, 0);
      expect(Math.abs(packed.numbers[0][i] / expected - 1)).toBeLessThan(2e-7);
    }
  });

  it('packs what no compiled graph uses, and frees the memory with the last value', async () => {
    const used = backend.usedBytes;
    const values = await Promise.all([1, 2, 3].map((x) => backend.upload(tensorF32([2], Float32Array.of(x, -x)))));
    const double = trace((g) => g.output('y', affine(g.param('x', f32([2])), { scale: 2 })));
    const read = async (x: Buffer) => {
      const run = await backend.compile(double, { params: new Map([['x', x]]) });
      await run.run();
      const { data } = await run.read('y');
      run.dispose();
      return [...data];
    };
    expect(await read(values[1])).toEqual([4, -4]);
    await backend.pack?.(values);
    expect(await Promise.all(values.map(read))).toEqual([
      [2, -2],
      [4, -4],
      [6, -6],
    ]);
    values[0].dispose();
    expect(await read(values[2])).toEqual([6, -6]);
    for (const value of values.slice(1)) value.dispose();
    expect(backend.usedBytes).toBe(used);
  });
});
