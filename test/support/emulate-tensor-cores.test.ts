// Emulated tensor cores: f16 has the bits that JavaScript's has, fragments lie where WGSL's extension says, lanes exchange
// within their 32, and what would not be the same is an error.

import { describe, expect, it } from 'vitest';
import { keepAlive } from '../../src/backends/webgpu/gpu.ts';
import { emulateTensorCores } from './emulate-tensor-cores.ts';
import { knownFragments } from './null-gpu.ts';
import { missingGpu, openEmulatedGpu } from './software-gpu.ts';

const missing = missingGpu();
const enable = 'enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;\n';
const entry = (body: string, threads = 64) => `
@compute @workgroup_size(${threads}) fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
  ${body}
}`;

async function openDevice(): Promise<GPUDevice> {
  const adapter = keepAlive(await (await openEmulatedGpu()).requestAdapter()) as GPUAdapter;
  return keepAlive(await adapter.requestDevice());
}
const device = missing ? undefined : await openDevice();

/** Runs one kernel over `input` (binding 0) and returns `words` words of binding 1. */
async function run(code: string, input: ArrayBuffer, words: number, groups = 1): Promise<ArrayBuffer> {
  const gpu = device as GPUDevice;
  const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = { STORAGE: 128, COPY_DST: 8, COPY_SRC: 4, MAP_READ: 1 };
  const source = gpu.createBuffer({ size: input.byteLength, usage: STORAGE | COPY_DST });
  const target = gpu.createBuffer({ size: 4 * words, usage: STORAGE | COPY_SRC });
  const result = gpu.createBuffer({ size: 4 * words, usage: MAP_READ | COPY_DST });
  gpu.queue.writeBuffer(source, 0, input);
  const module = gpu.createShaderModule({ code: enable + code });
  const pipeline = await gpu.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  const entries = [source, target].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, gpu.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(groups);
  pass.end();
  encoder.copyBufferToBuffer(target, 0, result, 0, 4 * words);
  gpu.queue.submit([encoder.finish()]);
  await result.mapAsync(1);
  return result.getMappedRange().slice(0);
}

const bindings = (input: string, output: string) => `
@group(0) @binding(0) var<storage, read> a: array<${input}>;
@group(0) @binding(1) var<storage, read_write> c: array<${output}>;`;

describe.skipIf(!device)(`emulated tensor cores${missing ? ` (${missing})` : ''}`, () => {
  it('rounds f32 to f16 like JavaScript', async () => {
    const values = new Float32Array(2 ** 16);
    const bits = new Uint32Array(values.buffer);
    // all signs and exponents, with mantissas around ties
    for (let i = 0; i < bits.length; i++)
      bits[i] =
        ((i >> 7) << 23) | ([0, 0x1000, 0x2000, 0x3000, 0x0fff, 0x1001, 0x7fffff, 0x7fe000][i % 8] ^ ((i % 128) << 13));
    const code = `${bindings('f32', 'u32')}
${entry('let i = workgroup.x * 64u + thread; c[i] = bitcast<u32>(vec2<f16>(vec2<f32>(a[2u * i], a[2u * i + 1u])));')}`;
    const found = new Uint16Array(await run(code, values.buffer, 2 ** 15, 512));
    const wrong = [...values].flatMap((x, i) => {
      const [expected] = new Uint16Array(Float16Array.of(x).buffer);
      // subnormal f32 may be flushed, and are 0 as f16; a NaN is a NaN
      const same = Number.isNaN(x) ? (found[i] & 0x7fff) > 0x7c00 : found[i] === expected;
      return same ? [] : [`${x}: ${found[i]} instead of ${expected}`];
    });
    expect(wrong).toEqual([]);
  });

  it('reads all f16', async () => {
    const halves = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
    const code = `${bindings('f16', 'f32')}
${entry('let i = workgroup.x * 64u + thread; c[i] = f32(a[i]);')}`;
    const found = new Float32Array(await run(code, halves.buffer, 2 ** 16, 1024));
    expect(found).toEqual(Float32Array.from(new Float16Array(halves.buffer)));
  });

  it.each(['row_major', 'col_major'].flatMap((a) => ['row_major', 'col_major'].map((b) => [a, b] as const)))(
    'multiplies fragments: %s × %s',
    async (majorA, majorB) => {
      // two subgroups, each a product of its own within lines of 24 f16 (3 vectors), the second one 16 lines further
      const numbers = Float16Array.from({ length: 64 * 24 }, (_, i) => ((i * 37) % 101) - 50);
      const load = (side: string, major: string, first: number) =>
        `subgroupMatrixLoad<subgroup_matrix_${side}<f16, 16, 16>, ${major}>(&a, (${first}u + 16u * subgroup) * 3u + 1u, 3u)`;
      const code = `${bindings('vec4<u32>', 'f32')}
${entry(`let left = ${load('left', majorA, 0)};
  var sum: subgroup_matrix_result<f32, 16, 16>;
  sum = subgroupMatrixMultiplyAccumulate(left, ${load('right', majorB, 32)}, sum);
  sum = subgroupMatrixMultiplyAccumulate(left, ${load('right', majorB, 32)}, sum);
  sum = subgroupMatrixScalarMultiply(sum, 0.25);
  subgroupMatrixStore<row_major>(&c, subgroup * 320u + 2u, sum, 20u);`)}`;
      const found = new Float32Array(await run(code, numbers.buffer, 640));
      const expected = new Float32Array(640);
      const at = (first: number, major: string, row: number, column: number) =>
        numbers[(first + (major === 'row_major' ? row : column)) * 24 + 8 + (major === 'row_major' ? column : row)];
      for (let s = 0; s < 2; s++)
        for (let m = 0; m < 16; m++)
          for (let n = 0; n < 16; n++)
            for (let k = 0; k < 16; k++)
              expected[s * 320 + 2 + m * 20 + n] += 0.5 * at(16 * s, majorA, m, k) * at(32 + 16 * s, majorB, k, n);
      expect(found).toEqual(expected);
    },
  );

  it('exchanges within 32 lanes', async () => {
    const numbers = Float32Array.from({ length: 64 }, (_, i) => (i * 29) % 64);
    const code = `${bindings('f32', 'f32')}
${entry(`let x = a[thread];
  c[thread] = subgroupShuffleXor(x, 16u);
  c[64u + thread] = subgroupShuffle(x, lane / 8u);
  c[128u + thread] = f32(subgroupMax(u32(x)));
  c[192u + thread] = select(0.0, 1.0, subgroupAny(x == 29.0));
  c[256u + thread] = f32(32u * subgroup + lane);`)}`;
    const found = [...new Float32Array(await run(code, numbers.buffer, 320))];
    const lanes = [...numbers.keys()];
    const first = (i: number) => i - (i % 32);
    expect(found).toEqual([
      ...lanes.map((i) => numbers[i ^ 16]),
      ...lanes.map((i) => numbers[first(i) + Math.floor((i % 32) / 8)]),
      ...lanes.map((i) => Math.max(...numbers.subarray(first(i), first(i) + 32))),
      ...lanes.map((i) => (i < 32 ? 1 : 0)),
      ...lanes,
    ]);
  });
});

describe('what cannot be emulated', () => {
  const tile = 'var<workgroup> tile: array<vec4<u32>, 64>;\nvar<workgroup> bytes: array<f16, 64>;';
  const left = (array: string, type = 'f16') =>
    `let x = subgroupMatrixLoad<subgroup_matrix_left<${type}, 16, 16>, row_major>(&${array}, 0u, 2u);`;
  const multiply = 'sum = subgroupMatrixMultiplyAccumulate(x, x, sum);';
  it.each([
    [`${left('tile')} workgroupBarrier(); ${multiply}`, 'a barrier between the load of x and a product with it'],
    [left('bytes'), 'a fragment of subgroup_matrix_left<f16, 16, 16>, row_major in f16'],
    [left('tile', 'i8'), 'a fragment of'],
    [left('other'), '&other is no array'],
    [multiply, 'x is no fragment'],
    ['let y = subgroupMul(1.0);', 'subgroupMul is not emulated'],
  ])('%s', (body, message) => {
    expect(() => emulateTensorCores(enable + tile + entry(body), knownFragments[0])).toThrow(message);
  });

  it('leaves other kernels as they are', () => {
    expect(emulateTensorCores('fn main() {}', knownFragments[0])).toBe('fn main() {}');
  });
});
