// GGUF quantizers against llama.cpp's own (ggml_quantize_chunk through koffi), one core each, on the same rows in
// turns, bytes compared in the run. Figures: million weights a second. The rows are timed in slices of about a
// millisecond; a figure is the sum over the slices of each slice's best turn, the same on both sides, because
// other work on the machine interrupts anything longer.
//
// `npm run bench -- ggml`, or `node bench/ggml-quantizers.ts [--quick] [--importance]`; the latter gives both sides the
// same importance weights.

import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createGgmlQuantizer } from '../src/backends/wasm/ggml-quantizer.ts';
import type { GgmlTypeName } from '../src/formats/format.ts';
import { ggmlRowBytes, ggmlType } from '../src/formats/ggml/types.ts';

export interface QuantizerFigure {
  type: GgmlTypeName;
  /** Million weights a second on one core. */
  ours: number;
  ggml: number;
  ratio: number;
  /** The same from bf16 storage, which ggml's entry does not take. */
  fromBf16: number;
  /** Ratio that the project aims at; undefined: none. */
  aim: number | undefined;
  equalBytes: boolean;
}

const aims: [GgmlTypeName, number | undefined][] = [
  ['q4_0', 1],
  ['q8_0', 1],
  ['ggml-mxfp4', 1],
  ['ggml-nvfp4', 3],
  ['q4_k', 3],
  ['q5_k', 3],
  ['q6_k', 3],
  ['iq4_xs', 3],
  ['iq4_nl', undefined],
  ['q2_k', undefined],
  ['q3_k', undefined],
  ['q4_1', undefined],
  ['q5_0', undefined],
  ['q5_1', undefined],
];

/** Standard normal numbers times 0.02, as bf16-free f32; deterministic. */
function gaussianRows(count: number): Float32Array {
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from(
    { length: count },
    () => 0.02 * Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random()),
  );
}

async function loadGgml() {
  const { default: koffi } = await import('koffi');
  const entry = fileURLToPath(import.meta.resolve('@node-llama-cpp/linux-x64'));
  const path = join(dirname(entry), '../bins/linux-x64/libggml-base.so');
  const chunk = koffi
    .load(path)
    .func('size_t ggml_quantize_chunk(int, const float *, void *, int64_t, int64_t, int64_t, const float *)');
  return (
    type: GgmlTypeName,
    x: Float32Array,
    rows: number,
    cols: number,
    out: Uint8Array,
    importance?: Float32Array,
  ) => chunk(ggmlType(type).id, x, out, 0, rows, cols, importance ?? null);
}

const milliseconds = (work: () => void) => {
  const start = performance.now();
  work();
  return performance.now() - start;
};

export async function run({ quick = false, json = false, weighted = false } = {}): Promise<QuantizerFigure[]> {
  const ggml = await loadGgml();
  const quantizer = await createGgmlQuantizer({ threads: 1 });
  const cols = 4096;
  const allRows = 1024;
  const x = gaussianRows(allRows * cols);
  const importance = weighted ? gaussianRows(cols).map((v) => v * v) : undefined;
  const words = new Uint32Array(x.buffer);
  const brain = Uint16Array.from(words, (w) => w >>> 16);
  const f32 = { dtype: 'f32', bytes: new Uint8Array(x.buffer) } as const;
  const bf16 = { dtype: 'bf16', bytes: new Uint8Array(brain.buffer) } as const;
  const figures: QuantizerFigure[] = [];
  for (const [type, aim] of aims) {
    const bytes = ggmlRowBytes(type, cols);
    const ours = new Uint8Array(allRows * bytes);
    const theirs = new Uint8Array(allRows * bytes);
    const spare = new Uint8Array(allRows * bytes);
    const rows = quick ? 64 : allRows;
    // Searching types take a hundred times as long.
    const slice = aim === 1 || type === 'ggml-nvfp4' ? 16 : 1;
    const sliceBudget = (8000 * slice) / allRows;
    const sums = [0, 0, 0];
    for (let row = 0; row < rows; row += slice) {
      const part = x.subarray(row * cols, (row + slice) * cols);
      const [to, reference] = [ours, theirs].map((b) => b.subarray(row * bytes, (row + slice) * bytes));
      const best = [Infinity, Infinity, Infinity];
      let spent = 0;
      for (let turn = 0; turn < 20 && (turn < 4 || spent < sliceBudget); turn++) {
        const times = [
          milliseconds(() => quantizer.quantize(type, f32, cols, row, slice, importance, to)),
          milliseconds(() => ggml(type, part, slice, cols, reference, importance)),
          milliseconds(() => quantizer.quantize(type, bf16, cols, row, slice, importance, spare)),
        ];
        for (const i of [0, 1, 2]) best[i] = Math.min(best[i], times[i]);
        spent += times[0] + times[1];
      }
      for (const i of [0, 1, 2]) sums[i] += best[i];
    }
    const rate = (ms: number) => (rows * cols) / ms / 1000;
    const used = rows * bytes;
    const equalBytes = Buffer.compare(ours.subarray(0, used), theirs.subarray(0, used)) === 0;
    const figure = { type, ours: rate(sums[0]), ggml: rate(sums[1]), ratio: sums[1] / sums[0] };
    figures.push({ ...figure, fromBf16: rate(sums[2]), aim, equalBytes });
    if (!json) {
      const verdict = equalBytes ? 'bytes equal' : 'BYTES DIFFER';
      const cells = [figure.ours, figure.ggml, rate(sums[2])].map((v) => v.toFixed(0).padStart(8)).join('');
      console.log(
        `${type.padEnd(11)}${cells}  ratio ${figure.ratio.toFixed(2).padStart(6)} (aim ${aim ?? '-'})  ${verdict}`,
      );
    }
  }
  quantizer.dispose();
  return figures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(
    `${cpus()[0]?.model}, Node ${process.versions.node}; M weights/s on one core: ours, ggml, ours from bf16`,
  );
  await run({ quick: process.argv.includes('--quick'), weighted: process.argv.includes('--importance') });
  process.exit(0);
}
