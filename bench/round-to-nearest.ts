// Rounding to nearest by the WASM kernels, in GB/s of bf16 input, on one thread and on all: the formats of every family
// that has kernels, Gaussian matrices of 1024 × 4096 and 4096 × 4096.
//
// A figure is the smallest of several runs of the whole call: copying in, the kernel, copying out and the allocation
// of the result. `wall` is elapsed time; `CPU` is processor time of the process on one thread, which other programs on
// the machine disturb less. Correctness in the same run: all bytes of the smaller matrix, of both quantizers, against the
// scalar reference codec.

import { availableParallelism } from 'node:os';
import { createWasmQuantizer, type StoredMatrix, type WasmQuantizer } from '../src/backends/wasm/quantizer.ts';
import { renderTable } from '../src/cli/table.ts';
import { bf16ToF32, f32ToBf16 } from '../src/formats/bits.ts';
import type { Format } from '../src/formats/format.ts';
import { quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { gaussianMatrix } from '../src/quantize/gaussian.ts';
import type { BenchOptions } from './run.ts';

const families = [
  ...['int8-channel', 'int8-g128-asym', 'int6-g128', 'int4-g128', 'int4-g128-asym', 'int4-g128-half', 'int4-g64-asymf'],
  ...['mxfp4', 'mxfp6-e2m3', 'mxfp6-e3m2', 'mxfp8-e4m3', 'mxfp8-e5m2', 'mxint8'],
  ...['nvfp4', 'nvfp4-ct', 'nvfp4-2d', 'nvint4'],
  ...['fp8-e4m3-channel', 'fp8-e4m3-tensor', 'fp8-e4m3-tile128x128', 'fp8-e5m2-channel'],
];
const cols = 4096;

interface Row {
  format: string;
  rows: number;
  /** GB/s of bf16 input: one thread by elapsed and by processor time, all threads by elapsed time. */
  oneThread: number;
  oneThreadCpu: number;
  allThreads: number;
  checked: string;
}

export async function run(options: BenchOptions): Promise<Row[]> {
  const threads = availableParallelism();
  const [one, all] = [await createWasmQuantizer({ threads: 1 }), await createWasmQuantizer({ threads })];
  const results: Row[] = [];
  for (const rows of options.quick ? [1024] : [1024, 4096]) {
    const words = f32ToBf16(gaussianMatrix(rows, cols, rows));
    const matrix: StoredMatrix = { bytes: new Uint8Array(words.buffer), dtype: 'bf16', rows, cols };
    const values = bf16ToF32(words);
    for (const name of families) {
      const format = parseFormat(name);
      const [alone, together] = measure([one, all], matrix, format, options.quick ? 3 : 9);
      const speed = (seconds: number) => matrix.bytes.length / seconds / 1e9;
      results.push({
        format: name,
        rows,
        oneThread: speed(alone.wall),
        oneThreadCpu: speed(alone.cpu),
        allThreads: speed(together.wall),
        checked: rows > 1024 ? 'smaller matrix' : check([one, all], matrix, values, format),
      });
    }
  }
  one.dispose();
  all.dispose();
  console.error(
    renderTable(
      ['format', 'matrix', '1 thread, wall', '1 thread, CPU', `${threads} threads, wall`, 'checked'].map(
        (title, i) => ({
          title,
          align: i > 1 && i < 5 ? 'right' : 'left',
        }),
      ),
      results.map((r) => [
        r.format,
        `${r.rows} × ${cols}`,
        ...[r.oneThread, r.oneThreadCpu, r.allThreads].map((x) => x.toFixed(2)),
        r.checked,
      ]),
    ),
  );
  return results;
}

/** Smallest elapsed and processor seconds of each quantizer, measured by turns. */
function measure(quantizers: readonly WasmQuantizer[], matrix: StoredMatrix, format: Format, repeats: number) {
  const best = quantizers.map(() => ({ wall: Infinity, cpu: Infinity }));
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const [i, quantizer] of quantizers.entries()) {
      const cpu = process.cpuUsage();
      const started = performance.now();
      quantizer.quantize(matrix, format);
      const wall = (performance.now() - started) / 1e3;
      const { user, system } = process.cpuUsage(cpu);
      best[i] = { wall: Math.min(best[i].wall, wall), cpu: Math.min(best[i].cpu, (user + system) / 1e6) };
    }
  }
  return best;
}

function check(quantizers: readonly WasmQuantizer[], matrix: StoredMatrix, values: Float32Array, format: Format) {
  const meant = quantize(values, matrix.rows, matrix.cols, format);
  for (const quantizer of quantizers) {
    const got = quantizer.quantize(matrix, format);
    if (got.tensorScale !== meant.tensorScale) return 'tensor scale differs';
    for (const part of ['scales', 'zeroPoints', 'codes'] as const) {
      const [a, b] = [got[part], meant[part]];
      if (a && b ? Buffer.compare(a, b) !== 0 : a !== b) return `${part} differ`;
    }
  }
  return 'equal';
}
