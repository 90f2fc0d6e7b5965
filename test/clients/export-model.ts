// Models as the clients tests need them: opened, quantized by the reference codec, written as GGUF.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Backend } from '../../src/backends/backend.ts';
import { measurePerplexity } from '../../src/evaluate/perplexity.ts';
import { encodeText } from '../../src/evaluate/tokens.ts';
import type { Format } from '../../src/formats/format.ts';
import { quantize } from '../../src/formats/quantize.ts';
import { openGguf } from '../../src/io/gguf.ts';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { openSafetensors } from '../../src/io/safetensors.ts';
import { parseTokenizer } from '../../src/io/tokenizer.ts';
import { type GgufExport, type GgufExportOptions, planGguf } from '../../src/models/gguf-export.ts';
import { ggufStorage } from '../../src/models/gguf-storage.ts';
import { loadDecoder } from '../../src/models/loaded.ts';
import { denseF32 } from '../../src/models/stack.ts';
import { type ModelWeights, openWeights } from '../../src/models/weights.ts';
import { elementCount } from '../../src/tensor/shape.ts';
import { type AnyTensor, qtensor } from '../../src/tensor/tensor.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The model that ships with the project. */
export const shipped = join(root, 'models/qwen3-6m');

/** Folder of a larger model, undefined where the zoo is not present. */
export function zooModel(name: string): string | undefined {
  const folder = join(process.env.SUBBYTE_ZOO ?? join(root, '../shared/zoo'), name);
  return existsSync(folder) ? folder : undefined;
}

export interface TestModel {
  weights: ModelWeights;
  tokenizer: GgufExportOptions['tokenizer'];
  /** Windows of 512 tokens of English text, without BOS. */
  windows: number[][];
  close(): Promise<void>;
}

export async function openModel(folder: string, windows = 2): Promise<TestModel> {
  const checkpoint = await openSafetensors(folder);
  const weights = await openWeights(checkpoint);
  const file = (name: string) => readFileSync(join(folder, name));
  const json = file('tokenizer.json');
  const { encode } = parseTokenizer(new Uint8Array(json), undefined, folder);
  const text = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');
  const ids = encodeText((t) => encode(t), text, 512 * windows);
  return {
    weights,
    tokenizer: {
      tokenizer: JSON.parse(json.toString()),
      tokenizerConfig: JSON.parse(file('tokenizer_config.json').toString()),
    },
    close: () => checkpoint.close(),
    windows: Array.from({ length: windows }, (_, w) => [...ids.slice(512 * w, 512 * (w + 1))]),
  };
}

/** Decoder linear layers in the format that `format` gives (or its fallback), embeddings and head in bf16. */
export async function exportGguf(
  model: TestModel,
  format: (name: string) => Format,
  path: string,
): Promise<GgufExport> {
  const { weights, tokenizer } = model;
  const wanted = (name: string): Format =>
    weights.role(name) === 'linear' ? format(name) : { kind: 'float', name: 'bf16' };
  const plan = planGguf({
    model: weights,
    format: wanted,
    load: async (name) => {
      const { format: stored } = ggufStorage(name, weights.role(name), weights.shape(name), wanted(name));
      return quantized(await weights.load(name), stored);
    },
    tokenizer,
    name: 'test',
  });
  await writeGguf({ path, metadata: plan.metadata, tensors: plan.tensors });
  return plan;
}

/** By the reference codec; floats stay as they are. */
export function quantized(tensor: AnyTensor, format: Format): AnyTensor {
  if (format.kind === 'float') return tensor;
  const cols = tensor.shape[tensor.shape.length - 1];
  return qtensor(tensor.shape, quantize(denseF32(tensor), elementCount(tensor.shape) / cols, cols, format));
}

/** Our perplexity of a GGUF file over these windows, weights in the format of the file, activations f32. */
export async function ourPerplexity(path: string, windows: number[][], backend: Backend): Promise<number> {
  const checkpoint = await openGguf(path);
  const decoder = await loadDecoder(await openWeights(checkpoint), backend);
  try {
    const { perplexity } = await measurePerplexity(decoder, Int32Array.from(windows.flat()), {
      window: windows[0].length,
    });
    return perplexity;
  } finally {
    decoder.dispose();
    await checkpoint.close();
  }
}
