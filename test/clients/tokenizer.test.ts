// llama.cpp splits text into the tokens that tokenizer.json gives, from the tokenizer inside our GGUF files: the model
// that ships here, and small tokenizers of the other kinds that we write.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { parseTokenizer } from '../../src/io/tokenizer.ts';
import { parseConfig } from '../../src/models/config.ts';
import { planGguf } from '../../src/models/gguf-export.ts';
import { expectedTensors } from '../../src/models/tensors.ts';
import { tensorF32 } from '../../src/tensor/tensor.ts';
import { exportGguf, openModel, shipped, type TestModel } from './export-model.ts';
import { runLlama } from './llama-cpp.ts';
import type { LlamaAnswer } from './llama-cpp-child.ts';
import { byteLevelTokenizer, sentencePieceTokenizer, type train } from './small-tokenizers.ts';

const texts = [
  "The quick brown fox's 123 jumps over 1234567 lazy dogs, isn't it?",
  '  two spaces,\ttabs\n\n\nand blank lines  \n',
  'Ünïcödé – “quotes”, 你好世界, привет мир, 🙂🚀 €100',
  'function f(x) { return x ** 2 + 0.5e-3; } // CamelCase snake_case',
  "I’ll WE’VE they'D  \r\n end",
];
const corpus = texts.join(' ') + ' the quick brown fox jumps over the lazy dog and the cat '.repeat(3);
const llama3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const qwen2 = llama3.replace('{1,3}', '');

const kinds = {
  'Llama 3 pattern': byteLevelTokenizer(corpus, llama3, true),
  'Qwen 2 pattern': byteLevelTokenizer(corpus, qwen2, false),
  'GPT-2 pattern': byteLevelTokenizer(corpus, undefined, false),
  'SentencePiece with byte fallback': sentencePieceTokenizer(corpus),
};

let folder: string;
let model: TestModel;
let answers: LlamaAnswer[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-tokenizer-'));
  model = await openModel(shipped, 1);
  const file = (i: number) => join(folder, `${i}.gguf`);
  await exportGguf(model, () => ({ kind: 'float', name: 'bf16' }), file(0));
  for (const [i, tokenizer] of Object.values(kinds).entries()) await writeZeros(tokenizer, file(i + 1));
  answers = await runLlama([0, 1, 2, 3, 4].map((i) => ({ file: file(i), texts })));
}, 180_000);
afterAll(async () => {
  await model?.close();
  await rm(folder, { recursive: true, force: true });
});

/** The smallest model around a tokenizer. */
async function writeZeros(tokenizer: ReturnType<typeof train>, path: string): Promise<void> {
  const size = { hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 1 };
  const vocab_size = Object.keys(tokenizer.model.vocab).length + 3; // ids without a token
  const config = parseConfig({ model_type: 'llama', ...size, vocab_size });
  const tensors = expectedTensors(config);
  const shape = (name: string) => tensors.get(name)?.shape ?? [];
  const plan = planGguf({
    model: { config, names: () => [...tensors.keys()], shape, role: (name) => tensors.get(name)?.role ?? 'norm' },
    format: () => ({ kind: 'float', name: 'f32' }),
    load: async (name) => tensorF32(shape(name), new Float32Array(shape(name).reduce((a, b) => a * b, 1))),
    tokenizer: { tokenizer },
    name: 'zeros',
  });
  await writeGguf({ path, metadata: plan.metadata, tensors: plan.tensors });
}

it('models/qwen3-6m: llama.cpp gives the ids of tokenizer.json', () => {
  const json = new TextEncoder().encode(JSON.stringify(model.tokenizer.tokenizer));
  const { encode } = parseTokenizer(json);
  expect(answers[0].tokens).toEqual(texts.map((text) => [...encode(text)]));
  expect(answers[0].detokenized).toEqual(texts);
});

describe.each(Object.entries(kinds))('%s', (name, tokenizer) => {
  it('llama.cpp gives the ids of tokenizer.json', () => {
    const { encode } = parseTokenizer(new TextEncoder().encode(JSON.stringify(tokenizer)));
    const got = answers[1 + Object.keys(kinds).indexOf(name)].tokens;
    const expected = texts.map((text) => [...encode(text)]);
    expect(expected.flat().length).toBeLessThan(texts.join('').length); // merges happen
    expect(got).toEqual(expected);
  });
});
