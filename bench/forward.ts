// Forward pass of a decoder on the CPU: MXFP4 weights and activations against f32 weights, both ours, in one run.
//
// Weights are random (init.ts); the linear layers of the blocks are rounded to MXFP4 ahead of time and their inputs in
// every pass, embedding and head stay f32 on both sides. A pass computes the loss of every position of the batch. The
// contenders take turns, after one turn each to warm up; rates are those of the fastest turn, since other work on the
// machine only ever slows a turn down, the ratio is the median over the pairs of neighbouring turns. Checked in the run: the mean loss of the MXFP4 model against the same
// model with its rounded weights and inputs multiplied in f32.
//
// `npm run bench -- forward [--quick]`.

import { availableParallelism } from 'node:os';
import { createWasmBackend, type WasmBackend } from '../src/backends/wasm/backend.ts';
import { renderTable } from '../src/cli/table.ts';
import { dequantize, quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import type { Value } from '../src/graph/graph.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { dequantize as dequantizeOp, quantize as quantizeOp } from '../src/graph/ops/quantize.ts';
import { parseConfig } from '../src/models/config.ts';
import { buildDecoder, type DecoderOptions } from '../src/models/decoder.ts';
import { type LoadedDecoder, loadDecoder } from '../src/models/loaded.ts';
import { type ModelWeights, mapWeights } from '../src/models/weights.ts';
import { qtensor, type Tensor, tensorF32 } from '../src/tensor/tensor.ts';
import { createConfig } from '../src/train/config/config.ts';
import { newModelConfig, newWeights } from '../src/train/init.ts';
import type { BenchOptions } from './run.ts';

interface Shape {
  name: string;
  layers: number;
  hiddenSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  mlpSize: number;
  vocabSize: number;
}

interface Model extends Shape {
  /** B × T to measure. */
  windows: readonly (readonly [number, number])[];
}

const shapes: readonly Model[] = [
  {
    ...{
      name: 'qwen3-6m',
      layers: 7,
      hiddenSize: 256,
      heads: 4,
      kvHeads: 2,
      headDim: 80,
      mlpSize: 704,
      vocabSize: 2048,
    },
    windows: [
      [4, 256],
      [16, 64],
    ],
  },
  {
    ...{ name: '30m', layers: 6, hiddenSize: 640, heads: 5, kvHeads: 5, headDim: 128, mlpSize: 1792, vocabSize: 4096 },
    windows: [[4, 256]],
  },
  {
    ...{
      name: '100m',
      layers: 8,
      hiddenSize: 1024,
      heads: 8,
      kvHeads: 8,
      headDim: 128,
      mlpSize: 2816,
      vocabSize: 8192,
    },
    windows: [[1, 512]],
  },
];
const format = parseFormat('mxfp4');

export interface ForwardRow {
  model: string;
  threads: number;
  /** B × T */
  tokens: string;
  /** Tokens a second. */
  f32: number;
  mxfp4: number;
  /** Median over the pairs of turns. */
  ratio: number;
  /** Mean loss on packed operands minus that of the same values in f32. */
  difference: number;
}

function modelOf({ name: _, windows: __, ...sizes }: Model, tokens: number): Promise<ModelWeights> {
  const { model } = createConfig({
    model: { family: 'qwen3', ...sizes, tokenizer: 'none', tiedEmbeddings: true },
    data: { train: 'none' },
  });
  const hfConfig = newModelConfig(model, { vocabSize: sizes.vocabSize, maxPositions: tokens });
  parseConfig(hfConfig);
  return newWeights(hfConfig, { std: 0.02, residualScale: true, seed: 1 });
}

/** The linear layers' weights rounded: packed, or their values in f32. */
const rounded = (weights: ModelWeights, pack: boolean) =>
  mapWeights(weights, (name, tensor) => {
    if (weights.role(name) !== 'linear') return tensor;
    const [rows, columns] = tensor.shape;
    const q = quantize((tensor as Tensor).data as Float32Array, rows, columns, format);
    return pack ? qtensor(tensor.shape, q) : tensorF32(tensor.shape, dequantize(q));
  });

/** x rounded as the packed product sees it, multiplied in f32. */
const productOfValues = () => (x: Value, w: Value) =>
  matmul(dequantizeOp(quantizeOp(x, format)), w, { transposeB: true });

async function open(
  backend: WasmBackend,
  weights: ModelWeights,
  more: Partial<DecoderOptions>,
  at: readonly [number, number],
) {
  const model: LoadedDecoder = await loadDecoder(weights, backend);
  const [batch, tokens] = at;
  const graph = buildDecoder(model.config, model.types, { batch, tokens, mode: 'nll', ...more });
  const executable = await backend.compile(graph, { params: model.buffers });
  const ids = Int32Array.from(
    { length: batch * tokens },
    (_, i) => (i * 7919 + 13 * (i >> 5)) % model.config.vocabSize,
  );
  executable.write('ids', ids);
  executable.write('targets', ids);
  return {
    turn() {
      const began = performance.now();
      executable.run();
      return performance.now() - began;
    },
    async loss() {
      const { data } = await executable.read('nll');
      return Array.from(data).reduce((sum, v) => sum + v, 0) / data.length;
    },
    dispose() {
      executable.dispose();
      model.dispose();
    },
  };
}

async function measure(
  shape: Model,
  threads: number,
  at: readonly [number, number],
  turns: number,
): Promise<ForwardRow> {
  const backend = await createWasmBackend({ threads });
  const weights = await modelOf(shape, at[1]);
  const activation = () => ({ format });
  const plain = await open(backend, weights, {}, at);
  const packed = await open(backend, await rounded(weights, true), { activation }, at);
  const values = await open(backend, await rounded(weights, false), { product: productOfValues }, at);
  for (const contender of [plain, packed]) contender.turn();
  const times = Array.from({ length: turns }, () => [plain.turn(), packed.turn()]);
  const best = [0, 1].map((i) => Math.min(...times.map((pair) => pair[i])));
  const ratios = times.map(([a, b]) => a / b).sort((a, b) => a - b);
  values.turn();
  const difference = (await packed.loss()) - (await values.loss());
  if (!(Math.abs(difference) < 1e-4)) throw new Error(`${shape.name}: packed and f32 losses differ by ${difference}`);
  for (const contender of [plain, packed, values]) contender.dispose();
  backend.dispose();
  const [f32, mxfp4] = best.map((time) => (1000 * at[0] * at[1]) / time);
  return { model: shape.name, threads, tokens: at.join(' × '), f32, mxfp4, ratio: ratios[turns >> 1], difference };
}

export async function run({ quick }: BenchOptions): Promise<ForwardRow[]> {
  const rows: ForwardRow[] = [];
  const cases = shapes.flatMap((shape) => shape.windows.map((at) => [shape, at] as const));
  for (const [shape, at] of quick ? cases.slice(0, 1) : cases)
    for (const threads of new Set([1, availableParallelism()]))
      rows.push(await measure(shape, threads, at, quick ? 3 : 15));
  console.error(
    renderTable(
      ['model', 'threads', 'B × T', 'f32 tok/s', 'mxfp4 tok/s', 'ratio', 'Δ loss'].map((title, i) => ({
        title,
        align: i === 0 ? 'left' : 'right',
      })),
      rows.map((r) => [
        ...[r.model, String(r.threads), r.tokens, r.f32.toFixed(0), r.mxfp4.toFixed(0)],
        ...[r.ratio.toFixed(2), r.difference.toExponential(1)],
      ]),
    ),
  );
  return rows;
}
