// Products of few rows with packed weights on a GPU: bytes of the weight read a second, beside a copy. Every result is
// compared with float64 at sampled places in the same run. Ablations say what limits: `loads` reads the weight and adds its
// words, `no decoding` multiplies what has not been decoded. `subnormal` decodes E2M1 with two operations less, as numbers
// whose smallest are subnormal f16, which WGSL lets a device take for zero: its error says whether this one does.

import type { KernelSource } from '../src/backends/webgpu/kernel-source.ts';
import { vectorTile } from '../src/backends/webgpu/kernels/matmul-vector.ts';
import { vectorMatmul } from '../src/backends/webgpu/kernels/matmul-vector-source.ts';
import type { VectorTile } from '../src/backends/webgpu/kernels/vector-product.ts';
import { fourBitWeight, type VectorWeight } from '../src/backends/webgpu/kernels/vector-weight.ts';
import { partBytes } from '../src/formats/empty.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { copyRate } from './webgpu-copy.ts';
import type { Bench } from './webgpu-gpu.ts';
import { int4Operand, mxfp4Operand, nvfp4Operand, type Operand, sumError } from './webgpu-operands.ts';

const operands: Readonly<Record<string, (bench: Bench, rows: number, k: number) => Operand>> = {
  mxfp4: (bench, rows, k) => mxfp4Operand(bench, rows, k, 8),
  nvfp4: (bench, rows, k) => nvfp4Operand(bench, rows, k, 9),
  'int4-g128': (bench, rows, k) => int4Operand(bench, rows, k, 10, false),
};

interface Ablation {
  readonly label: string;
  readonly weight?: VectorWeight;
  /** The result is the product all the same. */
  readonly exact?: boolean;
  /** Bytes of w that are read, when not all. */
  readonly bytes?: number;
  change?(kernel: KernelSource): KernelSource;
}

/** Times weights of [N, K] whose lines, `matvec FORMAT …`, are wanted; K a multiple of 128. */
export async function benchVectors(
  bench: Bench,
  N: number,
  K: number,
  wanted: (name: string) => boolean,
): Promise<void> {
  if (!['mxfp4', 'nvfp4', 'int4-g128', 'copy'].some((name) => wanted(`matvec ${name}`))) return;
  const copied = await copyRate(bench, 2 ** 30);
  for (const [name, make] of Object.entries(operands)) {
    if (!wanted(`matvec ${name}`)) continue;
    const w = make(bench, N, K);
    const format = parseFormat(name);
    const [codes, scales] = partBytes(format, N, K);
    const run = async (M: number, tile: VectorTile, ablation?: Ablation) => {
      const a = Float32Array.from({ length: M * K }, (_, i) => Math.sin(i * 0.37));
      const [input, y] = [bench.buffer(a), bench.empty(4 * M * N)];
      const line = `matvec ${name} ${M} × ${N} × ${K}, ${tile.rows} rows, ${tile.threads} threads, ${tile.lanes} lanes, segments of ${tile.segment}${ablation ? `, ${ablation.label}` : ''}`;
      try {
        const kernel = vectorMatmul({ M, N, K, format, tile, weight: ablation?.weight });
        const ms = await bench.time(ablation?.change?.(kernel) ?? kernel, [input, ...w.buffers, y]);
        const rate = (ablation?.bytes ?? codes + scales) / ms / 1e6;
        const error = ablation && !ablation.exact ? undefined : await worstError(bench, y, a, w, M, N, K);
        const found = error === undefined ? '' : `  error ${error.toExponential(1)}${error < 1e-4 ? '' : '  WRONG'}`;
        console.log(
          `${line}: ${(1000 * ms).toFixed(1)} µs  ${rate.toFixed(0)} GB/s, ${(rate / copied).toFixed(2)} of copy${found}`,
        );
      } catch (error) {
        console.log(`${line}: ${String(error).slice(0, 200)}`);
      } finally {
        for (const buffer of [input, y]) buffer.destroy();
      }
    };
    const chosen = (M: number) => vectorTile({ M, N, K, batch: 1 }, 32, bench.gpu);
    const usual = chosen(1);
    for (const M of [1, 2, 4, 8]) await run(M, chosen(M));
    for (const rows of [2, 4])
      for (const threads of [256, 512, 1024])
        for (const segment of [32, 64, 128]) await run(1, { ...usual, rows, threads, segment });
    const weight = loads(fourBitWeight(format, K, { codes: 'codes', scales: 'scales', tensorScale: 0 }), K);
    await run(1, usual, { label: 'no decoding', change: undecoded });
    if (name !== 'int4-g128') await run(1, usual, { label: 'subnormal', change: subnormal, exact: true });
    await run(1, usual, { label: 'loads', weight, bytes: codes });
    for (const buffer of w.buffers) buffer.destroy();
  }
}

/** Pairs are whatever their bits are. */
function undecoded({ code, workgroups }: KernelSource): KernelSource {
  const body = /(fn four_bit_pair\((\w+): u32(?:, (\w+): u32)?\) -> vec2<f32> \{)[^}]*\}/;
  return {
    workgroups,
    code: code.replace(
      body,
      (_, head, low, high = low) => `${head} return bitcast<vec2<f32>>(vec2<u32>(${low}, ${high})); }`,
    ),
  };
}

/** Codes in the low bits of exponent and mantissa: 2^-14 times the numbers. */
function subnormal({ code, workgroups }: KernelSource): KernelSource {
  const body = /(fn four_bit_pair\(magnitude: u32, sign: u32\) -> vec2<f32> \{)[^}]*\}/;
  const bits = '(magnitude & 0x0e000e00u) | (sign & 0x80008000u)';
  return {
    workgroups,
    code: code
      .replace(body, (_, head) => `${head} return vec2<f32>(bitcast<vec2<f16>>(${bits})); }`)
      .replaceAll(' * 0.25 * scale', ' * 16384.0 * scale'),
  };
}

/** Codes are read and added; nothing is multiplied, scales are not read, and of a nothing but copies into workgroup memory. */
const loads = (weight: VectorWeight, K: number): VectorWeight => ({
  ...weight,
  step: ({ rows, number, sum }) =>
    Array.from(
      { length: rows },
      // an unused array would have no binding
      (_, r) => `_ = &scales; let codes${r} = codes[row${r} * ${K / 32}u + ${number}];
      ${sum(0, r)} += f32(codes${r}.x ^ codes${r}.y ^ codes${r}.z ^ codes${r}.w);`,
    ).join('\n      '),
});

/** Largest difference from float64, relative to the root of the sum of squares of the products. */
async function worstError(
  bench: Bench,
  y: GPUBuffer,
  a: Float32Array,
  w: Operand,
  M: number,
  N: number,
  K: number,
): Promise<number> {
  const found = new Float32Array(await bench.read(y, 0, 4 * M * N));
  let worst = 0;
  for (let m = 0; m < M; m++)
    for (const n of [0, 1, 1001 % N, N - 1])
      worst = Math.max(
        worst,
        sumError(found[m * N + n], K, (k) => a[m * K + k] * w.at(n, k)),
      );
  return worst;
}
