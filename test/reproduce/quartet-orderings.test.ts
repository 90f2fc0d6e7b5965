// What the Quartet study concludes from losses, and which trainings its options ask for.

import { describe, expect, it } from 'vitest';
import type { FinishedRun } from '../../reproduce/quartet/finished.ts';
import { Losses, orderingClaims } from '../../reproduce/quartet/orderings.ts';
import { readSettings } from '../../reproduce/quartet/settings.ts';
import type { StudyOptions } from '../../src/report/reproduction.ts';
import type { RecipeName } from '../../src/train/recipes/registry.ts';

function run(scheme: RecipeName, seed: number, loss: number | null): FinishedRun {
  const rest = { key: `${scheme} ${seed}`, steps: 10, tokens: 1, seconds: 1, memoryBytes: 1, device: '', curve: [] };
  return { scheme, seed, loss, ...rest };
}

describe('orderings', () => {
  const claims = (runs: FinishedRun[]) => {
    const found = orderingClaims(new Losses(runs, 10), new Losses(runs, 2));
    return new Map(found.map((claim) => [claim.claim, claim]));
  };
  const rtnBeatsSr = '1. forward: RTN absmax loses less than SR';

  it('are paired by seed: a spread that schemes share does not hide a difference', () => {
    const seeds = [3, 2, 1];
    const clear = claims(
      seeds.flatMap((loss, seed) => [
        run('forward-rtn', seed, loss),
        run('forward-sr', seed, loss + 0.05 + 0.001 * seed),
      ]),
    );
    expect(clear.get(rtnBeatsSr)).toMatchObject({ verdict: 'holds', found: '0.0510' });
    const vague = claims(
      seeds.flatMap((loss, seed) => [run('forward-rtn', seed, loss), run('forward-sr', seed, 2 + 0.01 * seed)]),
    );
    expect(vague.get(rtnBeatsSr)?.verdict).toBe('within noise');
  });

  it('count a training that diverged as the worse one, and say nothing of schemes that were not trained', () => {
    const found = claims(
      [0, 1].flatMap((seed) => [run('forward-rtn', seed, 2), run('forward-sr', seed, seed === 0 ? null : 2)]),
    );
    expect(found.get(rtnBeatsSr)).toMatchObject({ verdict: 'holds', found: 'diverged: 1 of 2 and 0 of 2' });
    expect([...found.keys()].every((claim) => claim.startsWith('1. forward'))).toBe(true);
  });
});

describe('settings', () => {
  it('train what says most first, for all seeds, and short trainings last', () => {
    const { runs, steps, shortSteps } = readSettings({ scale: 'h100', seeds: 2 }, 3);
    const names = runs.map((run) => `${run.scheme} ${run.seed} ${run.steps / steps}`);
    expect(names.slice(0, 3)).toEqual(['bf16 3 1', 'quartet 3 1', 'quest 3 1']);
    expect(names.slice(7, 9)).toEqual(['bf16 4 1', 'quartet 4 1']);
    expect(names.slice(-2)).toEqual([`backward-sr 4 ${shortSteps / steps}`, `backward-rtn 4 ${shortSteps / steps}`]);
    expect(new Set(names).size).toBe(2 * 13);
  });

  it.each<[StudyOptions, RegExp]>([
    [{ scale: 'huge' }, /--scale .*"huge", expected tiny or h100/],
    [{ schemes: ['quartt'] }, /--schemes .*"quartt".*quartet/],
    [{ seeds: 0 }, /--seeds .*from 1 to 1000/],
    [{ changes: { recipe: { use: 'f32' } } }, /--set .*recipe/],
    [{ changes: { steps: 0 } }, /steps is wrong/],
    [{ changes: { model: { width: 3 } } }, /width/],
  ])('%j is refused', (wrong, message) => {
    expect(() => readSettings(wrong, 0)).toThrow(message);
  });
});
