// Whether two ways of running a model give the same answer.
//
// The same tokens go through both (reference backend and a fast one, or a model before and after it was written to a
// file), and the logits of every position are compared in f64: cosine similarity, largest absolute difference, KL
// divergence, agreement of the arg-max. The thresholds say what counts as the same; they are for parity of one set of
// weights, not for the quality of a quantization (divergence.ts).

import { userError } from '../errors.ts';
import { buildDecoder } from '../models/decoder.ts';
import type { Candidate } from './divergence.ts';
import { notFinite } from './perplexity.ts';

export interface VerifyThresholds {
  /** Smallest cosine similarity of any position's logits. */
  minCosine: number;
  /** Largest absolute difference of any logit. */
  maxError: number;
  /** Mean KL divergence in nats. */
  maxKl: number;
  /** Share of positions whose arg-max agrees. */
  minTop1: number;
  /** Arg-maxima also agree where the first side's two logits are at most this far apart. */
  tie: number;
}

/** f32 kernels in another order of summation stay well inside these. */
export const parityThresholds: VerifyThresholds = {
  minCosine: 0.99999,
  maxError: 0.02,
  maxKl: 1e-5,
  minTop1: 0.99,
  tie: 0,
};

/**
 * For models that round while they run, as with a quantized key/value cache: where two ways differ in the last bit before
 * the rounding, a code goes the other way now and then, which moves later logits by a part of a quantization step. A
 * wrong kernel moves all of them.
 */
export const roundingThresholds: VerifyThresholds = {
  minCosine: 0.99,
  maxError: Infinity,
  maxKl: 1e-3,
  minTop1: 0.97,
  tie: 0.1,
};

export interface VerifyResult {
  pass: boolean;
  /** One sentence for each threshold that was missed. */
  failures: string[];
  /** Smallest over the positions. */
  cosine: number;
  maxError: number;
  kl: number;
  klMax: number;
  top1: number;
  tokens: number;
}

/**
 * Runs `tokens` (one window) through both sides, which may be on different backends.
 *
 *     const result = await verifyParity({ model: onReference }, { model: onWasm }, tokens.subarray(0, 64));
 */
export async function verifyParity(
  reference: Candidate,
  candidate: Candidate,
  tokens: Int32Array,
  thresholds: VerifyThresholds = parityThresholds,
): Promise<VerifyResult> {
  const V = reference.model.config.vocabSize;
  if (candidate.model.config.vocabSize !== V)
    throw userError({
      code: 'vocabulary',
      op: 'verify',
      problem: 'the models have different vocabularies',
      got: candidate.model.config.vocabSize,
      expected: V,
    });
  const p = await windowLogits(reference, tokens);
  const q = await windowLogits(candidate, tokens);
  let cosine = 1;
  let maxError = 0;
  let kl = 0;
  let klMax = 0;
  let same = 0;
  for (let t = 0; t < tokens.length; t++) {
    const row = compareRow(p.subarray(t * V, (t + 1) * V), q.subarray(t * V, (t + 1) * V), thresholds.tie);
    cosine = Math.min(cosine, row.cosine);
    maxError = Math.max(maxError, row.maxError);
    kl += row.kl / tokens.length;
    klMax = Math.max(klMax, row.kl);
    if (row.same) same++;
  }
  if (!Number.isFinite(cosine + maxError + kl)) throw notFinite(tokens.length);
  const top1 = same / tokens.length;
  const failures: string[] = [];
  const check = (ok: boolean, what: string, got: number, expected: string) => {
    if (!ok) failures.push(`${what} is ${got.toPrecision(4)}, expected ${expected}`);
  };
  check(cosine >= thresholds.minCosine, 'cosine similarity of the logits', cosine, `at least ${thresholds.minCosine}`);
  check(maxError <= thresholds.maxError, 'largest logit error', maxError, `at most ${thresholds.maxError}`);
  check(kl <= thresholds.maxKl, 'mean KL divergence', kl, `at most ${thresholds.maxKl}`);
  check(top1 >= thresholds.minTop1, 'arg-max agreement', top1, `at least ${thresholds.minTop1}`);
  return { pass: failures.length === 0, failures, cosine, maxError, kl, klMax, top1, tokens: tokens.length };
}

/** Logits [T, V] of one window. */
export async function windowLogits({ model, activation, kv }: Candidate, tokens: Int32Array): Promise<Float32Array> {
  const graph = buildDecoder(model.config, model.types, {
    batch: 1,
    tokens: tokens.length,
    mode: 'logits',
    activation,
    kv,
  });
  const executable = await model.backend.compile(graph, { params: model.buffers });
  try {
    executable.write('ids', tokens);
    await executable.run();
    return Float32Array.from((await executable.read('logits')).data);
  } finally {
    executable.dispose();
  }
}

/** Two rows of logits against each other, in f64. */
function compareRow(p: Float32Array, q: Float32Array, tie: number) {
  let dot = 0;
  let pp = 0;
  let qq = 0;
  let maxError = 0;
  let pBest = 0;
  let qBest = 0;
  for (let v = 0; v < p.length; v++) {
    dot += p[v] * q[v];
    pp += p[v] * p[v];
    qq += q[v] * q[v];
    maxError = Math.max(maxError, Math.abs(p[v] - q[v]));
    if (p[v] > p[pBest]) pBest = v;
    if (q[v] > q[qBest]) qBest = v;
  }
  const pLog = logSumExp(p, p[pBest]);
  const qLog = logSumExp(q, q[qBest]);
  let kl = 0;
  for (let v = 0; v < p.length; v++) kl += Math.exp(p[v] - pLog) * (p[v] - pLog - (q[v] - qLog));
  return { cosine: dot / Math.sqrt(pp * qq), maxError, kl: Math.max(kl, 0), same: p[pBest] - p[qBest] <= tie };
}

function logSumExp(x: Float32Array, max: number): number {
  let sum = 0;
  for (const value of x) sum += Math.exp(value - max);
  return max + Math.log(sum);
}
