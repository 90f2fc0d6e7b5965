// The work of `subbyte quantize`: for every format and container solve, write, check, measure. The demo runs it too.

import { openCheckpoint } from '../io/open.ts';
import { type ModelWeights, openWeights } from '../models/weights.ts';
import { checkOutput } from '../quantize/check-output.ts';
import type { OutputReport } from '../quantize/output.ts';
import { checkTarget, makeOutputFolder, rejectOutput } from './output-target.ts';
import { kinds, type Prepared, prepareOutputs } from './quantize-prepare.ts';
import { type MeasuredOutput, measureQuality } from './quantize-quality.ts';
import { methodReport } from './quantize-report.ts';
import { type Solution, Solutions } from './quantize-solve.ts';
import type { QuantizeContext, QuantizeEntry, QuantizeRequest, QuantizeResult } from './quantize-types.ts';

export async function runQuantize(context: QuantizeContext, request: QuantizeRequest): Promise<QuantizeResult> {
  const { prepared, omitted } = await prepareOutputs(context, request);
  const files = prepared.filter(({ container }) => container !== 'none');
  for (const { job } of files) await checkTarget(job.path, context.model.checkpoint, 'quantize');
  await makeOutputFolder(request.out, 'quantize');
  for (const warning of new Set(prepared.flatMap((p) => p.warnings))) context.session.warn(`  note         ${warning}`);
  const solutions = context.solving && new Solutions(context, request, context.solving);
  const entries: QuantizeEntry[] = [];
  const measured: MeasuredOutput[] = [];
  for (const item of prepared) {
    const earlier = await kinds[item.container].finished(item.job);
    const solution = earlier ? undefined : await solutions?.of(item);
    const solved = solution ? { ...item, job: { ...item.job, weights: solution.weights } } : item;
    const entry = await writeOne(context, solved, earlier, solution);
    // a method's result is compared with what it wrote in the same run; a plain one with what the codec says
    if (request.verify && item.container !== 'none' && (solution || !solutions || !earlier))
      entry.verified = await checkFile(context, solved, entry);
    entries.push(entry);
    measured.push({ entry, weights: item.container === 'none' ? await unwritten(context, solved) : undefined });
  }
  if (request.quality && context.backend) await measureQuality(context, context.backend, request, measured);
  await solutions?.remove();
  return { entries, omitted };
}

/** What would be in the file of an output that is only measured. */
async function unwritten({ quantizer }: QuantizeContext, { job }: Prepared): Promise<ModelWeights> {
  const { plan, weights, seed, streams } = job;
  return {
    ...weights,
    format: (name) => plan.formats.get(name) ?? weights.format(name),
    async load(name) {
      const tensor = await weights.load(name);
      const format = plan.formats.get(name);
      return format ? quantizer.quantize(tensor, format, { seed, stream: streams.get(name) ?? 0, name }) : tensor;
    },
  };
}

/** Writes one output, or takes it over from an earlier run that was stopped later. */
async function writeOne(
  { quantizer }: QuantizeContext,
  { job, plan, container, label, warnings }: Prepared,
  earlier: OutputReport | undefined,
  solution: Solution | undefined,
): Promise<QuantizeEntry> {
  const report: OutputReport = earlier ?? (await kinds[container].write(job));
  const reference = [...plan.formats].filter(([name, format]) => {
    if (format.kind === 'float') return false;
    const shape = job.weights.shape(name);
    return quantizer.codecOf(format, shape[shape.length - 1]) === 'reference';
  }).length;
  const notes = summarize(report.notes);
  if (reference > 0 && !earlier)
    notes.push(`${reference} tensors by the reference codec: this format has no kernel yet`);
  return {
    format: label,
    container,
    path: report.path,
    bytes: report.bytes,
    bitsPerWeight: (8 * report.quantizedBytes) / Math.max(1, plan.quantizedWeights),
    fileBitsPerWeight: (8 * report.bytes) / plan.totalWeights,
    seconds: report.seconds + (solution?.seconds ?? 0),
    reused: earlier !== undefined,
    ...(solution && { method: methodReport(solution) }),
    notes,
    warnings,
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
  { session, reference }: QuantizeContext,
  { job, container }: Prepared,
  entry: QuantizeEntry,
): Promise<{ tensors: number }> {
  const checkpoint = await openCheckpoint(entry.path);
  try {
    const progress = session.progress(`check ${entry.format}`, job.weights.names().length, 'tensors');
    const result = await checkOutput(job.weights, await openWeights(checkpoint), {
      formatOf: (name) => kinds[container].formatInFile(job, name),
      relativeError: kinds[container].relativeError,
      quantizer: reference,
      seed: job.seed,
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
