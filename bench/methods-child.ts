// One row of the comparison of methods, in a process of its own, so that its peak memory is its own: solves the model,
// then measures it on every text beside the original. Prints one JSON line.

import { resourceUsage } from 'node:process';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { createSolver } from '../src/backends/wasm/solver.ts';
import { parseTarget } from '../src/cli/format-target.ts';
import { measureDivergence } from '../src/evaluate/divergence.ts';
import { encodeText } from '../src/evaluate/tokens.ts';
import type { Format } from '../src/formats/format.ts';
import { formatBytes } from '../src/formats/registry.ts';
import { openCheckpoint } from '../src/io/open.ts';
import { readText } from '../src/io/text.ts';
import { loadTokenizer } from '../src/io/tokenizer.ts';
import { ggufStorage } from '../src/models/gguf-storage.ts';
import { loadDecoder } from '../src/models/loaded.ts';
import { mapWeights, openWeights } from '../src/models/weights.ts';
import { loadCalibration } from '../src/quantize/calibration/windows.ts';
import { applyRecipe } from '../src/quantize/methods/apply-recipe.ts';
import { transformModel } from '../src/quantize/methods/transform-model.ts';
import { planQuantization } from '../src/quantize/plan.ts';
import { createRecipe, needsText } from '../src/quantize/recipe/recipe.ts';
import { keptAsStored } from '../src/quantize/solved-model.ts';
import { tensorStreams } from '../src/quantize/streams.ts';
import { matrixShape, openQuantizer } from '../src/quantize/tensor-quantizer.ts';
import type { Cell } from './methods-cells.ts';

export interface CellRequest {
  model: string;
  calib: string;
  samples: number;
  texts: Record<string, string>;
  tokens: number;
  threads: number;
  folder: string;
  cell: Cell;
}

export interface CellResult {
  table: string;
  format: string;
  method: string;
  bitsPerWeight: number;
  perplexity: Record<string, number>;
  original: Record<string, number>;
  /** On the first text. */
  kl: number;
  klError: number;
  top1: number;
  seconds: number;
  plannedSeconds?: number;
  peakBytes: number;
  plannedBytes?: number;
}

const request = JSON.parse(process.argv[2]) as CellRequest;
const { cell, threads } = request;
const recipe = createRecipe(cell.recipe);
const checkpoint = await openCheckpoint(request.model);
const source = await openWeights(checkpoint);
const tokenizer = await loadTokenizer(checkpoint);
const backend = await createWasmBackend({ threads });
const solver = await createSolver({ threads });
const quantizer = await openQuantizer({ threads });
const { weights: transformed } = await transformModel(source, recipe);
const target = parseTarget(cell.format, transformed);
const { formats: asked } = planQuantization(transformed, { label: cell.format, seed: 0, ...target });
const formats = new Map<string, Format>();
let bits = 0;
let count = 0;
for (const [name, format] of asked) {
  const shape = transformed.shape(name);
  const stored = format.kind === 'ggml' ? ggufStorage(name, transformed.role(name), shape, format).format : format;
  const { rows, cols } = matrixShape(shape);
  bits += 8 * formatBytes(stored, rows, cols);
  count += rows * cols;
  if (stored.kind !== 'float') formats.set(name, stored);
}
const weights = keptAsStored(transformed, source, formats);

const start = performance.now();
const text = { source: request.calib, samples: request.samples, window: 512, sampling: 'start', seed: 0 } as const;
const applied = await applyRecipe({
  recipe,
  weights,
  formats,
  quantizer,
  solver,
  calibration: needsText(recipe)
    ? {
        ids: (await loadCalibration(text, tokenizer)).ids,
        window: text.window,
        backend,
        folder: request.folder,
        fingerprint: 'bench',
        memory: 8e9,
      }
    : undefined,
});
const streams = tensorStreams(weights);
const rounded = mapWeights(applied?.weights ?? weights, (name, tensor) => {
  const format = formats.get(name);
  return format ? quantizer.quantize(tensor, format, { seed: 0, stream: streams.get(name) ?? 0, name }) : tensor;
});
const candidate = await loadDecoder(rounded, backend);
await applied?.remove();
const seconds = (performance.now() - start) / 1000;
const peakBytes = resourceUsage().maxRSS * 1024;

const original = await loadDecoder(source, backend);
const result: CellResult = {
  table: cell.table,
  format: cell.format,
  method: cell.method,
  bitsPerWeight: count > 0 ? bits / count : 16,
  perplexity: {},
  original: {},
  kl: 0,
  klError: 0,
  top1: 0,
  seconds,
  plannedSeconds: applied?.plan?.seconds,
  peakBytes,
  plannedBytes: applied?.plan?.peakBytes,
};
for (const [i, [name, file]] of Object.entries(request.texts).entries()) {
  const ids = encodeText((part) => tokenizer.encode(part), await readText(file), request.tokens);
  const [r] = await measureDivergence(original, [{ model: candidate }], ids, { window: 512 });
  result.perplexity[name] = r.perplexity;
  result.original[name] = r.originalPerplexity;
  if (i === 0) Object.assign(result, { kl: r.kl, klError: r.klError, top1: r.top1 });
}
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
