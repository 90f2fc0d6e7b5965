// What a run needs before its first step: the model's weights and files, its tokenizer, the tokens.

import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { userError } from '../errors.ts';
import { loadChatTemplate } from '../io/chat-template.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { openCheckpoint } from '../io/open.ts';
import { readSidecar } from '../io/sidecar.ts';
import { loadTokenizer } from '../io/tokenizer.ts';
import { type ModelWeights, openWeights } from '../models/weights.ts';
import { modelFiles } from '../quantize/sidecars.ts';
import type { TrainConfig } from './config/config.ts';
import type { TokenFile } from './data/token-file.ts';
import { openTokens } from './data/tokenize.ts';
import { newModelConfig, newWeights } from './init.ts';

export interface Prepared {
  readonly weights: ModelWeights;
  /** Tokenizer and other files that belong into the finished model's folder. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly train: TokenFile;
  /** The first tokens of the held-out text. */
  readonly validation: Int32Array | undefined;
  close(): Promise<void>;
}

export interface PrepareOptions {
  readonly signal?: AbortSignal;
  /** Called while a text is tokenized, with its first file and the tokens so far. */
  readonly onTokens?: (source: string, tokens: number) => void;
}

/** Opens model, tokenizer and texts; tokenizes texts that are new. Throws what opening any of them throws. */
export async function prepareRun(config: TrainConfig, options: PrepareOptions = {}): Promise<Prepared> {
  const { model, batch, seeds } = config;
  const source = model.from === undefined ? undefined : await openCheckpoint(model.from, options);
  let train: TokenFile | undefined;
  try {
    const named = source && model.tokenizer === undefined ? source : await openTokenizerFolder(model.tokenizer ?? '');
    const tokenizer = await loadTokenizer(named);
    const { specials, vocabSize } = tokenizer;
    const weights = source
      ? await openWeights(source)
      : await newWeights(
          newModelConfig(model, { vocabSize, maxPositions: batch.tokens, bos: specials.bos, eos: specials.eos }),
          { std: model.initStd, residualScale: model.initResidualScale, seed: seeds.init },
        );
    checkVocabulary(vocabSize, weights, model.tokenizer ?? model.from ?? '');
    const { files } = await modelFiles(named);
    const tokenizerDigest = createHash('sha256')
      .update((await named.sidecar('tokenizer.json')) ?? named.location)
      .digest('hex');
    const template = await loadChatTemplate(named);
    const { endOfText, field } = config.data;
    const cache = config.data.cache ?? 'tokens';
    const open = (sources: readonly string[]) =>
      openTokens({
        ...{ sources, tokenizer, tokenizerDigest, endOfText, field, cache, template },
        signal: options.signal,
        onTokens: (tokens) => options.onTokens?.(sources[0], tokens),
      });
    train = await open(config.data.train ?? []);
    const validation = config.data.validation && (await firstTokens(await open(config.data.validation), config));
    if (named !== source) await named.close();
    const opened = train;
    return {
      weights,
      files,
      train,
      validation,
      async close() {
        await opened.close();
        await source?.close();
      },
    };
  } catch (error) {
    await train?.close();
    await source?.close();
    throw error;
  }
}

async function firstTokens(file: TokenFile, { output, batch }: TrainConfig): Promise<Int32Array> {
  try {
    if (file.tokens >= batch.tokens) return await file.read(0, Math.min(file.tokens, output.evaluateTokens));
    throw userError({
      code: 'validation-too-short',
      op: 'train',
      problem: 'the held-out text has fewer tokens than one window',
      got: file.tokens,
      expected: `at least ${batch.tokens}`,
      file: file.manifest.sources.map(({ source }) => source).join(', '),
      fix: 'give a longer text',
    });
  } finally {
    await file.close();
  }
}

/** A model by path or hub id, of which the tokenizer is wanted; a folder needs no weights. */
async function openTokenizerFolder(reference: string): Promise<Checkpoint> {
  const isFolder = await stat(reference).then(
    (info) => info.isDirectory(),
    () => false,
  );
  if (!isFolder) return openCheckpoint(reference, { remote: true });
  const none = () => Promise.reject(new Error('tokenizer folder: weights were asked for'));
  return {
    container: 'safetensors',
    location: reference,
    tensors: new Map(),
    metadata: new Map(),
    read: none,
    readRange: none,
    sidecar: (name) => readSidecar(reference, name),
    close: async () => {},
  };
}

function checkVocabulary(vocabSize: number, { config }: ModelWeights, tokenizer: string): void {
  if (vocabSize <= config.vocabSize) return;
  throw userError({
    code: 'vocabulary',
    op: 'train',
    problem: "the tokenizer has more tokens than the model's vocabulary",
    got: vocabSize,
    expected: `at most ${config.vocabSize}`,
    file: tokenizer,
    fix: 'raise model.vocabSize, or use the tokenizer of the model',
  });
}
