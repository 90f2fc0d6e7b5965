// The work of `subbyte quantize`: for every format and container plan, write, check, measure. The demo runs it too.

import path from 'node:path';
import type { Backend } from '../backends/backend.ts';
import { SubbyteError, userError } from '../errors.ts';
import { measureDivergence } from '../evaluate/divergence.ts';
import { parityThresholds, verifyParity } from '../evaluate/verify.ts';
import { formatName } from '../formats/registry.ts';
import { openCheckpoint } from '../io/open.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { countWeights, type ModelWeights, openWeights } from '../models/weights.ts';
import { checkOutput } from '../quantize/check-output.ts';
import { ggufOutput } from '../quantize/gguf-output.ts';
import type { OutputJob, OutputKind, OutputReport } from '../quantize/output.ts';
import { planQuantization, type QuantizePlan } from '../quantize/plan.ts';
import type { TensorRule } from '../quantize/rules.ts';
import { safetensorsOutput } from '../quantize/safetensors-output.ts';
import { sourceDigest } from '../quantize/source-digest.ts';
import { tensorStreams } from '../quantize/streams.ts';
import type { TensorQuantizer } from '../quantize/tensor-quantizer.ts';
import { toolVersion } from '../version.ts';
import { type FormatTarget, parseTarget } from './format-target.ts';
import { loadOn, type OpenedModel } from './open-model.ts';
import { checkTarget, makeOutputFolder, rejectOutput } from './output-target.ts';
import type { Session } from './session.ts';

export type ContainerName = 'gguf' | 'safetensors';
const kinds: Record<ContainerName, OutputKind> = { gguf: ggufOutput, safetensors: safetensorsOutput };

export interface QuantizeTarget {
  format: string;
  /** Undefined: every container that can hold the format. */
  containers: ContainerName[] | undefined;
}

export interface QuantizeRequest {
  targets: QuantizeTarget[];
  /** Type in GGUF files, instead of the format's own. */
  ggufType?: string;
  rules: TensorRule[];
  exclude: string[];
  out: string;
  name: string;
  verify: boolean;
  /** Undefined: quality is not measured. */
  quality: { tokens: Int32Array; window: number } | undefined;
}

export interface QuantizeEntry {
  format: string;
  container: ContainerName;
  path: string;
  bytes: number;
  /** Of the quantized tensors, counted from the bytes in the file. */
  bitsPerWeight: number;
  /** Of the whole file. */
  fileBitsPerWeight: number;
  perplexity?: number;
  originalPerplexity?: number;
  kl?: number;
  klError?: number;
  top1?: number;
  /** Seconds to read, quantize and write. */
  seconds: number;
  reused: boolean;
  verified?: { tensors: number; cosine?: number; maxError?: number; kl?: number };
  notes: string[];
  /** What the user was told before the work began. */
  warnings: string[];
}

/** An output that was not written because its container cannot hold the format. */
export interface OmittedOutput {
  format: string;
  container: ContainerName;
  reason: string;
}

interface Prepared {
  label: string;
  container: ContainerName;
  plan: QuantizePlan;
  job: OutputJob;
  warnings: string[];
}

/** Everything the run needs open: the source, a quantizer, a backend with the original on it when quality is wanted. */
export interface QuantizeContext {
  session: Session;
  model: OpenedModel;
  quantizer: TensorQuantizer;
  /** The scalar codec, which the output is checked against. */
  reference: TensorQuantizer;
  backend: Backend | undefined;
}

export interface QuantizeResult {
  entries: QuantizeEntry[];
  omitted: OmittedOutput[];
}

export async function runQuantize(context: QuantizeContext, request: QuantizeRequest): Promise<QuantizeResult> {
  const { prepared, omitted } = await prepare(context, request);
  for (const { job } of prepared) await checkTarget(job.path, context.model.checkpoint, 'quantize');
  await makeOutputFolder(request.out, 'quantize');
  for (const warning of new Set(prepared.flatMap((p) => p.warnings))) context.session.warn(`  note         ${warning}`);
  const entries: QuantizeEntry[] = [];
  for (const item of prepared) {
    const entry = await writeOne(context, item);
    if (request.verify) entry.verified = await checkFile(context, item, entry);
    entries.push(entry);
  }
  if (request.quality && context.backend) await measureQuality(context, context.backend, request, entries);
  return { entries, omitted };
}

/** Plans every output; what cannot be written is refused here, before anything is read. */
async function prepare(
  context: QuantizeContext,
  request: QuantizeRequest,
): Promise<{ prepared: Prepared[]; omitted: OmittedOutput[] }> {
  const { session } = context;
  const list: Prepared[] = [];
  const omitted: OmittedOutput[] = [];
  const source = await sourceDigest(context.model.checkpoint, session.signal);
  for (const { format: label, containers } of request.targets) {
    const wanted = containers ?? (Object.keys(kinds) as ContainerName[]);
    const reasons: SubbyteError[] = [];
    let gguf: SubbyteError | undefined;
    const before = list.length;
    for (const container of wanted) {
      try {
        list.push(await prepareOne(context, request, source, label, container));
      } catch (error) {
        if (!(error instanceof SubbyteError) || error.kind !== 'user') throw error;
        reasons.push(error);
        omitted.push({ format: label, container, reason: error.message });
        if (container === 'gguf') gguf = error;
      }
    }
    if (list.length === before || (request.ggufType && gguf)) throw gguf ?? reasons[0];
    // of its own accord a container is left out in silence only when the format alone is the reason
    for (const reason of reasons)
      if (containers || request.rules.length > 0) session.warn(`  note         ${label}: ${reason.message}`);
  }
  if (list.length === 0)
    throw userError({ code: 'no-format', op: 'quantize', problem: 'no format was given', fix: 'add --format mxfp4' });
  return { prepared: list, omitted };
}

async function prepareOne(
  context: QuantizeContext,
  request: QuantizeRequest,
  source: string,
  label: string,
  container: ContainerName,
): Promise<Prepared> {
  const { session, model } = context;
  const { weights } = model;
  const asked = container === 'gguf' && request.ggufType ? request.ggufType : label;
  const target: FormatTarget = parseTarget(asked, weights);
  const plan = planQuantization(weights, {
    label: asked,
    seed: session.options.seed,
    source,
    format: target.format,
    formatOf: target.formatOf,
    rules: request.rules,
    exclude: request.exclude,
  });
  const stem = `${request.name}-${asked.toLowerCase()}`;
  const job: OutputJob = {
    checkpoint: model.checkpoint,
    weights,
    plan,
    quantizer: context.quantizer,
    path: path.join(request.out, container === 'gguf' ? `${stem}.gguf` : stem),
    name: request.name,
    seed: session.options.seed,
    streams: tensorStreams(weights),
    preset: target.preset,
    provenance: {
      version: toolVersion,
      recipe: JSON.stringify(plan.recipe),
      source: model.reference,
      fingerprint: plan.fingerprint,
    },
    signal: session.signal,
    progress: (total) => session.progress(asked, total, 'B'),
  };
  await kinds[container].check(job);
  return { label: asked, container, plan, job, warnings: roundedTwice(weights, plan) };
}

/** Weights that are stored in another low-precision format lose twice; a user should know before the work. */
function roundedTwice(weights: ModelWeights, plan: QuantizePlan): string[] {
  const stored = [...plan.formats].flatMap(([name, format]) => {
    const own = weights.format(name);
    return own.kind === 'float' || formatName(own) === formatName(format) ? [] : [formatName(own)];
  });
  if (stored.length === 0) return [];
  return [
    `${stored.length} tensors are stored as ${[...new Set(stored)].join(', ')} and are rounded a second time to ${plan.label}; quantize the original model instead if you have it`,
  ];
}

/** Writes one output, or takes it over from an earlier run that was stopped later. */
async function writeOne(context: QuantizeContext, item: Prepared): Promise<QuantizeEntry> {
  const { job, plan } = item;
  const kind = kinds[item.container];
  const earlier = await kind.finished(job);
  const report: OutputReport = earlier ?? (await kind.write(job));
  const reference = [...plan.formats].filter(([name, format]) => {
    if (format.kind === 'float') return false;
    const shape = job.weights.shape(name);
    return context.quantizer.codecOf(format, shape[shape.length - 1]) === 'reference';
  }).length;
  const notes = summarize(report.notes);
  if (reference > 0 && !earlier)
    notes.push(`${reference} tensors by the reference codec: this format has no kernel yet`);
  return {
    format: item.label,
    container: item.container,
    path: report.path,
    bytes: report.bytes,
    bitsPerWeight: (8 * report.quantizedBytes) / Math.max(1, plan.quantizedWeights),
    fileBitsPerWeight: (8 * report.bytes) / plan.totalWeights,
    seconds: report.seconds,
    reused: earlier !== undefined,
    notes,
    warnings: item.warnings,
  };
}

/** The same note for many layers is one note: `layers 0–6: …`. */
function summarize(notes: readonly string[]): string[] {
  const groups = new Map<string, number>();
  for (const note of notes) {
    const key = note.replace(/\bblk\.\d+\./, 'blk.*.');
    groups.set(key, (groups.get(key) ?? 0) + 1);
  }
  return [...groups].map(([note, count]) => (count > 1 ? `${note} (${count} tensors)` : note));
}

/** Opens the file again and compares its tensors with what was meant. */
async function checkFile(
  { session, model, reference }: QuantizeContext,
  { job, container }: Prepared,
  entry: QuantizeEntry,
): Promise<{ tensors: number }> {
  const checkpoint = await openCheckpoint(entry.path);
  try {
    const progress = session.progress(`check ${entry.format}`, model.weights.names().length, 'tensors');
    const result = await checkOutput(model.weights, await openWeights(checkpoint), {
      formatOf: (name) => kinds[container].formatInFile(job, name),
      relativeError: kinds[container].relativeError,
      quantizer: reference,
      seed: session.options.seed,
      streams: job.streams,
      signal: session.signal,
      onTensor: (name) => progress.advance(1, name),
    });
    progress.done();
    return { tensors: result.tensors };
  } catch (error) {
    await rejectOutput(entry.path, error);
    throw error;
  } finally {
    await checkpoint.close();
  }
}

/** Bytes of weights that run side by side, the original included. */
const togetherBytes = 1e9;

/** Runs the written files beside the original, several at a time, so that the original runs once for all of them. */
async function measureQuality(
  context: QuantizeContext,
  backend: Backend,
  request: QuantizeRequest,
  entries: readonly QuantizeEntry[],
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
    for (const entry of entries) {
      const checkpoint = await openCheckpoint(entry.path);
      try {
        const written = await openWeights(checkpoint);
        const candidate = await loadOn(session, written, backend);
        loaded.push({ entry, model: candidate });
        if (request.verify) await checkBackend(context, written, candidate, tokens, entry);
      } finally {
        await checkpoint.close();
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
    const parity = await verifyParity({ model: loaded }, { model: candidate }, part, parityThresholds);
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
