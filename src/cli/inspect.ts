// subbyte inspect: what is in a model file. Headers alone by default; --stats reads every tensor, one at a time.

import { Option } from 'commander';
import { SubbyteError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { denseF32 } from '../models/stack.ts';
import { type ModelWeights, openWeights } from '../models/weights.ts';
import { quantizationSnr, type TensorStatistics, tensorStatistics } from '../quantize/statistics.ts';
import { matrixShape } from '../quantize/tensor-quantizer.ts';
import { elementCount } from '../tensor/shape.ts';
import type { CommandDefinition } from './command.ts';
import { openAnyCheckpoint } from './open-model.ts';
import { humanBytes, humanCount } from './progress.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

interface InspectOptions {
  stats?: boolean;
  format?: string;
  filter?: string;
}

interface TensorReport {
  name: string;
  dtype: string;
  shape: readonly number[];
  bytes: number;
  statistics?: TensorStatistics;
  qsnr?: number;
}

const definition: CommandDefinition = {
  name: 'inspect',
  summary: 'list tensors, formats and bytes; with --stats their values',
  arguments: [['<model>', 'folder, .safetensors, .gguf or hub id']],
  options: [
    new Option('--stats', 'read the tensors: amax, rms, crest factor, kurtosis'),
    new Option('--format <spec>', 'with the error (QSNR) of storing them in this format'),
    new Option('--filter <text>', 'only tensors whose name contains this'),
  ],
  examples: [
    'subbyte inspect models/qwen3-6m',
    'subbyte inspect models/qwen3-6m --stats --format mxfp4 --filter down_proj',
    'subbyte inspect model.gguf --json',
  ],
  async run(session, [reference], raw) {
    const options = raw as InspectOptions;
    const format = options.format ? parseFormat(options.format) : undefined;
    const checkpoint = await openAnyCheckpoint(session, reference, { remote: !options.stats && !format });
    const { weights, reason } = await describeModel(checkpoint);
    const reports =
      options.stats || format
        ? await readTensors(session, checkpoint, weights, reason, options, format)
        : [...checkpoint.tensors.values()]
            .filter((t) => t.name.includes(options.filter ?? ''))
            .map((t): TensorReport => ({ name: t.name, dtype: t.dtype, shape: t.shape, bytes: t.byteLength }));
    print(session, checkpoint, weights, reason, reports, format);
  },
};

/** The model view when the architecture is known; otherwise why not. */
async function describeModel(checkpoint: Checkpoint): Promise<{ weights?: ModelWeights; reason?: SubbyteError }> {
  try {
    return { weights: await openWeights(checkpoint) };
  } catch (error) {
    if (error instanceof SubbyteError) return { reason: error };
    throw error;
  }
}

async function readTensors(
  session: Session,
  checkpoint: Checkpoint,
  weights: ModelWeights | undefined,
  reason: SubbyteError | undefined,
  options: InspectOptions,
  format: Format | undefined,
): Promise<TensorReport[]> {
  if (!weights) throw reason ?? new Error(`inspect: no model view of ${checkpoint.location}`);
  const names = weights.names().filter((name) => name.includes(options.filter ?? ''));
  const progress = session.progress('read', names.length, 'tensors');
  const reports: TensorReport[] = [];
  for (const name of names) {
    session.signal.throwIfAborted();
    // raw: a report on a broken model has to be able to show its NaN
    const tensor = await weights.loadUnchecked(name);
    const values = denseF32(tensor);
    const { rows, cols } = matrixShape(tensor.shape);
    const statistics = tensorStatistics(values);
    reports.push({
      name,
      dtype: tensor.kind === 'packed' ? formatName(tensor.data.format) : tensor.dtype,
      shape: tensor.shape,
      bytes:
        tensor.kind === 'packed' ? tensor.data.codes.byteLength + tensor.data.scales.byteLength : values.byteLength,
      statistics,
      qsnr:
        format && tensor.shape.length > 1 && statistics.nonFinite === 0
          ? quantizationSnr(values, rows, cols, format)
          : undefined,
    });
    progress.advance(1, name);
  }
  progress.done();
  return reports;
}

function print(
  session: Session,
  checkpoint: Checkpoint,
  weights: ModelWeights | undefined,
  reason: SubbyteError | undefined,
  reports: readonly TensorReport[],
  format: Format | undefined,
): void {
  const bytes = reports.reduce((n, r) => n + r.bytes, 0);
  const count = reports.reduce((n, r) => n + elementCount(r.shape), 0);
  const stats = reports.some((r) => r.statistics);
  const right = { align: 'right' as const };
  session.print(
    renderTable(
      [
        { title: 'tensor' },
        { title: 'type' },
        { title: 'shape' },
        { title: 'bytes', ...right },
        ...(stats ? ['amax', 'rms', 'crest', 'kurtosis', 'not finite'].map((title) => ({ title, ...right })) : []),
        ...(format ? [{ title: `QSNR dB ${formatName(format)}`, ...right }] : []),
      ],
      reports.map((r) => [
        r.name,
        r.dtype,
        r.shape.join('×'),
        humanBytes(r.bytes),
        ...(stats && r.statistics
          ? [
              r.statistics.amax.toPrecision(4),
              r.statistics.rms.toPrecision(4),
              r.statistics.crestFactor.toFixed(2),
              r.statistics.kurtosis.toFixed(2),
              r.statistics.nonFinite ? String(r.statistics.nonFinite) : '',
            ]
          : []),
        ...(format ? [r.qsnr === undefined ? '' : r.qsnr.toFixed(2)] : []),
      ]),
    ),
  );
  const config = weights?.config;
  const what = config
    ? `${config.family}, ${config.layers} layers, hidden ${config.hiddenSize}, heads ${config.heads}/${config.kvHeads}, vocabulary ${config.vocabSize}`
    : `not a model that can be run: ${reason?.message ?? 'unknown'}`;
  session.print(
    `${reports.length} tensors, ${humanCount(count)} values, ${humanBytes(bytes)} (${checkpoint.container}); ${what}`,
  );
  session.result({
    location: checkpoint.location,
    container: checkpoint.container,
    model: config,
    problem: reason?.message,
    tensors: reports,
    values: count,
    bytes,
  });
}

export default definition;
