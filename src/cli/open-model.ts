// Opening what commands work on: a model, its tokenizer, a backend, the tokens of a text.

import { fileURLToPath } from 'node:url';
import { Option } from 'commander';
import type { Backend } from '../backends/backend.ts';
import { userError } from '../errors.ts';
import { encodeText } from '../evaluate/tokens.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { openCheckpoint } from '../io/open.ts';
import { readText } from '../io/text.ts';
import { loadTokenizer, type Tokenizer } from '../io/tokenizer.ts';
import { type LoadedDecoder, loadDecoder } from '../models/loaded.ts';
import { type ModelWeights, openWeights } from '../models/weights.ts';
import { packageFile } from '../package-files.ts';
import { parseCount } from './command.ts';
import { humanBytes } from './progress.ts';
import type { Session } from './session.ts';

export interface OpenedModel {
  reference: string;
  checkpoint: Checkpoint;
  weights: ModelWeights;
}

/** Opens a model by path or hub id until the command ends, showing a download's progress; `remote` downloads no weights (io/open.ts). */
export async function openModel(
  session: Session,
  reference: string,
  options: { remote?: boolean } = {},
): Promise<OpenedModel> {
  const checkpoint = await openAnyCheckpoint(session, reference, options);
  return { reference, checkpoint, weights: await openWeights(checkpoint) };
}

/** The same without the claim that the architecture is known. */
export async function openAnyCheckpoint(
  session: Session,
  reference: string,
  options: { remote?: boolean } = {},
): Promise<Checkpoint> {
  let shown = '';
  let last = 0;
  const checkpoint = await openCheckpoint(reference, {
    ...options,
    signal: session.signal,
    onProgress: ({ file, done, total }) => {
      const now = performance.now();
      if (file === shown && done < total && now - last < 2000) return;
      shown = file;
      last = now;
      session.note(`  download     ${file}  ${humanBytes(done)} of ${humanBytes(total)}`);
    },
  });
  session.atEnd(() => checkpoint.close());
  return checkpoint;
}

/** Reads the weights onto a backend with progress. */
export async function loadOn(session: Session, weights: ModelWeights, backend: Backend): Promise<LoadedDecoder> {
  const progress = session.progress('load', weights.names().length, 'tensors');
  let before = 0;
  const model = await loadDecoder(weights, backend, {
    signal: session.signal,
    onProgress: (done) => {
      progress.advance(done - before);
      before = done;
    },
  });
  progress.done();
  return model;
}

/** The text that commands measure on when none is given: English prose and technical documentation, 1.3 MB. */
export const sampleText = fileURLToPath(packageFile('models/val.txt.xz'));

export const textOptions = (tokens: number): Option[] => [
  new Option('--text <file>', 'text to measure on: plain, .gz, .zst, .br or .xz (default: a sample that ships)'),
  new Option('--tokens <n>', 'tokens of it to use').default(tokens).argParser(parseCount),
  new Option('--window <n>', 'tokens of a window').default(512).argParser(parseCount),
];

export interface TextOptions {
  text?: string;
  tokens: number;
  window: number;
}

/** Refuses windows that predict nothing, before any work; says so when positions go beyond the model's. */
function checkWindow(session: Session, { weights }: OpenedModel, { tokens, window }: TextOptions): void {
  const wrong = (problem: string, got: number, expected: string, fix: string) =>
    userError({ code: 'window', op: session.command, problem, got, expected, fix });
  if (window < 2) throw wrong('--window is too small to predict anything', window, 'at least 2', 'use --window 512');
  if (tokens < window)
    throw wrong('--tokens is less than one window', tokens, `at least ${window}`, 'raise --tokens or lower --window');
  const { maxPositions } = weights.config;
  if (window > maxPositions)
    session.warn(
      `  note         windows of ${window} tokens are longer than the ${maxPositions} that the model was made for; expect a worse perplexity`,
    );
}

/** The first tokens of the text by the protocol of evaluate/tokens.ts. */
export async function loadTokens(
  session: Session,
  model: OpenedModel,
  options: TextOptions,
): Promise<{ tokens: Int32Array; tokenizer: Tokenizer; file: string }> {
  const file = options.text ?? sampleText;
  checkWindow(session, model, options);
  const tokenizer = await loadTokenizer(model.checkpoint);
  const text = await readText(file);
  const tokens = encodeText((part) => tokenizer.encode(part), text, options.tokens);
  if (tokens.length < options.window)
    throw userError({
      code: 'text-too-short',
      op: session.command,
      problem: 'the text has fewer tokens than one window',
      got: tokens.length,
      expected: `at least ${options.window}`,
      file,
      fix: 'give a longer text or a smaller --window',
    });
  return { tokens, tokenizer, file };
}
