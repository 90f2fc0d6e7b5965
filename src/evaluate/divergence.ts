// How far models are from their original, token by token, in one pass over the text.
//
//   KL(p‖q) = Σ_v p_v (log p_v − log q_v)  for the original's distribution p and a candidate's q at each position
//
// with its mean, standard error of the mean and maximum, the share of positions where both rank the same token first,
// and the perplexity of both from the same pass. All models stand in one graph; the logits of a chunk of rows exist at
// a time, so memory is bounded whatever V × T is. Sums are in f64. The standard error treats tokens as independent;
// tokens of one window are not quite, so it is a little too small.

import type { Backend, Buffer } from '../backends/backend.ts';
import { userError } from '../errors.ts';
import type { Graph } from '../graph/graph.ts';
import { compareLogits } from '../graph/ops/compare-logits.ts';
import { concat, slice } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { trace } from '../graph/trace.ts';
import { i32 } from '../graph/value-type.ts';
import type { ActivationOf } from '../models/block.ts';
import { decoderBody } from '../models/decoder.ts';
import type { KvChoice } from '../models/kv-scheme.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { notFinite } from './perplexity.ts';
import { type EvaluationOptions, progressMeter } from './progress.ts';
import { planWindows } from './tokens.ts';

/** A model to compare with the original, on the same backend, and the formats of its linear layers' inputs. */
export interface Candidate {
  model: LoadedDecoder;
  activation?: ActivationOf;
  /** How its keys and values are quantized; as its own file says when absent. */
  kv?: KvChoice;
}

export interface Divergence {
  /** Of the candidate. */
  perplexity: number;
  nll: number;
  /** Of the original, on the same tokens. */
  originalPerplexity: number;
  originalNll: number;
  /** Mean KL divergence in nats a token. */
  kl: number;
  /** Standard error of that mean. */
  klError: number;
  klMax: number;
  /** Share of positions with the same most likely token, 0 … 1. */
  top1: number;
  tokens: number;
  window: number;
  seconds: number;
  tokensPerSecond: number;
}

export interface DivergenceOptions extends EvaluationOptions {
  /** Bytes that the logits of a chunk of rows may take, original and one candidate together; 64 MiB. */
  logitBytes?: number;
}

/**
 * Compares candidates with the original; one result for each candidate, in their order.
 *
 *     const [mxfp4] = await measureDivergence(original, [{ model: quantized }], tokens);
 */
export async function measureDivergence(
  original: LoadedDecoder,
  candidates: readonly Candidate[],
  tokens: Int32Array,
  options: DivergenceOptions = {},
): Promise<Divergence[]> {
  const { vocabSize } = original.config;
  for (const { model } of candidates) {
    if (model.backend !== original.backend) throw new Error('measureDivergence: models are on different backends');
    if (model.config.vocabSize !== vocabSize)
      throw userError({
        code: 'vocabulary',
        op: 'divergence',
        problem: 'the models have different vocabularies',
        got: model.config.vocabSize,
        expected: vocabSize,
      });
  }
  const plan = planWindows(tokens, vocabSize, options);
  const chunk = Math.max(1, Math.floor((options.logitBytes ?? 64 * 2 ** 20) / (8 * vocabSize)));
  const graph = compareGraph(original, candidates, plan.batch, plan.window, chunk);
  const executable = await compileTogether(original.backend, graph, [original, ...candidates.map((c) => c.model)]);
  const meter = progressMeter(plan.windows * plan.window, options);
  const sums = candidates.map(() => ({ p: 0, q: 0, kl: 0, square: 0, max: 0, same: 0 }));
  let predicted = 0;
  try {
    const out = new Float32Array(plan.batch * plan.window * 4);
    for (const part of plan.batches()) {
      executable.write('ids', part.ids);
      executable.write('targets', part.targets);
      await executable.run();
      predicted += part.predicted;
      for (const [i, sum] of sums.entries()) {
        await executable.read(`candidate${i}`, out);
        for (let row = 0; row < part.targets.length; row++) {
          if (part.targets[row] < 0) continue;
          const kl = out[row * 4 + 2];
          sum.p += out[row * 4];
          sum.q += out[row * 4 + 1];
          sum.kl += kl;
          sum.square += kl * kl;
          sum.max = Math.max(sum.max, kl);
          sum.same += out[row * 4 + 3];
        }
        if (!Number.isFinite(sum.p + sum.q + sum.kl)) throw notFinite(predicted);
      }
      await meter.advance(plan.batch * plan.window);
    }
  } finally {
    executable.dispose();
  }
  const seconds = meter.seconds();
  return sums.map((sum) => {
    const kl = sum.kl / predicted;
    const variance = Math.max(sum.square / predicted - kl * kl, 0);
    return {
      perplexity: Math.exp(sum.q / predicted),
      nll: sum.q / predicted,
      originalPerplexity: Math.exp(sum.p / predicted),
      originalNll: sum.p / predicted,
      kl,
      klError: Math.sqrt(variance / Math.max(predicted - 1, 1)),
      klMax: sum.max,
      top1: sum.same / predicted,
      tokens: predicted,
      window: plan.window,
      seconds,
      tokensPerSecond: (plan.windows * plan.window) / seconds,
    };
  });
}

/** Original and candidates side by side; outputs `candidate0` … [B·T, 4] as compareLogits gives them. */
function compareGraph(
  original: LoadedDecoder,
  candidates: readonly Candidate[],
  batch: number,
  tokens: number,
  chunk: number,
): Graph {
  const rows = batch * tokens;
  return trace((g) => {
    const ids = g.input('ids', i32([batch, tokens]));
    const targets = g.input('targets', i32([rows]));
    const [p, ...qs] = [{ model: original }, ...candidates].map((c: Candidate, i) =>
      decoderBody(g, c.model.config, { types: c.model.types, prefix: `${i}:` }, ids, {
        batch,
        tokens,
        mode: 'logits',
        activation: c.activation,
        kv: c.kv,
      }),
    );
    const parts = qs.map((): ReturnType<typeof compareLogits>[] => []);
    for (let start = 0; start < rows; start += chunk) {
      const length = Math.min(chunk, rows - start);
      const logits = (m: typeof p) => matmul(slice(m.hidden, 0, start, length), m.head, { transposeB: true });
      const reference = logits(p);
      const wanted = slice(targets, 0, start, length);
      for (const [i, q] of qs.entries()) parts[i].push(compareLogits(reference, logits(q), wanted));
    }
    for (const [i, values] of parts.entries())
      g.output(`candidate${i}`, values.length > 1 ? concat(values, 0) : values[0]);
  });
}

/** Compiles a graph of several models; parameters are found by the models' prefixes `0:`, `1:`, … */
function compileTogether(backend: Backend, graph: Graph, models: readonly LoadedDecoder[]) {
  const params = new Map<string, Buffer>();
  for (const [i, model] of models.entries())
    for (const [name, buffer] of model.buffers)
      if (graph.params.has(`${i}:${name}`)) params.set(`${i}:${name}`, buffer);
  return backend.compile(graph, { params });
}
