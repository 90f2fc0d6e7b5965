// The search for E2M1 codes in WGSL against the reference codec, at and next to every level and threshold.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../../test/support/software-gpu.ts';
import { elementCodec } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { roundingSource } from '../../../formats/random.ts';
import { parseFormat } from '../../../formats/registry.ts';
import type { WebgpuBackend } from '../backend.ts';
import { bufferUsage, mapRead } from '../constants.ts';
import { fp4LevelsSource } from './levels-fp4.ts';
import { randomSource } from './random.ts';
import { fp4SearchSource, hasFp4Search } from './search-fp4.ts';

const [seed, stream] = [11, 5];

/** Codes of vectors of four numbers, each vector with a step of its own. */
async function compute({ gpu: { device } }: WebgpuBackend, source: string, v: Float32Array, steps: Float32Array) {
  const code = `struct Words { seed: u32, stream: u32 }
const words = Words(${seed}u, ${stream}u);
@group(0) @binding(0) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> steps: array<f32>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
${randomSource()}${source}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&steps)) { return; }
  codes[id.x] = fp4Of(v[id.x], levelsOf(steps[id.x]), 4u * id.x);
}`;
  const { storage, copySource, copyTarget } = bufferUsage;
  const inputs = [v, steps].map((data) => {
    const buffer = device.createBuffer({ size: data.byteLength, usage: storage | copyTarget });
    device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer);
    return buffer;
  });
  const out = device.createBuffer({ size: steps.byteLength, usage: storage | copySource });
  const back = device.createBuffer({ size: steps.byteLength, usage: bufferUsage.mapRead | copyTarget });
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
  const entries = [...inputs, out].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(Math.ceil(steps.length / 64));
  pass.end();
  encoder.copyBufferToBuffer(out, 0, back, 0, steps.byteLength);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(mapRead);
  return new Uint32Array(back.getMappedRange().slice(0));
}

/** The f32 `by` places after x. */
function besides(x: number, by: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer);
  bits[0] = Math.max(0, bits[0]! + by);
  return new Float32Array(bits.buffer)[0]!;
}

/** Steps: powers of two, what second-level scales make of them, any. */
const steps = [
  ...[-100, -20, -1, 0, 3, 90, 124].flatMap((e) => [2 ** e, Math.fround(4 / 3) * 2 ** e]),
  ...Array.from({ length: 52 }, (_, i) => Math.fround(1 + ((i * 0.618034) % 1)) * 2 ** ((i % 30) - 15)),
].map(Math.fround);

const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 7];

/** Numbers at and around step × point, of either sign, four a step; the last step is that of zeros. */
function cases(pointOf: (element: number, i: number) => number): [v: Float32Array, steps: Float32Array] {
  const values: number[] = [];
  for (const step of steps)
    for (let i = 0; i < 8; i++)
      for (const by of [-9, -2, -1, 0, 1, 2, 9, 100])
        for (const sign of [1, -1])
          for (const point of [pointOf(values.length, i), levels[i]!, levels[i + 1]!, levels[i]! + 0.37])
            values.push(Math.fround(sign * besides(Math.fround(step * point), by)) + 0);
  const each = steps.flatMap((step) => new Array<number>(values.length / 4 / steps.length).fill(step));
  return [Float32Array.from([...values, 0, -0, 0, -0]), Float32Array.from([...each, 0])];
}

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

describe.skipIf(missing)(`search for E2M1 codes in WGSL${missing ? ` (${missing})` : ''}`, () => {
  const gpu = backend as WebgpuBackend;
  afterAll(() => gpu.dispose());

  it.each([
    ...['mxfp4', 'mxfp4-tozero', 'mxfp4-away', 'mxfp4-sr'].map(
      (name) => [name, 'a quotient', fp4SearchSource] as const,
    ),
    ...['mxfp4', 'mxfp4-tozero', 'mxfp4-away'].map((name) => [name, 'levels', fp4LevelsSource] as const),
  ])('%s by %s', async (name, _, source) => {
    const spec = parseFormat(name) as QuantSpec;
    expect(hasFp4Search(spec)).toBe(true);
    const random = roundingSource(seed, stream);
    const stochastic = spec.rounding === 'stochastic';
    const [v, each] = cases((element, i) => {
      const [low, high] = [levels[i]!, levels[i + 1]!];
      return low + (stochastic ? random.at(element) : 0.5) * (high - low);
    });
    const { encode } = elementCodec(spec);
    const expected = Array.from(each, (step, i) =>
      [0, 1, 2, 3]
        .map((k) => 4 * i + k)
        .reduce((word, at, k) => word | (encode(v[at]!, step, random.at(at)) << (4 * k)), 0),
    );
    expect(Array.from(await compute(gpu, source(spec), v, each))).toEqual(expected);
  });
});
