// Double arithmetic in WGSL against the machine's own, bit for bit.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../../test/support/software-gpu.ts';
import { uniformSource } from '../../../formats/random.ts';
import type { WebgpuBackend } from '../backend.ts';
import { bufferUsage, mapRead } from '../constants.ts';
import { doubleSource, doubleText } from './double.ts';
import { divisionSource } from './rounding.ts';

const shader = `${divisionSource}${doubleSource}
@group(0) @binding(0) var<storage, read_write> x: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
fn loaded(w: vec2u) -> Double {
  if (w.x == 0u && (w.y << 1u) == 0u) { return Double(false, 0, w); }
  return Double((w.y >> 31u) == 1u, i32((w.y >> 20u) & 0x7ffu) - 1075, vec2u(w.x, (w.y & 0xfffffu) | 0x100000u));
}
fn put(at: u32, a: Double) {
  let bits = (u32(a.exponent + 1075) << 20u) | (a.m.y & 0xfffffu) | select(0u, 0x80000000u, a.negative);
  y[at] = select(a.m.x, 0u, isZero(a));
  y[at + 1u] = select(bits, 0u, isZero(a));
}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&x)) { return; }
  let a = loaded(x[id.x].xy);
  let b = loaded(x[id.x].zw);
  put(12u * id.x, addDoubles(a, b));
  put(12u * id.x + 2u, multiplyDoubles(a, b));
  put(12u * id.x + 4u, divideDoubles(a, b));
  put(12u * id.x + 6u, rootOf(Double(false, a.exponent, a.m)));
  put(12u * id.x + 8u, addDoubles(a, negated(${doubleText(0.1)})));
  y[12u * id.x + 10u] = floatBits(a);
}`;

/** Runs the shader: for each pair a + b, a · b, a / b, √|a|, a − 0.1 and a as float32. */
async function compute({ gpu: { device } }: WebgpuBackend, pairs: Float64Array): Promise<Uint32Array> {
  const { storage, copySource, copyTarget } = bufferUsage;
  const bytes = 24 * pairs.length;
  const x = device.createBuffer({ size: pairs.byteLength, usage: storage | copyTarget });
  const y = device.createBuffer({ size: bytes, usage: storage | copySource });
  const back = device.createBuffer({ size: bytes, usage: bufferUsage.mapRead | copyTarget });
  device.queue.writeBuffer(x, 0, pairs.buffer as ArrayBuffer);
  const module = device.createShaderModule({ code: shader });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
  const entries = [x, y].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(Math.ceil(pairs.length / 128));
  pass.end();
  encoder.copyBufferToBuffer(y, 0, back, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(mapRead);
  return new Uint32Array(back.getMappedRange().slice(0));
}

/** Pairs of every relation: alike, far apart, cancelling, ties, powers of two, zeros. */
function pairs(count: number): Float64Array {
  const random = uniformSource(3, 5);
  const draw = (i: number) => (random.at(i) + 2 ** -24 * random.at(i + 1) + 2 ** -48 * random.at(i + 2)) * 2 - 1;
  return Float64Array.from({ length: 2 * count }, (_, j) => {
    const i = j >> 1;
    const first = draw(8 * i) * 2 ** Math.round(60 * draw(8 * i + 3));
    if (j % 2 === 0) return [first, Math.fround(first), 2 ** (i % 50), 0][i % 17 < 14 ? i % 2 : (i % 17) - 14 + 1];
    const kind = i % 5;
    if (kind === 0) return -first * (1 + 2 ** -((i % 7) + 46) * draw(8 * i + 4)) || 1;
    if (kind === 1) return first * 2 ** -((i % 60) + 1) || 1;
    if (kind === 2) return Math.fround(draw(8 * i + 4)) || 1;
    if (kind === 3) return (Math.round(8 * draw(8 * i + 4)) || 1) / 4;
    return draw(8 * i + 4) * 2 ** Math.round(60 * draw(8 * i + 5));
  });
}

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

describe.skipIf(!backend)(`doubles in WGSL${missing ? ` (${missing})` : ''}`, () => {
  afterAll(() => backend?.dispose());

  it('add, multiply, divide, root and conversion are rounded as by the machine', async () => {
    const given = pairs(20_000);
    const found = await compute(backend as WebgpuBackend, given);
    const doubles = new Float64Array(found.buffer);
    const wrong: unknown[] = [];
    const check = (name: string, i: number, f: number, e: number) => {
      if (f !== e) wrong.push([name, given[2 * i], given[2 * i + 1], f, e]);
    };
    for (let i = 0; i < given.length / 2; i++) {
      const [a, b] = [given[2 * i], given[2 * i + 1]];
      check('add', i, doubles[6 * i], a + b);
      check('multiply', i, doubles[6 * i + 1], a * b);
      check('divide', i, doubles[6 * i + 2], a / b);
      check('root', i, doubles[6 * i + 3], Math.sqrt(Math.abs(a)));
      check('subtract a constant', i, doubles[6 * i + 4], a - 0.1);
      check('convert', i, new Float32Array(Uint32Array.of(found[12 * i + 10]).buffer)[0], Math.fround(a));
    }
    expect(wrong.slice(0, 5)).toEqual([]);
  });
});
