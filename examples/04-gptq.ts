// Round a model to 3 bits by GPTQ and by rounding to nearest, and compare. Run: node examples/04-gptq.ts

import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { createSolver } from '../src/backends/wasm/solver.ts';
import { measureDivergence } from '../src/evaluate/divergence.ts';
import { encodeText } from '../src/evaluate/tokens.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { openCheckpoint } from '../src/io/open.ts';
import { readText } from '../src/io/text.ts';
import { loadTokenizer } from '../src/io/tokenizer.ts';
import { loadDecoder } from '../src/models/loaded.ts';
import { openWeights } from '../src/models/weights.ts';
import { loadCalibration } from '../src/quantize/calibration/windows.ts';
import { applyRecipe } from '../src/quantize/methods/apply-recipe.ts';
import { createRecipe } from '../src/quantize/recipe/recipe.ts';
import { openQuantizer } from '../src/quantize/tensor-quantizer.ts';

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const checkpoint = await openCheckpoint(here('../models/qwen3-6m'));
const weights = await openWeights(checkpoint);
const tokenizer = await loadTokenizer(checkpoint);
const tokens = encodeText((text) => tokenizer.encode(text), await readText(here('../models/val.txt.xz')), 2048);
const calibration = await loadCalibration(
  { source: here('../models/calibration.txt.xz'), samples: 8, window: 256, sampling: 'start', seed: 0 },
  tokenizer,
);

const backend = await createWasmBackend();
const solver = await createSolver();
const quantizer = await openQuantizer();
const format = parseFormat('int3-g64-asym');
const linear = weights.names().filter((name) => weights.role(name) === 'linear');
const solved = await applyRecipe({
  recipe: createRecipe({ steps: ['gptq'] }),
  weights,
  formats: new Map(linear.map((name) => [name, format])),
  quantizer,
  solver,
  calibration: {
    ...calibration,
    backend,
    folder: await mkdtemp(path.join(tmpdir(), 'subbyte-gptq-')),
    fingerprint: 'example',
    memory: 1e9,
  },
});
if (!solved) throw new Error('the recipe rounds to nearest only');

const layers = solved.reports.flatMap((block) => block.layers);
const mean = (of: (layer: (typeof layers)[number]) => number | undefined) =>
  layers.reduce((sum, layer) => sum + (of(layer) ?? 0), 0) / layers.length;
console.log(`mean output error of ${layers.length} layers, relative`);
console.log(`  rounded to nearest  ${mean((layer) => layer.plainError).toExponential(2)}`);
console.log(`  gptq                ${mean((layer) => layer.relativeError).toExponential(2)}`);

const original = await loadDecoder(weights, backend);
const candidate = await loadDecoder(solved.weights, backend);
const [r] = await measureDivergence(original, [{ model: candidate }], tokens, { window: 256 });
console.log(`perplexity ${r.originalPerplexity.toFixed(3)} → ${r.perplexity.toFixed(3)}, KL ${r.kl.toFixed(4)}`);
await solved.remove();
await checkpoint.close();
backend.dispose();
solver.dispose();
quantizer.dispose();
