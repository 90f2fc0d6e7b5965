// The work of `subbyte quantize`: for every format and container plan, write, check, measure. The demo runs it too.

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Backend } from '../backends/backend.ts';
import { SubbyteError, userError } from '../errors.ts';
import { measureDivergence } from '../evaluate/divergence.ts';
import { parityThresholds, verifyParity } from '../evaluate/verify.ts';
import { openCheckpoint } from '../io/open.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { type ModelWeights, openWeights } from '../models/weights.ts';
import { checkOutput } from '../quantize/check-output.ts';
import { ggufOutput } from '../quantize/gguf-output.ts';
import type { OutputJob, OutputKind, OutputReport } from '../quantize/output.ts';
import { planQuantization, type QuantizePlan } from '../quantize/plan.ts';
import type { TensorRule } from '../quantize/rules.ts';
import { safetensorsOutput } from '../quantize/safetensors-output.ts';
import { tensorStreams } from '../quantize/streams.ts';
import type { TensorQuantizer } from '../quantize/tensor-quantizer.ts';
import { toolVersion } from '../version.ts';
import { type FormatTarget, parseTarget } from './format-target.ts';
import { loadOn, type OpenedModel } from './open-model.ts';
import type { Session } from './session.ts';

export type ContainerName = 'gguf' | 'safetensors';
const kinds: Record<ContainerName, OutputKind> = { gguf: ggufOutput, safetensors: safetensorsOutput };

export interface QuantizeRequest {
  formats: string[];
  /** Undefined: every container that can hold the format. */
  containers: ContainerName[] | undefined;
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
}

interface Prepared {
  label: string;
  container: ContainerName;
  plan: QuantizePlan;
  job: OutputJob;
}

/** Everything the run needs open: the source, a quantizer, a backend with the original on it when quality is wanted. */
export interface QuantizeContext {
  session: Session;
  model: OpenedModel;
  quantizer: TensorQuantizer;
  /** The scalar codec, which the output is checked against. */
  reference: TensorQuantizer;
  backend: Backend | undefined;
  onEntry?: (entry: QuantizeEntry) => void;
}

export async function runQuantize(context: QuantizeContext, request: QuantizeRequest): Promise<QuantizeEntry[]> {
  const { session, model, backend } = context;
  const prepared = await prepare(context, request);
  await makeFolder(request.out);
  const original = request.quality && backend ? await loadOn(session, model.weights, backend) : undefined;
  const entries: QuantizeEntry[] = [];
  try {
    for (const item of prepared) {
      const entry = await writeOne(context, item);
      await assess(context, request, item, entry, original);
      entries.push(entry);
      context.onEntry?.(entry);
    }
  } finally {
    original?.dispose();
  }
  return entries;
}

/** Plans every output; what cannot be written is refused here, before anything is read. */
async function prepare(context: QuantizeContext, request: QuantizeRequest): Promise<Prepared[]> {
  const { model, session } = context;
  const list: Prepared[] = [];
  for (const label of request.formats) {
    const wanted = request.containers ?? (Object.keys(kinds) as ContainerName[]);
    const reasons: SubbyteError[] = [];
    const before = list.length;
    for (const container of wanted) {
      try {
        list.push(await prepareOne(context, request, label, container));
      } catch (error) {
        if (!(error instanceof SubbyteError) || error.kind !== 'user') throw error;
        reasons.push(error);
      }
    }
    if (list.length === before) throw reasons[0];
    for (const reason of reasons) if (request.containers) session.warn(`  note         ${label}: ${reason.message}`);
  }
  if (list.length === 0)
    throw userError({ code: 'no-format', op: 'quantize', problem: 'no format was given', fix: 'add --format mxfp4' });
  return list.map((item) => ({
    ...item,
    job: { ...item.job, name: model.weights.hfConfig ? request.name : item.label },
  }));
}

async function prepareOne(
  context: QuantizeContext,
  request: QuantizeRequest,
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
  return { label: asked, container, plan, job };
}

/** Writes one output, or takes it over from an earlier run that was stopped later. */
async function writeOne(context: QuantizeContext, item: Prepared): Promise<QuantizeEntry> {
  const { job, plan } = item;
  const kind = kinds[item.container];
  const earlier = await kind.finished(job);
  const report: OutputReport = earlier ?? (await kind.write(job));
  const reference = [...plan.formats.values()].filter((f) => context.quantizer.codecOf(f) === 'reference').length;
  const notes = [...new Set(report.notes)];
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
  };
}

/** Opens the output again: checks it, and measures it against the original. */
async function assess(
  context: QuantizeContext,
  request: QuantizeRequest,
  item: Prepared,
  entry: QuantizeEntry,
  original: LoadedDecoder | undefined,
): Promise<void> {
  if (!request.verify && !original) return;
  const { session, backend } = context;
  const checkpoint = await openCheckpoint(entry.path);
  try {
    const written = await openWeights(checkpoint);
    if (request.verify) entry.verified = await checkTensors(context, item, written);
    if (!backend || !original || !request.quality) return;
    const candidate = await loadOn(session, written, backend);
    try {
      if (request.verify) await checkBackend(context, written, candidate, request.quality.tokens, entry);
      const progress = session.progress('quality', request.quality.tokens.length, 'tok');
      let before = 0;
      const [d] = await measureDivergence(original, [{ model: candidate }], request.quality.tokens, {
        window: request.quality.window,
        signal: session.signal,
        onProgress: ({ done }) => {
          progress.advance(done - before);
          before = done;
        },
      });
      progress.done();
      entry.perplexity = d.perplexity;
      entry.originalPerplexity = d.originalPerplexity;
      entry.kl = d.kl;
      entry.klError = d.klError;
      entry.top1 = d.top1;
    } finally {
      candidate.dispose();
    }
  } finally {
    await checkpoint.close();
  }
}

async function checkTensors(
  context: QuantizeContext,
  { job, container }: Prepared,
  written: ModelWeights,
): Promise<{ tensors: number }> {
  const { session, model, reference } = context;
  const count = model.weights.names().length;
  const progress = session.progress('check', count, 'tensors');
  const result = await checkOutput(model.weights, written, {
    formatOf: (name) => kinds[container].formatInFile(job, name),
    quantizer: reference,
    seed: session.options.seed,
    streams: job.streams,
    signal: session.signal,
    onTensor: (name) => progress.advance(1, name),
  });
  progress.done();
  return { tensors: result.tensors };
}

/** Weights that the float64 reference backend runs in a moment; above it only the tensors are compared. */
const referenceLimit = 30e6;
const parityTokens = 32;

async function checkBackend(
  context: QuantizeContext,
  written: ModelWeights,
  candidate: LoadedDecoder,
  tokens: Int32Array,
  entry: QuantizeEntry,
): Promise<void> {
  const count = written.names().reduce((n, name) => n + written.shape(name).reduce((m, d) => m * d, 1), 0);
  if (count > referenceLimit) return;
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
        fix: 'report it with `subbyte verify --json`; a kernel is wrong',
      });
    }
    entry.verified = {
      tensors: entry.verified?.tensors ?? 0,
      cosine: parity.cosine,
      maxError: parity.maxError,
      kl: parity.kl,
    };
  } finally {
    backend.dispose();
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw userError(
      {
        code: 'out-folder',
        op: 'quantize',
        problem: `the output folder cannot be made: ${(cause as NodeJS.ErrnoException).code}`,
        file: folder,
        fix: 'give --out a folder that you can write to',
      },
      { cause },
    );
  }
}
