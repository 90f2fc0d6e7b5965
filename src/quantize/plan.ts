// What a quantization will do, decided before a byte of weights is read.
//
// A request (default format, exceptions, container) and a model's list of tensors give the format of every tensor, the
// sizes, and the notes a user should see first. Everything that cannot be done is refused here.

import { createHash } from 'node:crypto';
import { SubbyteError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { formatBytes, formatName } from '../formats/registry.ts';
import { countWeights, type ModelWeights } from '../models/weights.ts';
import { toolVersion } from '../version.ts';
import { assignFormats, type FormatRequest } from './rules.ts';
import { matrixShape } from './tensor-quantizer.ts';

export interface QuantizePlan {
  /** Name as the user wrote it: used in file names and reports. */
  label: string;
  /** Format of each tensor that is quantized; all others are kept as stored. */
  formats: ReadonlyMap<string, Format>;
  quantizedWeights: number;
  totalWeights: number;
  recipe: Record<string, unknown>;
  /** Changes with the model's tensors, the formats, the seed and the tool: the key for resuming. */
  fingerprint: string;
}

export interface PlanRequest extends FormatRequest {
  label: string;
  seed: number;
  /** What is done besides, as JSON data: method, calibration and everything else that decides the numbers. */
  details?: Readonly<Record<string, unknown>>;
  /** Tells the source from another with the same tensors: `sourceDigest`. */
  source?: string;
}

/** Plans one output. Throws a user error when a rule matches nothing or K does not suit a format. */
export function planQuantization(weights: ModelWeights, request: PlanRequest): QuantizePlan {
  const names = weights.names();
  const tensors = names.map((name) => ({
    name,
    shape: weights.shape(name),
    linear: weights.role(name) === 'linear',
  }));
  const assigned = assignFormats(tensors, request);
  const formats = new Map<string, Format>();
  let quantizedWeights = 0;
  for (const { name, shape } of tensors) {
    const { rows, cols } = matrixShape(shape);
    const format = assigned.get(name);
    if (!format) continue;
    formats.set(name, format);
    quantizedWeights += rows * cols;
    // ggml types fall back by llama.cpp's table when K does not fit; the container's plan decides
    if (format.kind !== 'ggml') checkFits(format, rows, cols, name);
  }
  const recipe = {
    tool: `subbyte ${toolVersion}`,
    ...request.details,
    format: request.label,
    ...(request.rules?.length && {
      layers: request.rules.map((r) => ({ match: r.pattern, format: formatName(r.format) })),
    }),
    ...(request.exclude?.length && { exclude: request.exclude }),
    seed: request.seed,
  };
  const identity = JSON.stringify([
    recipe,
    weights.location,
    request.source,
    weights.hfConfig,
    names.map((name) => [name, weights.shape(name), formats.has(name) && formatName(formats.get(name) as Format)]),
  ]);
  const fingerprint = createHash('sha256').update(identity).digest('hex');
  return { label: request.label, formats, quantizedWeights, totalWeights: countWeights(weights), recipe, fingerprint };
}

/** Refuses a K that does not suit the format, naming the tensor. */
function checkFits(format: Format, rows: number, cols: number, tensor: string): void {
  try {
    formatBytes(format, rows, cols);
  } catch (error) {
    if (!(error instanceof SubbyteError)) throw error;
    const fix = `${error.details.fix ?? 'choose another format'}; --tensor-type '${tensor.split('.').at(-2)}=int8-channel' gives these tensors another format`;
    throw new SubbyteError(error.kind, { ...error.details, tensor, fix }, { cause: error });
  }
}

/** The plan of a container change: nothing is quantized. */
export function keepEverything(weights: ModelWeights, source?: string): QuantizePlan {
  const names = weights.names();
  const identity = JSON.stringify([
    'convert',
    toolVersion,
    weights.location,
    source,
    weights.hfConfig,
    names.map((name) => [name, weights.shape(name), formatName(weights.format(name))]),
  ]);
  return {
    label: 'as stored',
    formats: new Map(),
    quantizedWeights: 0,
    totalWeights: countWeights(weights),
    recipe: { tool: `subbyte ${toolVersion}`, method: 'convert' },
    fingerprint: createHash('sha256').update(identity).digest('hex'),
  };
}
