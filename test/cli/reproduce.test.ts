// subbyte reproduce: every reproduction runs, what it must show holds, and the report is whole.

import { access, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Claim, Correction } from '../../src/report/reproduction.ts';
import { inTemporaryFolder, subbyte } from './run-cli.ts';

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
    expect(JSON.parse(list.stdout).reproductions.map((r: { name: string }) => r.name)).toEqual(Object.keys(must));
    const wrong = await subbyte(['reproduce', 'fp-law', 'qat', '--json']);
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout).error).toMatchObject({ code: 'unknown-reproduction', got: '"qat"' });
  });
});
