// Round a model's weights in memory, without writing a file, and measure what it costs. Run: node examples/02-quantize-in-memory.ts

import { fileURLToPath } from 'node:url';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { measureDivergence } from '../src/evaluate/divergence.ts';
import { encodeText } from '../src/evaluate/tokens.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { openCheckpoint } from '../src/io/open.ts';
import { readText } from '../src/io/text.ts';
import { loadTokenizer } from '../src/io/tokenizer.ts';
import { loadDecoder } from '../src/models/loaded.ts';
import { mapWeights, openWeights } from '../src/models/weights.ts';
import { openQuantizer } from '../src/quantize/tensor-quantizer.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const checkpoint = await openCheckpoint(here('../models/qwen3-6m'));
const weights = await openWeights(checkpoint);
const tokenizer = await loadTokenizer(checkpoint);
const tokens = encodeText((text) => tokenizer.encode(text), await readText(here('../models/val.txt.xz')), 1024);

const backend = await createWasmBackend();
const quantizer = await openQuantizer();
const original = await loadDecoder(weights, backend);

const formats = ['int8-channel', 'mxfp4', 'nvfp4', 'int3-g64-asym'];
const candidates = [];
for (const [stream, name] of formats.entries()) {
  const format = parseFormat(name);
  const rounded = mapWeights(weights, (tensor, value) =>
    weights.role(tensor) === 'linear' ? quantizer.quantize(value, format, { seed: 0, stream, name: tensor }) : value,
  );
  candidates.push({ model: await loadDecoder(rounded, backend) });
}

const results = await measureDivergence(original, candidates, tokens, { window: 256 });
console.log(`original       perplexity ${results[0].originalPerplexity.toFixed(3)}`);
for (const [i, r] of results.entries()) {
  const figures = `perplexity ${r.perplexity.toFixed(3)}  KL ${r.kl.toFixed(4)}  top-1 ${(100 * r.top1).toFixed(1)} %`;
  console.log(`${formats[i].padEnd(14)} ${figures}`);
}
quantizer.dispose();
backend.dispose();
await checkpoint.close();
