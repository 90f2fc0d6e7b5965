// Matrix products on tensor cores through WebGPU: tile shapes, transposes, packed weights, int8. Every timed kernel's
// result is compared with float64 at sampled places in the same run.
//
//   node bench/webgpu-matmul.ts [--peer cublas.json] [--only REGEX] [--size 4096] [--robustness]
//
// The peer's file holds TFLOP/s by kind and size, as in {"f16-4096": 766.8}.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { SubgroupTile } from '../src/backends/webgpu/kernels/matmul-subgroup.ts';
import {
  int8Matmul,
  type SubgroupMatmul,
  subgroupMatmul,
} from '../src/backends/webgpu/kernels/matmul-subgroup-source.ts';
import { openBench } from './webgpu-gpu.ts';
import { float16Operand, int4Operand, int8Operand, mxfp4Operand, type Operand, sumError } from './webgpu-operands.ts';
import { benchVectors } from './webgpu-vectors.ts';

const { values } = parseArgs({
  options: {
    robustness: { type: 'boolean', default: false },
    peer: { type: 'string' },
    only: { type: 'string', default: '' },
    size: { type: 'string', default: '4096' },
  },
});
const peers: Record<string, number> = values.peer ? JSON.parse(readFileSync(values.peer, 'utf8')) : {};
const { robustness } = values;
const bench = await openBench({ robustness, enableToggles: ['disable_workgroup_init'] });
console.log(`${bench.description}, ${robustness ? 'robustness on' : 'disable_robustness'}, disable_workgroup_init`);
const wanted = (name: string) => new RegExp(values.only).test(name);
const N = Number(values.size);

const tile = (
  blockM: number,
  blockN: number,
  blockK: number,
  subgroupsM: number,
  subgroupsN: number,
  buffers: 1 | 2 = 1,
  group = 0,
): SubgroupTile => ({ blockM, blockN, blockK, subgroupsM, subgroupsN, buffers, group, edge: 16, lanes: 32 });
const printTile = (t: SubgroupTile) =>
  `${t.blockM}×${t.blockN}×${t.blockK} ${t.subgroupsM}×${t.subgroupsN}${t.buffers === 2 ? ' two buffers' : ''}${t.group ? ` bands ${t.group}` : ''}`;

/** Times a product and compares 64 of its results; prints one line, returns TFLOP/s. */
async function run(name: string, spec: SubgroupMatmul, a: Operand, b: Operand): Promise<number> {
  if (!wanted(name)) return 0;
  const { M, N: columns, K } = spec;
  const c = bench.empty(4 * M * columns);
  try {
    const kernel = subgroupMatmul(spec);
    const ms = await bench.time(kernel, [...a.buffers, ...b.buffers, c]);
    const rate = (2 * M * columns * K) / ms / 1e9;
    const error = await worstError(c, M, columns, K, a, b);
    report(name, printTile(spec.tile), ms, rate, error, 2e-4);
    return error < 2e-4 ? rate : 0;
  } catch (error) {
    console.log(`${name} ${printTile(spec.tile)}: ${String(error).slice(0, 200)}`);
    return 0;
  } finally {
    c.destroy();
  }
}

function report(name: string, shape: string, ms: number, rate: number, error: number, bound: number): void {
  const peer = peers[`f16-${N}`];
  const ratio = peer ? `  ${(rate / peer).toFixed(3)} of cuBLAS f16` : '';
  const wrong = error < bound ? '' : '  WRONG';
  console.log(
    `${name.padEnd(12)} ${shape.padEnd(34)} ${ms.toFixed(3)} ms  ${rate.toFixed(1)} TFLOP/s${ratio}  error ${error.toExponential(1)}${wrong}`,
  );
}

/** Largest difference from float64, relative to the root of the sum of squares of the products. */
async function worstError(
  c: GPUBuffer,
  M: number,
  columns: number,
  K: number,
  a: Operand,
  b: Operand,
): Promise<number> {
  let worst = 0;
  for (let s = 0; s < 16; s++) {
    const m = (s * 2654435761) % M;
    const row = new Float32Array(await bench.read(c, 4 * m * columns, 4 * columns));
    for (let j = 0; j < 4; j++) {
      const n = (s * 40503 + j * 9973) % columns;
      worst = Math.max(
        worst,
        sumError(row[n], K, (k) => a.at(m, k) * b.at(n, k)),
      );
    }
  }
  return worst;
}

const k = { storage: 'f16', contiguous: 'k' } as const;
const outer = { storage: 'f16', contiguous: 'outer' } as const;
const sizes = { M: N, N, K: N };
const aRows = float16Operand(bench, N, N, 'k', 1);
const bRows = float16Operand(bench, N, N, 'k', 2);

const shapes = [
  tile(128, 128, 32, 2, 2, 1, 8),
  tile(128, 128, 32, 2, 2, 1, 4),
  tile(128, 128, 32, 2, 2, 1, 16),
  tile(128, 128, 32, 2, 2),
  tile(128, 128, 32, 2, 2, 2),
  tile(128, 128, 64, 2, 2),
  tile(128, 256, 32, 2, 4),
  tile(128, 256, 32, 2, 4, 1, 8),
  tile(256, 128, 32, 4, 2, 1, 4),
  tile(192, 128, 64, 3, 2),
  tile(64, 256, 32, 1, 4),
];
let best = shapes[0];
let rate = 0;
for (const shape of shapes) {
  if (N % shape.blockN || N % shape.blockM) continue;
  const r = await run('f16 NT', { ...sizes, a: k, b: k, tile: shape }, aRows, bRows);
  if (r > rate) [best, rate] = [shape, r];
}
console.log(`best: ${printTile(best)}`);
const aColumns = float16Operand(bench, N, N, 'outer', 1);
const bColumns = float16Operand(bench, N, N, 'outer', 2);
for (const shape of [best, tile(128, 128, 32, 2, 2, 1, 8), tile(256, 128, 32, 4, 2)]) {
  await run('f16 NN', { ...sizes, a: k, b: outer, tile: shape }, aRows, bColumns);
  await run('f16 TN', { ...sizes, a: outer, b: outer, tile: shape }, aColumns, bColumns);
}
const mx = mxfp4Operand(bench, N, N, 3);
const mxLeft = mxfp4Operand(bench, N, N, 5);
const int4 = int4Operand(bench, N, N, 4);
for (const shape of [best, tile(128, 256, 32, 2, 4), tile(128, 128, 64, 2, 2)]) {
  if (wanted('mxfp4'))
    await run('W mxfp4', { ...sizes, a: k, b: { storage: 'mxfp4', contiguous: 'k' }, tile: shape }, aRows, mx);
  await run('W int4-g128', { ...sizes, a: k, b: { storage: 'int4-g128', contiguous: 'k' }, tile: shape }, aRows, int4);
  await run(
    'both mxfp4',
    { ...sizes, a: { storage: 'mxfp4', contiguous: 'k' }, b: { storage: 'mxfp4', contiguous: 'k' }, tile: shape },
    mxLeft,
    mx,
  );
}
if (wanted('i8')) {
  const [a8, b8] = [int8Operand(bench, N, N, 6), int8Operand(bench, N, N, 7)];
  for (const shape of [tile(128, 128, 64, 2, 2), tile(128, 128, 64, 2, 2, 1, 8), tile(128, 256, 64, 2, 4)]) {
    const c = bench.empty(4 * N * N);
    try {
      const ms = await bench.time(int8Matmul(N, N, N, { ...shape, depth: 32 }), [...a8.buffers, ...b8.buffers, c]);
      let wrong = 0;
      for (const m of [0, 77, N - 1]) {
        const row = new Int32Array(await bench.read(c, 4 * m * N, 4 * N));
        for (const n of [0, 5, 333, N - 1]) {
          let sum = 0;
          for (let i = 0; i < N; i++) sum += a8.at(m, i) * b8.at(n, i);
          wrong = Math.max(wrong, Math.abs(sum - row[n]));
        }
      }
      report('i8', printTile(shape), ms, (2 * N ** 3) / ms / 1e9, wrong, 0.5);
    } catch (error) {
      console.log(`i8 ${printTile(shape)}: ${String(error).slice(0, 200)}`);
    }
    c.destroy();
  }
}
// four times the size, so that the weight does not fit the second-level cache
await benchVectors(bench, 4 * N, 2 * N, wanted);
process.exit(0);
