// How far the outputs of `subbyte quantize` are from the original, measured on the files themselves.

import type { Backend } from '../backends/backend.ts';
import { SubbyteError } from '../errors.ts';
import { measureDivergence } from '../evaluate/divergence.ts';
import { parityThresholds, roundingThresholds, verifyParity } from '../evaluate/verify.ts';
import { openCheckpoint } from '../io/open.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { countWeights, type ModelWeights, openWeights } from '../models/weights.ts';
import { loadOn } from './open-model.ts';
import type { QuantizeContext, QuantizeEntry, QuantizeRequest } from './quantize-types.ts';

/** Bytes of weights that run side by side, the original included. */
const togetherBytes = 1e9;

/** An output with its model; `weights` where there is no file to open. */
export interface MeasuredOutput {
  readonly entry: QuantizeEntry;
  readonly weights: ModelWeights | undefined;
}

/** Runs the outputs beside the original, several at a time, so that the original runs once for all of them. */
export async function measureQuality(
  context: QuantizeContext,
  backend: Backend,
  request: QuantizeRequest,
  outputs: readonly MeasuredOutput[],
): Promise<void> {
  const { session, model } = context;
  const { tokens, window } = request.quality as { tokens: Int32Array; window: number };
  const original = await loadOn(session, model.weights, backend);
  const loaded: { entry: QuantizeEntry; model: LoadedDecoder }[] = [];
  const measureLoaded = async () => {
    const progress = session.progress('quality', tokens.length, 'tok');
    let before = 0;
    const candidates = loaded.map((c) => ({ model: c.model }));
    const results = await measureDivergence(original, candidates, tokens, {
      window,
      // several models run side by side: one window at a time keeps progress and Ctrl-C alive
      batch: candidates.length > 1 ? 1 : undefined,
      signal: session.signal,
      onProgress: ({ done }) => {
        progress.advance(done - before);
        before = done;
      },
    });
    progress.done();
    for (const [i, { entry, model: candidate }] of loaded.entries()) {
      const { perplexity, originalPerplexity, kl, klError, top1 } = results[i];
      Object.assign(entry, { perplexity, originalPerplexity, kl, klError, top1 });
      candidate.dispose();
    }
    loaded.length = 0;
  };
  try {
    let bytes = original.byteLength;
    for (const { entry, weights } of outputs) {
      const checkpoint = weights ? undefined : await openCheckpoint(entry.path);
      try {
        const written = weights ?? (await openWeights(checkpoint!));
        const candidate = await loadOn(session, written, backend);
        loaded.push({ entry, model: candidate });
        if (request.verify && checkpoint) await checkBackend(context, written, candidate, tokens, entry);
      } finally {
        await checkpoint?.close();
      }
      bytes += loaded[loaded.length - 1].model.byteLength;
      if (bytes < togetherBytes) continue;
      await measureLoaded();
      bytes = original.byteLength;
    }
    if (loaded.length > 0) await measureLoaded();
  } finally {
    for (const { model: candidate } of loaded) candidate.dispose();
    original.dispose();
  }
}

/** Weights that the float64 reference backend runs in a moment; above it only the tensors are compared. */
const referenceLimit = 30e6;
const parityTokens = 16;

/** The file's model on the reference backend and on the fast one. */
async function checkBackend(
  context: QuantizeContext,
  written: ModelWeights,
  candidate: LoadedDecoder,
  tokens: Int32Array,
  entry: QuantizeEntry,
): Promise<void> {
  if (countWeights(written) > referenceLimit || candidate.backend.name === 'reference') return;
  const { createReferenceBackend } = await import('../backends/reference/reference-backend.ts');
  const backend = createReferenceBackend();
  try {
    const loaded = await loadOn(context.session, written, backend);
    const part = tokens.subarray(0, parityTokens);
    const { activations, kv } = written.config.runtime;
    const thresholds = activations.length > 0 || kv ? roundingThresholds : parityThresholds;
    const parity = await verifyParity({ model: loaded }, { model: candidate }, part, thresholds);
    if (!parity.pass) {
      throw new SubbyteError('model', {
        code: 'parity',
        op: 'verify',
        problem: `${candidate.backend.name} and the reference disagree on the written file: ${parity.failures.join('; ')}`,
        file: entry.path,
        fix: 'report it with the output of `subbyte verify --json`; a kernel is wrong',
      });
    }
    const { cosine, maxError, kl } = parity;
    entry.verified = { tensors: entry.verified?.tensors ?? 0, cosine, maxError, kl };
  } finally {
    backend.dispose();
  }
}
