// subbyte generate: text with a KV cache and sampling, printed as it is made.

import { Option } from 'commander';
import { generate } from '../evaluate/generate.ts';
import { loadTokenizer } from '../io/tokenizer.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import { type CommandDefinition, parseCount, parseNumber } from './command.ts';
import { deviceOption, openBackend } from './device.ts';
import { kvLine, kvOption, reportKv } from './kv-option.ts';
import { loadOn, openModel } from './open-model.ts';
import { humanBytes } from './progress.ts';

interface GenerateCommandOptions {
  prompt: string;
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  device: string;
  kv?: KvChoice;
}

const definition: CommandDefinition = {
  name: 'generate',
  summary: 'continue a text with the model',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    new Option('-p, --prompt <text>', 'text to continue').makeOptionMandatory(),
    new Option('-n, --max-tokens <n>', 'new tokens at most').default(128).argParser(parseCount),
    new Option('--temperature <t>', '0 takes the most likely token').default(0.8).argParser(parseNumber),
    new Option('--top-k <n>', 'draw from the n most likely tokens; 0: all').default(40).argParser(parseCount),
    new Option('--top-p <p>', 'draw from the smallest set with this probability').default(0.95).argParser(parseNumber),
    kvOption(),
    deviceOption(),
  ],
  examples: [
    'subbyte generate models/qwen3-6m --prompt "The index is"',
    'subbyte generate out/model.gguf -p "Once" -n 50 --temperature 0',
    'subbyte generate out/model.gguf -p "Once" --kv k=int4-channel-g32,v=int4-g32,residual=64',
  ],
  async run(session, [reference], raw) {
    const options = raw as unknown as GenerateCommandOptions;
    const model = await openModel(session, reference);
    const cache = reportKv(model.weights.config, options.kv);
    const tokenizer = await loadTokenizer(model.checkpoint);
    const backend = await openBackend(session, options.device);
    try {
      const loaded = await loadOn(session, model.weights, backend);
      const prompt = [...tokenizer.encode(options.prompt)];
      const live = !session.options.json;
      const made: number[] = [];
      let printed = 0;
      const result = await generate(loaded, prompt, {
        maxTokens: options.maxTokens,
        temperature: options.temperature,
        topK: options.topK || undefined,
        topP: options.topP,
        seed: session.options.seed,
        kv: options.kv,
        signal: session.signal,
        onToken: (id) => {
          if (live && made.length === 0) process.stdout.write(options.prompt);
          made.push(id);
          // A character can span tokens: print up to the last whole one.
          const text = tokenizer.decode(made);
          if (!live || text.endsWith('\ufffd')) return;
          process.stdout.write(text.slice(printed));
          printed = text.length;
        },
      });
      if (live) process.stdout.write(`${made.length === 0 ? options.prompt : ''}\n`);
      session.note(
        `  prompt ${prompt.length} tokens in ${result.promptSeconds.toFixed(2)} s, then ${(1 / result.secondsPerToken).toFixed(1)} tokens/s, ended by ${result.reason}`,
      );
      session.note(`  cache        ${kvLine(cache)}; ${humanBytes(result.cacheBytes)} in all`);
      session.result({ prompt: options.prompt, text: tokenizer.decode(result.tokens), ...result, kv: cache });
    } finally {
      backend.dispose();
    }
  },
};

export default definition;
