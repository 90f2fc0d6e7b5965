// The orderings of the paper, checked on the losses of the study.
//
// Each is a difference of two schemes' validation losses, paired by seed, and holds when its 90 % interval lies on the
// stated side. Where a training diverged there is no difference: the scheme that did is the worse one.

import type { Claim } from '../../src/report/reproduction.ts';
import { type Interval, interval, intervalClaim, isAbove, isBelow, isBetween } from '../../src/report/statistics.ts';
import type { RecipeName } from '../../src/train/recipes/registry.ts';
import type { FinishedRun } from './finished.ts';
import { baseline } from './settings.ts';

/** Losses by scheme and seed, of trainings of one length. */
export class Losses {
  readonly #runs: readonly FinishedRun[];

  constructor(runs: readonly FinishedRun[], steps: number) {
    this.#runs = runs.filter((run) => run.steps === steps);
  }

  of(scheme: RecipeName): FinishedRun[] {
    return this.#runs.filter((run) => run.scheme === scheme);
  }

  /** Σ factor · loss of each scheme, for the seeds that all have finished with a finite loss. */
  combined(factors: Partial<Record<RecipeName, number>>): number[] {
    const schemes = Object.entries(factors) as [RecipeName, number][];
    const losses = schemes.map(([scheme]) => new Map(this.of(scheme).map((run) => [run.seed, run.loss])));
    return [...losses[0].keys()].flatMap((seed) => {
      const found = losses.map((bySeed) => bySeed.get(seed));
      if (!found.every((loss) => typeof loss === 'number')) return [];
      return [found.reduce((sum, loss, i) => sum + loss * schemes[i][1], 0)];
    });
  }

  /** How much more the first has lost than the second. */
  gap(scheme: RecipeName, from: RecipeName = baseline): number[] {
    return this.combined({ [scheme]: 1, [from]: -1 });
  }

  diverged(scheme: RecipeName): number {
    return this.of(scheme).filter((run) => run.loss === null).length;
  }
}

/** Claims for the schemes that have finished trainings. */
export function orderingClaims(long: Losses, short: Losses): Claim[] {
  const worse = (claim: string, bad: RecipeName, good: RecipeName, least = 0) =>
    worseClaim(claim, long, bad, good, least);
  const close = (claim: string, scheme: RecipeName) =>
    claimOf(claim, 'below 0.02', long.gap(scheme), (found) => isBelow(found, 0.02));
  return [
    worse('1. forward: QuEST loses less than RTN absmax', 'forward-rtn', 'quest'),
    worse('1. forward: RTN absmax loses less than SR', 'forward-sr', 'forward-rtn'),
    worse('1. forward: SR loses over 0.01 more than RTN absmax', 'forward-sr', 'forward-rtn', 0.01),
    close('2. backward: SR is close to BF16', 'backward-sr'),
    close('2. backward: RTN is close to BF16', 'backward-rtn'),
    worse('2. backward: the clipping quantizer loses more than SR', 'backward-quest', 'backward-sr'),
    worse('2. backward: the clipping quantizer loses over 0.1', 'backward-quest', baseline, 0.1),
    worse('3. backward, short training: SR loses more than RTN', 'backward-sr', 'backward-rtn'),
    catchingUp(long, short),
    worse('4. the forward gap is the larger one: QuEST forward loses more than SR backward', 'quest', 'backward-sr'),
    worse('Quartet loses more than its forward half', 'quartet', 'quest'),
    worse('Quartet loses less than SR in the forward pass alone', 'forward-sr', 'quartet'),
    claimOf(
      'the gap of Quartet is the sum of the gaps of its halves',
      'difference within ±0.01',
      long.combined({ quartet: 1, quest: -1, 'backward-sr': -1, [baseline]: 1 }),
      (found) => isBetween(found, [-0.01, 0.01]),
    ),
    worse(
      'scales rounded down lose more than to nearest in short trainings (published for real scales)',
      'quartet',
      'quartet-nearest',
    ),
    worse('signs after the transform lose more than before it', 'quartet-signs-last', 'quartet'),
  ].flatMap((claim) => claim ?? []);
}

function worseClaim(
  claim: string,
  losses: Losses,
  bad: RecipeName,
  good: RecipeName,
  least: number,
): Claim | undefined {
  const expected = least === 0 ? 'above 0' : `above ${least}`;
  if (losses.of(bad).length === 0 || losses.of(good).length === 0) return undefined;
  const [lost, kept] = [losses.diverged(bad), losses.diverged(good)];
  if (lost + kept > 0)
    return {
      claim,
      expected,
      found: `diverged: ${lost} of ${losses.of(bad).length} and ${kept} of ${losses.of(good).length}`,
      verdict: lost > kept ? 'holds' : lost === kept ? 'within noise' : 'does not hold',
      note: `trainings of ${bad} and of ${good} whose loss stopped being finite`,
    };
  return claimOf(claim, expected, losses.gap(bad, good), (found) => isAbove(found, least));
}

/** Undefined where no seed has all the trainings that the values come from. */
function claimOf(
  claim: string,
  expected: string,
  values: readonly number[],
  verdict: (found: Interval) => Claim['verdict'],
) {
  if (values.length === 0) return undefined;
  const found = interval(values);
  return intervalClaim(claim, expected, found, verdict(found), 'seeds');
}

/** What SR loses on RTN shrinks with the length of the training. */
function catchingUp(long: Losses, short: Losses): Claim | undefined {
  const [first, last] = [short, long].map((losses) => losses.gap('backward-sr', 'backward-rtn'));
  if (first.length === 0 || first.length !== last.length) return undefined;
  const found = interval(first.map((v, i) => v - last[i]));
  const claim = '3. backward: SR catches up with RTN from the short training to the long';
  return intervalClaim(claim, 'above 0', found, isAbove(found, 0), 'seeds');
}
