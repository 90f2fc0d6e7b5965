import { afterAll, describe, expect, it } from 'vitest';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { gradients } from '../graph/differentiate.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { mul } from '../graph/ops/arithmetic.ts';
import { sum } from '../graph/ops/reduce.ts';
import { type GraphBuilder, trace } from '../graph/trace.ts';
import { f32 } from '../graph/value-type.ts';
import { hadamardMatrix, randomSigns } from '../tensor/hadamard.ts';
import type { Shape } from '../tensor/shape.ts';
import { type Rotation, rotateInput } from './hadamard.ts';
import { linear } from './linear.ts';

const backends: Backend[] = [createReferenceBackend(), await createWasmBackend()];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const wave = (n: number, phase: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(phase + 0.37 * i * i));

async function run(backend: Backend, build: (g: GraphBuilder) => void, inputs: Record<string, Float32Array>) {
  const executable = await backend.compile(trace(build), { params: new Map() });
  for (const [name, data] of Object.entries(inputs)) executable.write(name, data);
  await executable.run();
  const { data } = await executable.read('y');
  executable.dispose();
  return [...data];
}

/** x · R by the matrix itself: element (block, i, s) of a row goes to (block, j, s) with weight signs_i · H[i, j] / √n. */
function dense(x: ArrayLike<number>, { size, stride = 1, seed }: Rotation, transposed = false): number[] {
  const h = hadamardMatrix(size);
  const signs = seed === undefined ? new Float32Array(size).fill(1) : randomSigns(size, seed);
  return Array.from(x, (_, at) => {
    const s = at % stride;
    const j = Math.floor(at / stride) % size;
    const first = at - j * stride - s;
    let total = 0;
    for (let i = 0; i < size; i++) {
      const weight = transposed ? signs[j] * h[j * size + i] : signs[i] * h[i * size + j];
      total += x[first + i * stride + s] * weight;
    }
    return total / Math.sqrt(size);
  });
}

const cases: [string, Shape, Rotation][] = [
  ['blocks of a power of two', [5, 128], { size: 32 }],
  ['blocks with signs', [5, 128], { size: 32, seed: 3 }],
  ['a base matrix alone', [3, 24], { size: 12 }],
  ['the head dimension 80', [2, 3, 4, 80], { size: 80 }],
  ['384 = 12 · 32 with signs', [7, 384], { size: 384, seed: 9 }],
  ['688 = 172 · 4', [2, 688], { size: 688 }],
  ['across 8 heads of 24', [3, 192], { size: 8, stride: 24 }],
  ['across 12 heads of 5, two times', [3, 120], { size: 12, stride: 5, seed: 1 }],
];

describe.each(backends)('rotateInput on $name', (backend) => {
  it.each(cases)('multiplies by the matrix: %s', async (_, shape, rotation) => {
    const x = wave(
      shape.reduce((a, b) => a * b, 1),
      1,
    );
    const y = await run(backend, (g) => g.output('y', rotateInput(g.input('x', f32(shape)), rotation)), { x });
    const expected = dense(x, rotation);
    expect(Math.max(...y.map((v, i) => Math.abs(v - expected[i])))).toBeLessThan(2e-6);
    expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.5);
  });

  it('leaves a layer unchanged whose weight was rotated too', async () => {
    const rotation: Rotation = { size: 24, seed: 4 };
    const [x, weight] = [wave(4 * 48, 1), wave(6 * 48, 2)];
    const rotated = Float32Array.from(dense(weight, rotation));
    const layer = (g: GraphBuilder, turn?: Rotation) => {
      const params = { weight: g.input('weight', f32([6, 48])), rotation: turn };
      g.output('y', linear(g.input('x', f32([4, 48])), params));
    };
    const plain = await run(backend, (g) => layer(g), { x, weight });
    const turned = await run(backend, (g) => layer(g, rotation), { x, weight: rotated });
    expect(Math.max(...plain.map((v, i) => Math.abs(v - turned[i])))).toBeLessThan(5e-6);
  });
});

describe('the rotation of a graph', () => {
  it.each(cases)('has the transpose as its gradient: %s', async (_, shape, rotation) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const w = wave(count, 2);
    const build = (g: GraphBuilder) => {
      const x = g.input('x', f32(shape));
      const axes = shape.map((_, axis) => axis);
      const loss = sum(mul(rotateInput(x, rotation), g.input('w', f32(shape))), { axes });
      g.output('y', gradients(g, loss, [x])[0]);
    };
    const dx = await run(createReferenceBackend(), build, { x: wave(count, 1), w });
    const expected = dense(w, rotation, true);
    expect(Math.max(...dx.map((v, i) => Math.abs(v - expected[i])))).toBeLessThan(2e-6);
  });

  const build = (body: (x: Value) => void): Graph => trace((g) => body(g.input('x', f32([4, 48]))));

  it('is made once for several layers that share an input, and its matrix once for all', () => {
    const graph = build((x) => {
      expect(rotateInput(x, { size: 24 })).toBe(rotateInput(x, { size: 24 }));
      expect(rotateInput(x, { size: 24 })).not.toBe(rotateInput(x, { size: 48 }));
      rotateInput(rotateInput(x, { size: 24 }), { size: 12 });
    });
    expect([...graph.constants.keys()].map((v) => v.name)).toEqual(['Hadamard base 12']);
  });

  it('names what does not fit', () => {
    build((x) => {
      expect(() => rotateInput(x, { size: 32 })).toThrow(/rotateInput.*\[4, 48\].*size 32, stride 1.*divides 48/);
      expect(() => rotateInput(x, { size: 12, stride: 8 })).toThrow(/size 12, stride 8/);
      expect(() => rotateInput(x, { size: 6 })).toThrow(/size 6/);
    });
  });
});
