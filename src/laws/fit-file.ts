// A fitted law as a JSON file: what `laws fit --out` writes and `laws predict --fit` reads.

import { modelError } from '../errors.ts';
import type { Bootstrap } from './bootstrap.ts';
import type { Fit } from './fit.ts';
import { type Law, vectorOf } from './law.ts';
import { findLaw, type Schemes } from './registry.ts';

export interface FitFile {
  law: string;
  schemes: Schemes;
  values: Readonly<Record<string, number>>;
  /** Values of every bootstrap refit; empty without a bootstrap. */
  samples: readonly Readonly<Record<string, number>>[];
  level: number;
  runs: number;
  cost: number;
  /** Where the runs came from, and what was left out. */
  source: string;
  warnings: readonly string[];
}

const mark = 'subbyte law fit 1';
const mostSamples = 20_000;

export function fitFileText(fitted: Fit, schemes: Schemes, resampled: Bootstrap | undefined, source: string): string {
  const body: FitFile = {
    law: fitted.law.id,
    schemes,
    values: fitted.values,
    samples: resampled?.samples ?? [],
    level: resampled?.level ?? 0.9,
    runs: fitted.runs.length,
    cost: fitted.cost,
    source,
    warnings: fitted.warnings,
  };
  return `${JSON.stringify({ kind: mark, ...body })}\n`;
}

/**
 * Reads such a file; `file` names it in messages.
 *
 * @throws SubbyteError `fit-file` when it is none, and what unknown laws and missing values throw
 */
export function parseFitFile(text: string, file: string): FitFile & { form: Law } {
  const broken = (problem: string, cause?: unknown) =>
    modelError(
      { code: 'fit-file', op: 'laws', problem, file, fix: 'make it with `subbyte laws fit … --out fit.json`' },
      { cause },
    );
  let body: Partial<FitFile & { kind: string }>;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw broken('the file is not JSON', cause);
  }
  if (body?.kind !== mark || typeof body.law !== 'string' || typeof body.values !== 'object' || !body.values)
    throw broken('the file is no fitted law');
  const entry = findLaw(body.law);
  const isList = (v: unknown) => v === undefined || (Array.isArray(v) && v.every((s) => typeof s === 'string'));
  const schemes = body.schemes ?? {};
  if (!isList(schemes.forward) || !isList(schemes.backward)) throw broken('its schemes are no lists of names');
  const form = entry.build(schemes);
  const samples = body.samples ?? [];
  if (!Array.isArray(samples) || samples.length > mostSamples) throw broken('its samples are no list of values');
  for (const values of [body.values, ...samples]) vectorOf(form, values);
  const level = body.level ?? 0.9;
  if (!(level > 0 && level < 1)) throw broken('its level is no coverage between 0 and 1');
  return {
    form,
    law: body.law,
    schemes,
    values: body.values,
    samples,
    level,
    runs: Number(body.runs ?? 0),
    cost: Number(body.cost ?? Number.NaN),
    source: String(body.source ?? file),
    warnings: Array.isArray(body.warnings) ? body.warnings.map(String) : [],
  };
}
