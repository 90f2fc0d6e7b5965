// Rotary position embeddings as the config describes them.
//
// Problem: Llama-style configs give one base frequency and one of several rescalings for longer contexts, in two
// spellings: `rope_theta` + `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5).
// Method: pair i of the R rotated dimensions turns by position · θ_i, θ_i = base^(−2i/R), rescaled by
//   linear  θ/factor
//   llama3  θ where the wavelength is short, θ/factor where it is long, a blend between the two wavelengths
//           original/high and original/low (Llama 3.1 reference code, apply_scaling)
//   yarn    a blend by the number of turns within the original context, between betaFast and betaSlow turns
//           (Peng et al. 2023, arXiv:2309.00071, section 3.2), and cos/sin multiplied by a magnitude
// It does not do: dynamic NTK and LongRoPE, whose frequencies depend on the length of the text; they are an error.

import { modelError } from '../errors.ts';
import { type Fields, type Place, problem } from './fields.ts';

export type RopeScaling =
  | { kind: 'default' }
  | { kind: 'linear'; factor: number }
  | { kind: 'llama3'; factor: number; lowFrequency: number; highFrequency: number; originalPositions: number }
  | {
      kind: 'yarn';
      factor: number;
      betaFast: number;
      betaSlow: number;
      originalPositions: number;
      magnitude: number;
      truncate: boolean;
    };

export interface RopeConfig {
  base: number;
  /** R, the first dimensions of a head that are rotated. */
  dimensions: number;
  scaling: RopeScaling;
}

/** θ_0 … θ_(R/2−1) in radians a position, rounded to f32 from f64 arithmetic. */
export function inverseFrequencies(rope: RopeConfig): Float32Array {
  const half = rope.dimensions / 2;
  const { scaling } = rope;
  const ramp = scaling.kind === 'yarn' ? yarnRamp(rope, scaling) : undefined;
  return Float32Array.from({ length: half }, (_, i) => {
    const theta = rope.base ** ((-2 * i) / rope.dimensions);
    if (scaling.kind === 'linear') return theta / scaling.factor;
    if (scaling.kind === 'llama3') {
      const wavelength = (2 * Math.PI) / theta;
      if (wavelength < scaling.originalPositions / scaling.highFrequency) return theta;
      if (wavelength > scaling.originalPositions / scaling.lowFrequency) return theta / scaling.factor;
      const share =
        (scaling.originalPositions / wavelength - scaling.lowFrequency) /
        (scaling.highFrequency - scaling.lowFrequency);
      return ((1 - share) * theta) / scaling.factor + share * theta;
    }
    if (scaling.kind === 'yarn') {
      const slow = ramp!(i); // 0: many turns, keep; 1: less than one turn, interpolate
      return theta * (1 - slow) + (theta / scaling.factor) * slow;
    }
    return theta;
  });
}

/** What cos and sin are multiplied by: 1 except for yarn. */
export function ropeMagnitude(rope: RopeConfig): number {
  return rope.scaling.kind === 'yarn' ? rope.scaling.magnitude : 1;
}

/** Share of interpolation of pair i: 0 below the pair that turns betaFast times, 1 above the one of betaSlow turns. */
function yarnRamp(rope: RopeConfig, s: RopeScaling & { kind: 'yarn' }): (i: number) => number {
  const pairOfTurns = (turns: number) =>
    (rope.dimensions * Math.log(s.originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(rope.base));
  const round = s.truncate ? { down: Math.floor, up: Math.ceil } : { down: (x: number) => x, up: (x: number) => x };
  const low = Math.max(round.down(pairOfTurns(s.betaFast)), 0);
  let high = Math.min(round.up(pairOfTurns(s.betaSlow)), rope.dimensions - 1);
  if (high === low) high += 0.001; // a step, not a division by zero
  return (i) => Math.min(Math.max((i - low) / (high - low), 0), 1);
}

/**
 * Reads base and scaling in either spelling; `defaultBase` is the family's. `maxPositions` is the context after
 * scaling, which yarn falls back to for its original context.
 */
export function parseRope(f: Fields, headDim: number, defaultBase: number, maxPositions: number): RopeConfig {
  const inner = f.object('rope_parameters') ?? f.object('rope_scaling');
  const base = inner?.optionalPositive('rope_theta') ?? f.optionalPositive('rope_theta') ?? defaultBase;
  const partial = inner?.optionalPositive('partial_rotary_factor') ?? f.optionalPositive('partial_rotary_factor') ?? 1;
  const dimensions = Math.trunc(headDim * partial);
  if (dimensions < 2 || dimensions % 2 !== 0 || dimensions > headDim)
    throw problem(f.place, 'partial_rotary_factor', `rotates ${dimensions} of ${headDim} dimensions`, 'an even number');
  return { base, dimensions, scaling: inner ? parseScaling(inner, f.place, maxPositions) : { kind: 'default' } };
}

function parseScaling(f: Fields, place: Place, maxPositions: number): RopeScaling {
  const kind = f.optionalText('rope_type') ?? f.optionalText('type') ?? 'default';
  switch (kind) {
    case 'default':
      return { kind };
    case 'linear':
      return { kind, factor: f.positive('factor') };
    case 'llama3': {
      const lowFrequency = f.positive('low_freq_factor');
      const highFrequency = f.positive('high_freq_factor');
      if (highFrequency <= lowFrequency)
        throw problem(place, 'high_freq_factor', highFrequency, `more than low_freq_factor ${lowFrequency}`);
      const originalPositions = f.positive('original_max_position_embeddings');
      return { kind, factor: f.positive('factor'), lowFrequency, highFrequency, originalPositions };
    }
    case 'yarn': {
      const factor = f.positive('factor');
      const temperature = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
      const mscale = f.optionalPositive('mscale');
      const mscaleAll = f.optionalPositive('mscale_all_dim');
      return {
        kind,
        factor,
        betaFast: f.optionalPositive('beta_fast') ?? 32,
        betaSlow: f.optionalPositive('beta_slow') ?? 1,
        originalPositions: f.optionalPositive('original_max_position_embeddings') ?? maxPositions,
        magnitude:
          f.optionalPositive('attention_factor') ??
          (mscale && mscaleAll ? temperature(mscale) / temperature(mscaleAll) : temperature(1)),
        truncate: f.optionalFlag('truncate') ?? true,
      };
    }
    default:
      throw modelError({
        code: 'config-rope-type',
        op: 'config',
        problem: `rope scaling '${kind}' is not supported`,
        expected: 'default, linear, llama3 or yarn',
        file: place.file,
        fix: 'remove the scaling from config.json to run within the original context',
      });
  }
}
