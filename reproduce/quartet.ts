// Quartet (arXiv 2505.14669): its schemes trained side by side, and what must hold of its quantizers without any training.
//
// Trainings are kept in the report's folder, so a study can be spread over calls; the tests without training run once.

import { readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileError } from '../src/io/file-errors.ts';
import { makeFolder } from '../src/io/make-folder.ts';
import type { Claim, Correction, Report, Reproduction, ReproductionContext } from '../src/report/reproduction.ts';
import { factClaim } from '../src/report/reproduction.ts';
import { StudyDevices } from './quartet/devices.ts';
import type { FinishedRun } from './quartet/finished.ts';
import { type Measured, measure } from './quartet/numeric-claims.ts';
import { Losses, orderingClaims } from './quartet/orderings.ts';
import { gapSection, lossSection, notTrained, numericSections, runSection } from './quartet/sections.ts';
import { baseline, readSettings, type Settings } from './quartet/settings.ts';
import { runStudy, type Study } from './quartet/study.ts';
import { openStudyText, type StudyText } from './quartet/texts.ts';

/** Share of the work that is not training, for the progress. */
const testShare = 0.1;

const reproduction: Reproduction = {
  name: 'quartet',
  summary: 'Quartet and its parts: trainings of every scheme, errors and biases of rounding, gradients by depth',
  async run(context): Promise<Report> {
    const { seed, signal, folder, options, onProgress, note } = context;
    const settings = readSettings(options, seed);
    await makeFolder(folder);
    const config = settings.configOf(settings.runs[0], folder);
    const cache = path.join(folder, 'tokens');
    const text = await openStudyText(options, config, cache, signal);
    const devices = new StudyDevices(context);
    try {
      const measured = await measureOnce(context, settings, devices);
      const study = await runStudy({
        ...{ settings, text, folder, signal, minutes: options.timeLimit },
        openLanes: (trainings) => devices.lanes(settings, text, cache, trainings),
        onProgress: (fraction, what) => onProgress?.(testShare + (1 - testShare) * fraction, what),
        onFinished: (run, done, all) => note?.(finishedLine(run, done, all)),
      });
      return report(settings, text, measured, study);
    } finally {
      await text.close();
      await devices.close();
    }
  },
};

const finishedLine = ({ scheme, seed, steps, loss, seconds }: FinishedRun, done: number, all: number) =>
  `  trained      ${scheme}, seed ${seed}, ${steps} steps: ${loss === null ? 'diverged' : `loss ${loss.toFixed(4)}`}, ${seconds.toFixed(1)} s of steps  (${done} of ${all})`;

/** The tests without training: of an earlier call with the same settings, or now. */
async function measureOnce(context: ReproductionContext, settings: Settings, devices: StudyDevices): Promise<Measured> {
  const { seed, signal, folder, onProgress } = context;
  const file = path.join(folder, 'tests.json');
  const key = JSON.stringify({ version: 2, seed, ...settings.tests });
  const known = await readFile(file, 'utf8').then(JSON.parse, () => undefined);
  if (known?.key === key) return known.measured as Measured;
  const measured = await measure(await devices.backend('exact'), {
    ...{ sizes: settings.tests, seed, signal },
    onProgress: (fraction, what) => onProgress?.(testShare * fraction, what),
  });
  try {
    await writeFile(`${file}.partial`, JSON.stringify({ key, measured }));
    await rename(`${file}.partial`, file);
  } catch (cause) {
    throw fileError('write', file, cause);
  }
  return measured;
}

function report(settings: Settings, text: StudyText, measured: Measured, study: Study): Report {
  const { finished, left } = study;
  const [long, short] = [settings.steps, settings.shortSteps].map((steps) => new Losses(finished, steps));
  return {
    title: 'Quartet: training with all products in MXFP4, and its parts',
    paper: 'Castro et al., arXiv 2505.14669; the component study of 30M parameters on C4, made small.',
    protocol: protocol(settings, text, study),
    claims: [...finiteClaim(settings, study), ...orderingClaims(long, short), ...measured.claims],
    corrections: corrections(measured),
    sections: [
      ...(finished.length > 0 ? [lossSection(settings, study), gapSection(settings, study)] : []),
      ...numericSections(measured),
      notTrained,
      ...(finished.length > 0 ? [runSection(study)] : []),
    ],
    ...(left > 0 && {
      unfinished: `${finished.length} of ${settings.runs.length} trainings are done; run the same command again to go on`,
    }),
  };
}

function protocol(settings: Settings, text: StudyText, { finished, parameters, tokensPerStep }: Study): string {
  const { model, batch, optimizer, schedule } = settings.configOf(settings.runs[0], 'any');
  const tokens = settings.steps * tokensPerStep;
  const epochs = tokens / text.train.tokens;
  const count = (n: number) => n.toLocaleString('en');
  const devices = [...new Set(finished.map((run) => run.device))];
  const seeds = [...new Set(settings.runs.map((run) => run.seed))];
  const optimizers = optimizer.kind === 'adamw' ? `AdamW (${optimizer.beta1}, ${optimizer.beta2})` : 'SGD';
  return [
    `Scale ${settings.name}: ${model.family}, width ${model.hiddenSize}, blocks: ${model.layers}, ${count(parameters)} parameters in linear layers, ${text.vocabSize} tokens in the vocabulary.`,
    `Text: ${text.description}.`,
    `${settings.steps} steps of ${batch.sequences * batch.accumulate} × ${batch.tokens} tokens, ${count(tokens)} in all: ${(tokens / parameters).toPrecision(2)} a parameter (the paper: 25 to 800), ${epochs.toPrecision(2)} epochs; short trainings have ${settings.shortSteps} steps.`,
    `${optimizers}, weight decay ${optimizer.weightDecay}, gradient norm at most ${optimizer.clipNorm}, peak learning rate ${schedule.learningRate}, ${schedule.kind}, warm-up over ${100 * schedule.warmup} % of the steps.`,
    `Seeds ${seeds.join(', ')}: each sets first weights, order of the text and random numbers of rounding, alike for all schemes. Validation with the scheme's own rounding. Baseline: ${baseline}.`,
    `A claim about losses holds when the 90 % interval of the mean difference by seed (Student's t) lies wholly on its side, and does not hold when it lies wholly on the other. No allowance is made for the number of claims.`,
    ...(devices.length > 0 ? [`Trained on ${devices.join('; ')}.`] : []),
    ...(finished.some((run) => run.tensorCores === 'f16') ? [onTensorCores] : []),
  ].join(' ');
}

const onTensorCores =
  'On tensor cores as in `subbyte train`: operands of large products that no scheme rounds, attention and cross entropy among them, are rounded to f16 (11 bits, scaled by a power of two), sums are f32; the tests without training round no operand that f16 does not hold.';

function finiteClaim({ runs }: Settings, { finished }: Study): Claim[] {
  if (finished.length === 0) return [];
  const diverged = finished.filter((run) => run.loss === null);
  const found = diverged.length === 0 ? 'all' : diverged.map((run) => `${run.scheme}, seed ${run.seed}`).join('; ');
  const note = `${finished.length} of ${runs.length} trainings done`;
  return [factClaim('all losses stay finite', 'all', found, diverged.length === 0, note)];
}

function corrections({ bias }: Measured): Correction[] {
  const small = (v: number) => v.toExponential(2);
  const ends = (name: string) => {
    const { curve } = bias.find((r) => r.name === name) as Measured['bias'][number];
    return `${small(curve[0].error)} after one pass, ${small(curve[curve.length - 1].error)} after ${curve[curve.length - 1].count}`;
  };
  return [
    {
      printed: 'Backward operands are randomized by H · diag(s).',
      instead:
        'Signs must act before the transform: diag(s) · H. After it they flip what is turned already, and rounding does not see them.',
      evidence: `Relative squared error of the mean weight gradient, nearest rounding: signs before, ${ends('RTN')}; signs after, ${ends('RTN, signs last')}. So the lead of stochastic rounding in long trainings was measured against a quantizer without randomization.`,
    },
  ];
}

export default reproduction;
