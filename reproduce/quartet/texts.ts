// The tokens of the study: training windows and a held-out stretch, out of texts or of a token file that is carried along.
//
// The tokenizer `bytes` takes the bytes of UTF-8 as tokens (V = 256): a model of a few hundred thousand parameters then
// has most of them in the layers that the schemes round, and needs no files. A token file (`….tokens` with its manifest
// beside it) needs neither its texts nor a network.

import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { userError } from '../../src/errors.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { loadTokenizer, type Tokenizer } from '../../src/io/tokenizer.ts';
import { packageFile } from '../../src/package-files.ts';
import type { StudyOptions } from '../../src/report/reproduction.ts';
import type { TrainConfig } from '../../src/train/config/config.ts';
import { readManifest } from '../../src/train/data/manifest.ts';
import { openTokenFile, type TokenFile } from '../../src/train/data/token-file.ts';
import { openTokens } from '../../src/train/data/tokenize.ts';

/** A file of the folder `models` of the checkout or of the package. */
export const shipped = (file: string) => fileURLToPath(packageFile(`models/${file}`));

export interface StudyText {
  readonly train: TokenFile;
  readonly validation: Int32Array;
  readonly vocabSize: number;
  /** Of all tokens that decide a run's loss. */
  readonly digest: string;
  /** For the protocol. */
  readonly description: string;
  close(): Promise<void>;
}

type Encoder = Pick<Tokenizer, 'encode' | 'specials' | 'vocabSize'>;

const bytes: Encoder = {
  encode: (text) => Int32Array.from(new TextEncoder().encode(text)),
  specials: {},
  vocabSize: 256,
};

/** Opens the texts of the options, and tokenizes into `cache` what is new. Throws what opening them throws. */
export async function openStudyText(
  options: StudyOptions,
  config: TrainConfig,
  cache: string,
  signal?: AbortSignal,
): Promise<StudyText> {
  const { data = [shipped('val.txt.xz')] } = options;
  const held = options.validation ?? (options.data ? undefined : [shipped('calibration.txt.xz')]);
  const named = config.model.tokenizer ?? '';
  const open = (sources: readonly string[]) => openFile(sources, named, cache, signal);
  const train = await open(data);
  try {
    const wanted = config.output.evaluateTokens;
    const other = held && (await open(held));
    const source = other ?? train;
    const count = Math.min(wanted, Math.floor(source.tokens / (other ? 1 : 10)));
    if (count < config.batch.tokens) throw tooShort(source, config.batch.tokens);
    const rest = other ? train.tokens : train.tokens - count;
    const validation = await source.read(other ? 0 : rest, count);
    await other?.close();
    if (other && other.manifest.tokenizer !== train.manifest.tokenizer) throw otherTokenizer(other, train);
    const digest = createHash('sha256').update(`${train.manifest.digest} ${rest} `).update(validation).digest('hex');
    const from = (file: TokenFile) => file.manifest.sources.map((s) => s.source.replace(/^.*[\\/]/, '')).join(', ');
    const tokens = named === 'bytes' ? 'bytes' : 'tokens';
    return {
      train: { ...train, tokens: rest },
      validation,
      vocabSize: train.manifest.vocabSize,
      digest,
      description: `${rest.toLocaleString('en')} ${tokens} of ${from(train)}; held out: ${count.toLocaleString('en')} ${other ? `of ${from(other)}` : 'at its end'}`,
      close: () => train.close(),
    };
  } catch (error) {
    await train.close();
    throw error;
  }
}

async function openFile(
  sources: readonly string[],
  tokenizer: string,
  cache: string,
  signal?: AbortSignal,
): Promise<TokenFile> {
  if (sources.length === 1 && sources[0].endsWith('.tokens')) {
    const manifest = await readManifest(sources[0]);
    if (manifest) return openTokenFile(sources[0], manifest);
    throw userError({
      code: 'token-file-manifest',
      op: 'reproduce quartet',
      problem: 'a token file needs its manifest beside it',
      file: sources[0],
      expected: `${sources[0]}.json, as it was written with the file`,
    });
  }
  const { encoder, digest } = await openTokenizer(tokenizer);
  const endOfText = encoder.specials.eos !== undefined;
  return openTokens({ sources, tokenizer: encoder, tokenizerDigest: digest, endOfText, cache, signal });
}

async function openTokenizer(name: string): Promise<{ encoder: Encoder; digest: string }> {
  if (name === 'bytes') return { encoder: bytes, digest: 'bytes of UTF-8' };
  const checkpoint = await openCheckpoint(name === 'shipped' ? shipped('qwen3-6m') : name, { remote: true });
  try {
    const file = await checkpoint.sidecar('tokenizer.json');
    const digest = createHash('sha256')
      .update(file ?? checkpoint.location)
      .digest('hex');
    return { encoder: await loadTokenizer(checkpoint), digest };
  } finally {
    await checkpoint.close();
  }
}

const tooShort = (file: TokenFile, least: number) =>
  userError({
    code: 'validation-too-short',
    op: 'reproduce quartet',
    problem: 'the held-out text has fewer tokens than one window',
    expected: `at least ${least}`,
    file: file.path,
    fix: 'give a longer text',
  });

const otherTokenizer = (held: TokenFile, train: TokenFile) =>
  userError({
    code: 'validation-tokenizer',
    op: 'reproduce quartet',
    problem: 'training and held-out tokens are of two tokenizers',
    file: `${train.path}, ${held.path}`,
    fix: 'give both as texts, or both as token files of one tokenizer',
  });
