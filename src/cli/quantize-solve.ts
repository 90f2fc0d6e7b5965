// Rounds a model by a recipe's method before its outputs are written: calibration with its plan and progress, once for
// all outputs that hold the same formats.

import { createHash } from 'node:crypto';
import type { Format } from '../formats/format.ts';
import { formatName } from '../formats/registry.ts';
import { writeImatrix } from '../io/imatrix-file.ts';
import type { CalibrationPlan } from '../quantize/calibration/plan-calibration.ts';
import { type AppliedRecipe, applyRecipe } from '../quantize/methods/apply-recipe.ts';
import { importanceEntries } from '../quantize/methods/importance.ts';
import { findStep } from '../quantize/recipe/recipe.ts';
import { humanBytes, humanTime, type Progress } from './progress.ts';
import { kinds, type Prepared } from './quantize-prepare.ts';
import type { QuantizeContext, QuantizeRequest, SolveTools } from './quantize-types.ts';

/** A model rounded by a method, and the seconds that it took. */
export type Solution = AppliedRecipe & { readonly seconds: number };

/** Solutions by the formats that they are for; each is made when it is first asked for. */
export class Solutions {
  readonly #context: QuantizeContext;
  readonly #request: QuantizeRequest;
  readonly #tools: SolveTools;
  readonly #known = new Map<string, Solution>();

  constructor(context: QuantizeContext, request: QuantizeRequest, tools: SolveTools) {
    this.#context = context;
    this.#request = request;
    this.#tools = tools;
  }

  /** The solution for an output; undefined where rounding to nearest is all that the recipe does. */
  async of(item: Prepared): Promise<Solution | undefined> {
    const { job, container } = item;
    const formats = new Map<string, Format>();
    for (const name of job.plan.formats.keys()) {
      const format = kinds[container].formatInFile(job, name);
      if (format && format.kind !== 'float') formats.set(name, format);
    }
    const names = JSON.stringify([...formats].map(([name, format]) => [name, formatName(format)]));
    const key = createHash('sha256').update(names).digest('hex');
    const known = this.#known.get(key);
    if (known) return known;
    const solution = await this.#solve(item, formats, key);
    if (solution) this.#known.set(key, solution);
    return solution;
  }

  /** Deletes the work folders of all solutions. */
  async remove(): Promise<void> {
    for (const solution of this.#known.values()) await solution.remove();
  }

  async #solve(
    { job, label }: Prepared,
    formats: ReadonlyMap<string, Format>,
    key: string,
  ): Promise<Solution | undefined> {
    const { session, quantizer } = this.#context;
    const { recipe, calibration, memory, profile } = this.#request;
    const { backend, solver, importance } = this.#tools;
    const start = performance.now();
    let progress: Progress | undefined;
    const applied = await applyRecipe({
      recipe,
      weights: job.weights,
      formats,
      quantizer,
      solver,
      importance,
      calibration: calibration &&
        backend && {
          ids: calibration.ids,
          window: calibration.window,
          backend,
          folder: `${job.path}.work`,
          fingerprint: `${job.plan.fingerprint}:${key}`,
          memory,
        },
      splitProfile: profile,
      signal: session.signal,
      onPlan: (plan) => {
        session.note(`  calibrate    ${this.#text()}: ${planLine(plan)}`);
        progress = session.progress(label, plan.work, 'tok');
      },
      onProgress: (tokens, place) => progress?.advance(tokens, place),
    });
    progress?.done();
    if (!applied) return undefined;
    const { layers } = job.weights.config;
    if (applied.resumed > 0)
      session.note(`  note         ${applied.resumed} of ${layers} blocks were finished by an earlier run`);
    await this.#saveImportance(applied);
    return { ...applied, seconds: (performance.now() - start) / 1000 };
  }

  #text(): string {
    const { samples, window, source } = this.#request.calibration ?? {};
    return `${samples} windows of ${window} tokens of ${source}`;
  }

  async #saveImportance({ reports, meanSquares }: AppliedRecipe): Promise<void> {
    const { recipe, calibration } = this.#request;
    const file = findStep(recipe, 'imatrix')?.save;
    if (file === undefined || !calibration) return;
    const { source, samples, window } = calibration;
    const measured = [];
    for (const { name, tokens } of reports.flatMap((block) => block.layers))
      measured.push({ name, tokens, meanSquares: await meanSquares(name) });
    await writeImatrix(file, importanceEntries(measured, { dataset: source, samples, window }));
  }
}

/** `about 0:40, memory 662 MB (weights …, activations …, statistics …)` */
function planLine(plan: CalibrationPlan): string {
  const parts = [
    `weights ${humanBytes(plan.weightBytes)}`,
    `activations ${humanBytes(plan.activationBytes)}`,
    `statistics ${humanBytes(plan.statisticsBytes)}`,
  ];
  const disk =
    plan.spilledBytes > 0 ? `; ${humanBytes(plan.spilledBytes)} of activations on disk, --memory holds more` : '';
  return `about ${humanTime(plan.seconds)}, memory ${humanBytes(plan.peakBytes)} (${parts.join(', ')}${disk})`;
}
