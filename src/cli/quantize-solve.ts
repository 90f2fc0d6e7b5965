// Rounds a model by a recipe's method before its outputs are written: calibration with its plan and progress, once for
// all outputs that hold the same formats.

import type { Backend } from '../backends/backend.ts';
import type { Solver } from '../backends/wasm/solver.ts';
import type { Format } from '../formats/format.ts';
import { formatName } from '../formats/registry.ts';
import { writeImatrix } from '../io/imatrix-file.ts';
import type { ModelWeights } from '../models/weights.ts';
import type { BlockReport } from '../quantize/calibration/calibrate.ts';
import { planCalibration } from '../quantize/calibration/plan-calibration.ts';
import { openProfile, type Profile } from '../quantize/calibration/profile.ts';
import type { CalibrationWindows } from '../quantize/calibration/windows.ts';
import { type Importance, importanceEntries } from '../quantize/methods/importance.ts';
import { calibrationMethod, roundedOnReading } from '../quantize/methods/method.ts';
import type { RoundingTools } from '../quantize/methods/rounding.ts';
import { findStep, needsText } from '../quantize/recipe/recipe.ts';
import { type SolvedModel, solveModel } from '../quantize/solve-model.ts';
import { humanBytes, humanTime } from './progress.ts';
import { kinds, type Prepared } from './quantize-prepare.ts';
import type { QuantizeContext, QuantizeRequest } from './quantize-run.ts';

/** A model rounded by a method. */
export interface Solution {
  readonly weights: ModelWeights;
  readonly seconds: number;
  readonly reports: readonly BlockReport[];
  readonly profile: Profile;
  /** Deletes what the solution keeps on disk. */
  remove(): Promise<void>;
}

/** What solving needs besides what every quantization needs. */
export interface SolveTools {
  readonly backend: Backend | undefined;
  readonly solver: Solver;
  /** Of a file that the recipe names. */
  readonly importance: Importance | undefined;
}

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
  async of({ job, container, label }: Prepared): Promise<Solution | undefined> {
    const formats = new Map<string, Format>();
    for (const name of job.plan.formats.keys()) {
      const format = kinds[container].formatInFile(job, name);
      if (format && format.kind !== 'float') formats.set(name, format);
    }
    const key = JSON.stringify([...formats].map(([name, format]) => [name, formatName(format)]));
    const known = this.#known.get(key);
    if (known) return known;
    const solution = await this.#solve(job.weights, formats, label, `${job.path || job.plan.label}.work`, [
      key,
      job.plan.fingerprint,
    ]);
    if (solution) this.#known.set(key, solution);
    return solution;
  }

  /** Deletes the work folders of all solutions. */
  async remove(): Promise<void> {
    for (const solution of this.#known.values()) await solution.remove();
  }

  async #solve(
    weights: ModelWeights,
    formats: ReadonlyMap<string, Format>,
    label: string,
    folder: string,
    identity: readonly string[],
  ): Promise<Solution | undefined> {
    const { session, quantizer } = this.#context;
    const { recipe, calibration } = this.#request;
    const { importance, solver } = this.#tools;
    const profile = openProfile();
    const { samples = 0, window = 0 } = calibration ?? {};
    const streams = new Map(weights.names().map((name, i) => [name, i]));
    const tools: RoundingTools = {
      quantizer,
      profile,
      seed: recipe.seed,
      streams,
      tokens: samples * window,
      importance,
    };
    if (!needsText(recipe)) {
      const rounded = roundedOnReading(recipe, weights, formats, tools);
      return rounded && { weights: rounded, seconds: 0, reports: [], profile, remove: async () => undefined };
    }
    const { backend } = this.#tools;
    if (!calibration || !backend) throw new Error('quantize: a method that needs text has none');
    const method = calibrationMethod({ recipe, config: weights.config, formats, solver, tools });
    const { memory } = this.#request;
    const plan = await planCalibration({ weights, formats, method, samples, window, backend, memory });
    session.note(
      `  calibrate    ${samples} windows of ${window} tokens of ${calibration.source}: about ${humanTime(plan.seconds)}, memory ${humanBytes(plan.peakBytes)} (weights ${humanBytes(plan.weightBytes)}, activations ${humanBytes(plan.activationBytes)}, statistics ${humanBytes(plan.statisticsBytes)}${plan.spilledBytes > 0 ? `; ${humanBytes(plan.spilledBytes)} of activations on disk, --memory holds more` : ''})`,
    );
    const progress = session.progress(`${label}`, plan.work, 'tok');
    const solved = await solveModel({
      weights,
      formats,
      method,
      ids: calibration.ids,
      window,
      backend,
      folder,
      fingerprint: JSON.stringify(identity),
      memory,
      profile,
      splitProfile: this.#request.profile,
      signal: session.signal,
      onProgress: (tokens, place) => progress.advance(tokens, place),
    });
    if (solved.resumed > 0)
      session.note(
        `  note         ${solved.resumed} of ${weights.config.layers} blocks were finished by an earlier run`,
      );
    const seconds = progress.done();
    const save = findStep(recipe, 'imatrix')?.save;
    if (save !== undefined) await saveImportance(save, solved, calibration);
    const { reports, remove } = solved;
    return { weights: solved.weights, seconds, reports, profile, remove };
  }
}

async function saveImportance(file: string, solved: SolvedModel, { source, samples, window }: CalibrationWindows) {
  const measured = [];
  for (const { name, tokens } of solved.reports.flatMap((block) => block.layers))
    measured.push({ name, tokens, meanSquares: await solved.meanSquares(name) });
  await writeImatrix(file, importanceEntries(measured, { dataset: source, samples, window }));
}
