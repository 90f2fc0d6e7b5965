// Plans the outputs of `subbyte quantize`: which formats go into which files. What cannot be written is refused here,
// before anything is read.

import path from 'node:path';
import { SubbyteError, userError } from '../errors.ts';
import { formatName, parseFormat } from '../formats/registry.ts';
import type { ModelWeights } from '../models/weights.ts';
import { ggufOutput } from '../quantize/gguf-output.ts';
import { noOutput } from '../quantize/no-output.ts';
import type { OutputJob, OutputKind } from '../quantize/output.ts';
import { planQuantization, type QuantizePlan } from '../quantize/plan.ts';
import type { Recipe } from '../quantize/recipe/recipe.ts';
import { safetensorsOutput } from '../quantize/safetensors-output.ts';
import { keptAsStored } from '../quantize/solved-model.ts';
import { sourceDigest } from '../quantize/source-digest.ts';
import { tensorStreams } from '../quantize/streams.ts';
import { toolVersion } from '../version.ts';
import { type FormatTarget, parseTarget } from './format-target.ts';
import type { ContainerName, OmittedOutput, QuantizeContext, QuantizeRequest } from './quantize-types.ts';

export const kinds: Record<ContainerName, OutputKind> = {
  gguf: ggufOutput,
  safetensors: safetensorsOutput,
  none: noOutput,
};

export interface Prepared {
  label: string;
  container: ContainerName;
  plan: QuantizePlan;
  job: OutputJob;
  warnings: string[];
}

/** Every output that can be written, and why others cannot. */
export async function prepareOutputs(
  context: QuantizeContext,
  request: QuantizeRequest,
): Promise<{ prepared: Prepared[]; omitted: OmittedOutput[] }> {
  const { session } = context;
  const list: Prepared[] = [];
  const omitted: OmittedOutput[] = [];
  const source = await sourceDigest(context.model.checkpoint, session.signal);
  for (const { format: label, containers } of request.targets) {
    const wanted = containers ?? (['gguf', 'safetensors'] as const);
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
    if (list.length === before || (request.ggufType && gguf)) throw withoutFiles(gguf ?? reasons[0], containers);
    // of its own accord a container is left out in silence only when the format alone is the reason
    for (const reason of reasons)
      if (containers || request.recipe.layers.length > 0) session.warn(`  note         ${label}: ${reason.message}`);
  }
  if (list.length === 0)
    throw userError({ code: 'no-format', op: 'quantize', problem: 'no format was given', fix: 'add --format mxfp4' });
  return { prepared: list, omitted };
}

/** Where no container was asked for, measuring without files is a way out. */
function withoutFiles(error: SubbyteError, containers: readonly ContainerName[] | undefined): SubbyteError {
  if (containers) return error;
  const fix = `${error.details.fix ?? 'choose another format'}; --to none measures it without writing files`;
  return new SubbyteError(error.kind, { ...error.details, fix }, { cause: error });
}

async function prepareOne(
  context: QuantizeContext,
  request: QuantizeRequest,
  source: string,
  label: string,
  container: ContainerName,
): Promise<Prepared> {
  const { session, model, weights } = context;
  const { recipe } = request;
  const asked = container === 'gguf' && request.ggufType ? request.ggufType : label;
  const target: FormatTarget = parseTarget(asked, weights);
  const plan = planQuantization(weights, {
    label: asked,
    seed: recipe.seed,
    source,
    details: details(request),
    format: target.format,
    formatOf: target.formatOf,
    rules: recipe.layers.map(({ match, format }) => ({ pattern: match, format: parseFormat(format) })),
    exclude: recipe.exclude,
  });
  const stem = `${request.name}-${asked.toLowerCase()}${methodSuffix(recipe)}`;
  const job: OutputJob = {
    checkpoint: model.checkpoint,
    weights: keptAsStored(weights, model.weights, plan.formats),
    plan,
    quantizer: context.quantizer,
    path: path.join(request.out, container === 'gguf' ? `${stem}.gguf` : stem),
    name: request.name,
    seed: recipe.seed,
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
  const warnings = [...roundedTwice(model.weights, plan), ...unsaid(weights, container)];
  return { label: asked, container, plan, job, warnings };
}

/** The recipe and the text behind it: all of it goes into the metadata of the file, and into the key for resuming. */
function details({ recipe, calibration }: QuantizeRequest): Record<string, unknown> {
  const { format: _, layers: __, exclude: ___, seed: ____, calibration: asked, ...rest } = recipe;
  if (!calibration) return rest;
  const { source, samples, window, digest, tokensRead } = calibration;
  return { ...rest, calibration: { ...asked, text: source, samples, window, digest, tokensRead } };
}

/** `-gptq`, `-awq-gptq`: what tells an output from the plainly rounded one. */
export function methodSuffix(recipe: Recipe): string {
  const names = recipe.steps.map((step) => Object.keys(step)[0]).filter((name) => name !== 'rtn');
  return names.length > 0 ? `-${names.join('-')}` : '';
}

/** Weights that are stored in another low-precision format lose twice; a user should know before the work. */
function roundedTwice(weights: ModelWeights, plan: QuantizePlan): string[] {
  const known = new Set(weights.names());
  const stored = [...plan.formats].flatMap(([name, format]) => {
    if (!known.has(name)) return [];
    const own = weights.format(name);
    return own.kind === 'float' || formatName(own) === formatName(format) ? [] : [formatName(own)];
  });
  if (stored.length === 0) return [];
  return [
    `${stored.length} tensors are stored as ${[...new Set(stored)].join(', ')} and are rounded a second time to ${plan.label}; quantize the original model instead if you have it`,
  ];
}

/** What a container cannot say about running the model. */
function unsaid({ config }: ModelWeights, container: ContainerName): string[] {
  if (container !== 'gguf') return [];
  const { activations, kv } = config.runtime;
  return [
    ...(activations.length > 0
      ? ['GGUF holds the weights alone: programs that load it round activations in their own way, if at all']
      : []),
    ...(kv ? ['GGUF does not say how keys and values are rounded: pass it to the program that loads the file'] : []),
  ];
}
