// subbyte reproduce: every reproduction runs, what it must show holds, and the report is whole.

import { access, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Claim, Correction } from '../../src/report/reproduction.ts';
import { inTemporaryFolder, subbyte, withoutVega } from './run-cli.ts';

interface Result {
  name: string;
  claims: Claim[];
  corrections: Correction[];
  holds: number;
  withinNoise: number;
  doesNotHold: number;
  files: string[];
}

const must: Record<string, RegExp[]> = {
  'quartet-law': [
    /^base, A$/,
    /^base, gamma$/,
    /^effN, forward QuEST, backward Albert.* 8 runs/,
    /all 21 runs/,
    /Chinchilla refit, objective/,
    /diverged run is flagged/,
  ],
  'qat-law': [/^w4a4, noise 0.001 nats: gammaN/, /^w16a4, noise 0.002 nats: gammaG/, /^gap of w4a4 at 7/],
  'fp-law': [/critical tokens, 1B, B = 128, E2M1/, /E4M3$/, /BF16$/, /^best layouts of 3 to 10 bits/],
  'int-vs-fp': [
    /^crossover of MXINT8 .* crest/,
    /^crossover of NVINT4/,
    /^QSNR of NVFP4, laplace/,
    /^MXINT8 keeps every input/,
    /BF16 arithmetic/,
  ],
};

describe('reproduce', () => {
  it.each(Object.keys(must))('%s', { timeout: 240_000 }, async (name) => {
    await inTemporaryFolder(async (folder) => {
      const run = await subbyte(['reproduce', name, '--out', folder, '--json']);
      expect(run.stderr).toBe('');
      expect(run.code).toBe(0);
      const [result] = JSON.parse(run.stdout).reports as Result[];
      expect(result.claims.filter((c) => c.verdict === 'does not hold')).toEqual([]);
      expect(result.holds + result.withinNoise).toBe(result.claims.length);
      expect(result.withinNoise).toBeLessThan(0.15 * result.claims.length);
      for (const claim of must[name])
        expect(
          result.claims.some((c) => claim.test(c.claim)),
          String(claim),
        ).toBe(true);
      expect(result.corrections.length).toBeGreaterThanOrEqual(3);
      for (const { evidence } of result.corrections) expect(evidence).not.toMatch(/NaN|undefined/);
      const report = await readFile(path.join(folder, name, 'report.md'), 'utf8');
      expect(report).toContain('## What is printed wrongly');
      expect(report).toContain(`| ${result.claims[0].claim} |`);
      expect(report).not.toMatch(/NaN|undefined/);
      const pictures = [...report.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)].map((m) => m[1]);
      expect(pictures.length).toBeGreaterThanOrEqual(2);
      for (const picture of pictures) await access(path.join(folder, name, picture));
      expect(result.files.filter((f) => f.endsWith('.png'))).toHaveLength(pictures.length);
    });
  });

  it('lists what there is, and names it for a wrong name before any work', async () => {
    const list = await subbyte(['reproduce', '--json']);
    expect(JSON.parse(list.stdout).reproductions.map((r: { name: string }) => r.name)).toEqual([
      ...Object.keys(must),
      'quartet',
    ]);
    const wrong = await subbyte(['reproduce', 'fp-law', 'qat', '--json']);
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout).error).toMatchObject({ code: 'unknown-reproduction', got: '"qat"' });
  });

  it('quartet: stops at a time limit, goes on, and reports what holds', { timeout: 240_000 }, async () => {
    await inTemporaryFolder(async (folder) => {
      const args = ['reproduce', 'quartet', '--out', folder, '--json', '--seeds', '2', '--set', 'steps=8'];
      const study = [...args, '--schemes', 'quartet,backward-sr,backward-rtn'];
      const stopped = await subbyte([...study, '--time-limit', '0']);
      expect(stopped.code).toBe(0);
      const [before] = JSON.parse(stopped.stdout).reports as (Result & { unfinished?: string })[];
      expect(before.unfinished).toBe('0 of 12 trainings are done; run the same command again to go on');
      const run = await subbyte(study);
      expect(run.stderr).toBe('');
      const { reports, ...all } = JSON.parse(run.stdout) as { reports: (Result & { unfinished?: string })[] };
      const [result] = reports;
      const { holds, withinNoise, doesNotHold } = result;
      expect(all).toEqual({ holds, withinNoise, doesNotHold });
      expect(holds + withinNoise + doesNotHold).toBe(result.claims.length);
      expect(result.unfinished).toBeUndefined();
      // 8 steps order nothing; what needs no training must hold
      expect(before.claims.filter((c) => c.verdict !== 'holds')).toEqual([]);
      expect(before.claims.length).toBeGreaterThan(20);
      expect(result.claims.slice(-before.claims.length)).toEqual(before.claims);
      for (const claim of [/^all losses stay finite/, /^2. backward: RTN/, /^3. backward: SR catches up/])
        expect(
          result.claims.some((c) => claim.test(c.claim)),
          String(claim),
        ).toBe(true);
      const report = await readFile(path.join(folder, 'quartet/report.md'), 'utf8');
      expect(report).not.toMatch(/NaN|undefined|Not finished/);
      const pictures = [...report.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)].map((m) => m[1]);
      expect(pictures).toEqual(['gaps.svg', 'rounding-bias.svg', 'gradient-bias.svg', 'depth.svg']);
      for (const picture of pictures) await access(path.join(folder, 'quartet', picture));
    });
  });

  it('quartet: a claim that does not hold closes the gate of --strict, and no other', {
    timeout: 240_000,
  }, async () => {
    await inTemporaryFolder(async (folder) => {
      // 4 steps with and without clipping differ by far less than the 0.1 nats that the paper has after a whole training
      const args = ['reproduce', 'quartet', '--out', folder, '--seeds', '2', '--set', 'steps=4', '--schemes'];
      const lenient = await subbyte([...args, 'backward-quest']);
      expect(lenient.code).toBe(0);
      const count = /^(\d+) claims: (\d+) hold, (\d+) within noise, (\d+) do not hold$/;
      const last = count.exec(lenient.stdout.trimEnd().split('\n').at(-1)!);
      const [all, holds, withinNoise, doesNotHold] = (last ?? []).slice(1).map(Number);
      expect(doesNotHold).toBeGreaterThan(0);
      expect(holds + withinNoise + doesNotHold).toBe(all);
      expect(lenient.stderr).toMatch(/trained +\S+, seed [01], 4 steps: loss \d\.\d+, .*\(4 of 4\)/);

      const strict = await subbyte([...args, 'backward-quest', '--strict', '--json']);
      expect(strict.code).toBe(4);
      const document = JSON.parse(strict.stdout);
      expect(document).toMatchObject({ holds, withinNoise, doesNotHold });
      expect(document.error).toMatchObject({ code: 'claims-fail', exitCode: 4, kind: 'gate' });
      expect(document.error.message).toContain('2. backward: the clipping quantizer loses over 0.1');

      const none = await subbyte([...args, 'forward-rtn', '--strict', '--time-limit', '0']);
      expect([none.code, none.stdout.trimEnd().endsWith(' 0 do not hold')]).toEqual([0, true]);
    });
  });

  it('quartet: a report without pictures where nothing can be drawn, drawn by a later call', {
    timeout: 120_000,
  }, async () => {
    await inTemporaryFolder(async (folder) => {
      const args = ['reproduce', 'quartet', '--out', folder, '--seeds', '1', '--set', 'steps=2', '--schemes', 'quest'];
      const bare = await subbyte([...args, '--quiet'], { env: withoutVega });
      expect(bare.stderr).toMatch(/^ {2}note {9}plot: the package vega is not installed[^\n]*\n$/);
      expect(bare.code).toBe(0);
      const study = path.join(folder, 'quartet');
      const plots = ['gaps', 'rounding-bias', 'gradient-bias', 'depth'];
      expect((await readdir(study)).filter((name) => /\.(svg|png)$/.test(name))).toEqual([]);
      for (const name of plots) JSON.parse(await readFile(path.join(study, `${name}.json`), 'utf8'));
      const runs = await readFile(path.join(study, 'runs.jsonl'), 'utf8');

      const drawn = await subbyte([...args, '--time-limit', '0', '--json']);
      expect(drawn.stderr).toBe('');
      expect(await readFile(path.join(study, 'runs.jsonl'), 'utf8')).toBe(runs);
      for (const name of plots) await access(path.join(study, `${name}.svg`));
    });
  });

  it('refuses the options of a study for what trains nothing', async () => {
    const { code, stdout } = await subbyte(['reproduce', 'fp-law', '--time-limit', '3', '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error).toMatchObject({
      code: 'not-a-study',
      problem: expect.stringContaining('--time-limit'),
    });
  });
});
