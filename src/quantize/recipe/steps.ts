// The steps that a recipe can have, with their options, in the order in which they run.
//
//   transform   rotate, smooth, awq     change weights so that the model computes the same and rounds better
//   clip        clip                    narrows the ranges that rounding uses
//   solve       gptq or hqq             chooses codes or scales by an objective
//   round       imatrix, rtn            importance of each input feature; rounding to nearest
//
// Defaults are those of the methods' papers or programs (rotate: QuaRot, arXiv:2404.00456; smooth: 2211.10438; awq and
// clip: 2306.00978; gptq: 2210.17323, order 2505.14638, asymmetry 2504.02692; hqq: its program).

import {
  choiceField,
  type Fields,
  flagField,
  numberField,
  textField,
  type Values,
  wholeField,
} from '../../settings/fields.ts';
import { inside, type Place, wrongAt, wrongValue } from '../../settings/place.ts';

export type Phase = 'transform' | 'clip' | 'solve' | 'round';

interface StepRule {
  readonly phase: Phase;
  readonly doc: string;
  readonly fields: Fields;
  /** Whether it needs statistics of the model on calibration text. */
  readonly calibrated: boolean;
  /** Checks options that depend on each other, and sets what follows from the given ones. */
  settle?(given: Record<string, unknown>, place: Place): void;
}

const most = 2 ** 24;

const rotate = {
  residual: choiceField(['hadamard', 'none'], 'hadamard', 'the residual stream, merged into the weights (R1)'),
  value: flagField(true, 'each head between v_proj and o_proj, merged into both (R2)'),
  queryKey: flagField(false, 'queries and keys after RoPE, online (R3); only quantized keys gain by it'),
  down: choiceField(['online', 'none'], 'online', 'the input of down_proj, while the model runs (R4)'),
  out: choiceField(['online', 'none'], 'online', 'the input of o_proj, while the model runs'),
  block: wholeField(
    0,
    { least: 0, most: 65536 },
    'instead of residual, value, down and out: blocks of this power of two on the input of every layer, online; 0: no',
  ),
  randomSigns: flagField(true, 'random signs in the rotations that are merged'),
  onlineSigns: flagField(false, 'random signs in the online ones too; other runtimes do not know them'),
};

const smooth = {
  alpha: numberField(
    0.5,
    { least: 0, most: 1 },
    'share of the difficulty that moves into the weights; 0.8 to 0.9 suit Llama',
  ),
};

const awq = {
  grid: wholeField(20, { least: 1, most: 1000 }, 'exponents that are tried'),
  duo: flagField(false, "the weights' magnitudes enter the scales too (AutoAWQ)"),
  tokens: wholeField(4096, { least: 1, most }, 'tokens on which a scale is judged'),
};

const clip = {
  grid: wholeField(20, { least: 1, most: 1000 }, 'steps from the whole range to none'),
  maxShrink: numberField(0.5, { least: 0, most: 1, above: true }, 'share of the range that may be cut off'),
};

const gptq = {
  damping: numberField(0.01, { least: 0, most: 1 }, "share of the Hessian's mean diagonal that is added to it"),
  order: choiceField(
    ['group', 'activation', 'natural'],
    'group',
    'columns by importance within groups, by importance, or as they stand',
  ),
  staticGroups: flagField(true, 'scales from the original weights, before any error is passed on'),
  blockSize: wholeField(128, { least: 1, most: 65536 }, 'columns between two updates of the rest'),
  asymmetry: numberField(
    0,
    { least: 0, most: 1 },
    'share of the error of earlier layers that is corrected too (GPTAQ: 1)',
  ),
};

const hqq = {
  iterations: wholeField(20, { least: 1, most: 10000 }, 'rounds of the solver'),
  norm: numberField(0.7, { least: 0, most: 1, above: true }, 'p of the norm |W − Ŵ|ᵖ that is made small'),
};

const imatrix = {
  file: textField('read importances from this file of llama.cpp instead of measuring them'),
  save: textField('write the importances to this file'),
};

export const steps = {
  rotate: {
    phase: 'transform',
    doc: 'rotates activations and weights so that outliers spread (QuaRot, MR-GPTQ)',
    fields: rotate,
    calibrated: false,
    settle: settleRotation,
  },
  smooth: {
    phase: 'transform',
    doc: 'moves outliers from activations into weights (SmoothQuant)',
    fields: smooth,
    calibrated: true,
  },
  awq: {
    phase: 'transform',
    doc: 'scales up the weights of large activations, searched by output error (AWQ)',
    fields: awq,
    calibrated: true,
  },
  clip: { phase: 'clip', doc: 'narrows ranges by output error (AWQ)', fields: clip, calibrated: true },
  gptq: {
    phase: 'solve',
    doc: 'rounds column by column and corrects the rest',
    fields: gptq,
    calibrated: true,
    settle: settleOrder,
  },
  hqq: {
    phase: 'solve',
    doc: 'fits zero points to a sparse norm of the error; no text needed',
    fields: hqq,
    calibrated: false,
  },
  imatrix: {
    phase: 'round',
    doc: "weights of the rounding error by each input's mean square (llama.cpp)",
    fields: imatrix,
    calibrated: true,
  },
  rtn: { phase: 'round', doc: 'rounds to nearest', fields: {}, calibrated: false },
} as const satisfies Record<string, StepRule>;

export type StepName = keyof typeof steps;
export const stepNames = Object.keys(steps) as StepName[];

export type StepOptions = { readonly [N in StepName]: Values<(typeof steps)[N]['fields']> };
/** One step with all its options: a map with its name as the only key. */
export type Step = { readonly [N in StepName]: { readonly [K in N]: StepOptions[K] } }[StepName];

export const stepRule = (name: StepName): StepRule => steps[name];
export const stepName = (step: Step): StepName => Object.keys(step)[0] as StepName;

/** By importance alone columns leave their groups, whose scales must then be there before. */
function settleOrder(given: Record<string, unknown>, place: Place): void {
  if (given.order !== 'activation' || given.staticGroups !== false) return;
  throw wrongAt(inside(place, 'staticGroups'), {
    problem: 'the order by activation needs static groups',
    fix: 'leave out staticGroups, or take the order group',
  });
}

/** Blocks on every layer's input leave nothing for the other rotations. */
function settleRotation(given: Record<string, unknown>, place: Place): void {
  const block = (given.block as number | undefined) ?? 0;
  if (block === 0) return;
  const at = inside(place, 'block');
  if (block < 2 || 2 ** Math.round(Math.log2(block)) !== block)
    throw wrongValue(at, block, 'a power of two such as 128, or 0');
  const off: Record<string, unknown> = { residual: 'none', value: false, down: 'none', out: 'none' };
  for (const [key, value] of Object.entries(off)) {
    if (given[key] !== undefined && given[key] !== value)
      throw wrongAt(inside(place, key), {
        problem: `block rotates the input of every layer, which leaves nothing for ${key}`,
        fix: `leave out ${key} or block`,
      });
    given[key] = value;
  }
}
