// Perplexity of a text under a model.
//
//   perplexity = exp( (1/n) Σ −log p(token | tokens before it in its window) )
//
// over the n = windows · (T−1) predicted tokens; the windows are those of tokens.ts. The negative log-likelihoods are
// the backend's f32 figures, summed in f64. It does not do: strided windows, word-level normalisation.

import { modelError } from '../errors.ts';
import type { ActivationOf } from '../models/block.ts';
import { buildDecoder } from '../models/decoder.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { type EvaluationOptions, progressMeter } from './progress.ts';
import { planWindows } from './tokens.ts';

export interface PerplexityOptions extends EvaluationOptions {
  /** Formats of the linear layers' inputs; none by default. */
  activation?: ActivationOf;
  /** How keys and values are quantized; as the model's own file says when absent. */
  kv?: KvChoice;
}

export interface PerplexityResult {
  perplexity: number;
  /** Mean negative log-likelihood in nats. */
  nll: number;
  /** Predicted tokens. */
  tokens: number;
  window: number;
  seconds: number;
  /** Tokens run a second, all of every window. */
  tokensPerSecond: number;
}

/**
 * Runs the windows of `tokens` through the model.
 *
 *     const { perplexity } = await measurePerplexity(model, encodeText(tokenizer.encode, text, 400_000));
 *
 * Throws a user error for ids outside the vocabulary and a model error when the model's output is not a number.
 */
export async function measurePerplexity(
  model: LoadedDecoder,
  tokens: Int32Array,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  const { config, types, buffers, backend } = model;
  const { window, batch, windows, batches } = planWindows(tokens, config.vocabSize, options);
  const { activation, kv } = options;
  const graph = buildDecoder(config, types, { batch, tokens: window, mode: 'nll', activation, kv });
  const executable = await backend.compile(graph, { params: buffers });
  const meter = progressMeter(windows * window, options);
  let sum = 0;
  let predicted = 0;
  try {
    const out = new Float32Array(batch * window);
    for (const part of batches()) {
      executable.write('ids', part.ids);
      executable.write('targets', part.targets);
      await executable.run();
      await executable.read('nll', out);
      for (let i = 0; i < out.length; i++) if (part.targets[i] >= 0) sum += out[i];
      predicted += part.predicted;
      if (!Number.isFinite(sum)) throw notFinite(predicted);
      await meter.advance(batch * window);
    }
  } finally {
    executable.dispose();
  }
  const nll = sum / predicted;
  const seconds = meter.seconds();
  const tokensPerSecond = (windows * window) / seconds;
  return { perplexity: Math.exp(nll), nll, tokens: predicted, window, seconds, tokensPerSecond };
}

/** A model whose logits are NaN or infinite has no perplexity. */
export function notFinite(token: number) {
  return modelError({
    code: 'nll-not-finite',
    op: 'evaluate',
    problem: `the model's output is not a finite number within the first ${token} predicted tokens`,
    fix: 'look for NaN or overflow in the weights with inspect',
  });
}
