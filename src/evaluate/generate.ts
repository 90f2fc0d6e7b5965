// Text generation with a key/value cache.
//
// Method: graphs share weights and caches. The prompt runs in chunks of `chunk` tokens (the last one filled up with
// padding whose cache rows are overwritten before any query sees them; under a quantizing scheme, whose cache is only
// appended to, it runs in a graph of its own length), then one token a run. Draws come from the
// counter-based generator, indexed by position, so a seed gives the same text on every backend. With temperature 0 the
// tokens are those of running the whole text anew for each token.
// It does not do: batches, beam search, repetition penalties; a text longer than the cache is an error, not a shift.

import type { Buffer, Executable } from '../backends/backend.ts';
import { userError } from '../errors.ts';
import { uniformSource } from '../formats/random.ts';
import { type ActivationOf, chosenKv } from '../models/block.ts';
import { buildDecoder, cacheStates } from '../models/decoder.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { checkSampling, type SamplingOptions, sampleToken } from './sampling.ts';
import { takingTurns } from './yield.ts';

export interface GenerateOptions extends SamplingOptions {
  /** New tokens at most; 128, or what the model's positions leave. */
  maxTokens?: number;
  /** Seed of the draws; 0. */
  seed?: number;
  /** Ids that end the text (they are not part of the result); the config's end-of-text ids by default. */
  stopIds?: readonly number[];
  activation?: ActivationOf;
  /** How keys and values are quantized; as the model's own file says when absent. */
  kv?: KvChoice;
  /** Called with each new token as soon as it is drawn. */
  onToken?: (id: number) => void;
  signal?: AbortSignal;
}

export interface Generation {
  /** The new tokens. */
  tokens: number[];
  /** Why it ended: a stop id, or maxTokens. */
  reason: 'stop' | 'length';
  promptSeconds: number;
  secondsPerToken: number;
  /** Bytes of the cache, for all tokens that it has room for. */
  cacheBytes: number;
}

const chunk = 32;

/**
 * Continues `prompt`.
 *
 *     const { tokens } = await generate(model, tokenizer.encode('The kernel'), { maxTokens: 64, temperature: 0.8, seed: 1 });
 *
 * Throws a user error for an empty prompt, ids outside the vocabulary, or more tokens than the model's positions.
 */
export async function generate(
  model: LoadedDecoder,
  prompt: readonly number[],
  options: GenerateOptions = {},
): Promise<Generation> {
  const { config, backend } = model;
  // Without a number of its own the text ends where the model's positions end.
  const maxTokens = options.maxTokens ?? Math.max(1, Math.min(128, config.maxPositions - prompt.length));
  const stopIds = new Set(options.stopIds ?? config.stopIds);
  checkPrompt(model, prompt, maxTokens);
  checkSampling(options);
  const { activation, kv } = options;
  const scheme = chosenKv(config, kv);
  const padded = Math.ceil(prompt.length / chunk) * chunk;
  const cacheTokens = scheme ? prompt.length + maxTokens : Math.max(padded, prompt.length + maxTokens);
  const states = new Map<string, Buffer>();
  const executables: Executable[] = [];
  try {
    const cache = { batch: 1, cacheTokens, mostTokens: chunk, kv };
    for (const [name, type] of cacheStates(config, cache)) states.set(name, backend.allocate(type));
    const cacheBytes = [...states.values()].reduce((n, b) => n + b.byteLength, 0);
    const compile = async (tokens: number) => {
      const graph = buildDecoder(config, model.types, { ...cache, tokens, mode: 'decode', activation });
      const executable = await backend.compile(graph, { params: model.buffers, states });
      executables.push(executable);
      return executable;
    };
    const logits = new Float32Array(config.vocabSize);
    const started = performance.now();
    const compiled = new Map<number, Executable>();
    const executableFor = async (tokens: number) => {
      const run = compiled.get(tokens) ?? (await compile(tokens));
      compiled.set(tokens, run);
      return run;
    };
    const turn = takingTurns(options.signal);
    for (let at = 0; at < prompt.length; at += chunk) {
      await turn();
      const part = prompt.slice(at, at + chunk);
      const size = scheme ? part.length : chunk;
      const prefill = await executableFor(size);
      await runTokens(prefill, part, at, size, at + chunk >= prompt.length ? logits : undefined);
    }
    const prompted = performance.now();
    const step = maxTokens > 1 ? await executableFor(1) : undefined;
    const uniform = uniformSource(options.seed ?? 0, 0);
    const tokens: number[] = [];
    let reason: Generation['reason'] = 'length';
    while (tokens.length < maxTokens) {
      await turn();
      const id = sampleToken(logits, options, uniform.at(tokens.length));
      if (stopIds.has(id)) {
        reason = 'stop';
        break;
      }
      tokens.push(id);
      options.onToken?.(id);
      if (step && tokens.length < maxTokens) await runTokens(step, [id], prompt.length + tokens.length - 1, 1, logits);
    }
    const secondsPerToken = (performance.now() - prompted) / 1000 / Math.max(tokens.length, 1);
    return { tokens, reason, promptSeconds: (prompted - started) / 1000, secondsPerToken, cacheBytes };
  } finally {
    for (const executable of executables) executable.dispose();
    for (const buffer of states.values()) buffer.dispose();
  }
}

/** Runs `part`, filled up to `size` tokens, at cache rows `start` …; reads the logits after its last token. */
async function runTokens(run: Executable, part: readonly number[], start: number, size: number, out?: Float32Array) {
  const ids = new Int32Array(size);
  ids.set(part);
  run.write('ids', ids);
  run.write(
    'positions',
    Int32Array.from({ length: size }, (_, i) => start + i),
  );
  run.write('start', Int32Array.of(start));
  run.write('last', Int32Array.of(part.length - 1));
  await run.run();
  if (out) await run.read('logits', out);
}

function checkPrompt({ config }: LoadedDecoder, prompt: readonly number[], maxTokens: number) {
  const wrong = (problem: string, got: number, expected: string, fix?: string) =>
    userError({ code: 'prompt', op: 'generate', problem, got, expected, fix });
  if (prompt.length === 0)
    throw wrong('the prompt is empty', 0, 'at least one token', 'give some text, or the begin-of-text token');
  if (!Number.isInteger(maxTokens) || maxTokens < 1) throw wrong('wrong number of new tokens', maxTokens, '1 or more');
  const outside = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= config.vocabSize);
  if (outside !== undefined)
    throw wrong('a prompt token is outside the vocabulary', outside, `0 to ${config.vocabSize - 1}`);
  if (prompt.length + maxTokens > config.maxPositions)
    throw wrong(
      'prompt and new tokens do not fit the positions that the model was made for',
      prompt.length + maxTokens,
      `at most ${config.maxPositions} (max_position_embeddings)`,
      'ask for fewer tokens',
    );
}
