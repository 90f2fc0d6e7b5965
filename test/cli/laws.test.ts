// subbyte laws: predict, fit, compare and plan as a user runs them, and what they say about bad data.

import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { chinchilla } from '../../src/laws/chinchilla.ts';
import { floatingPoint, floatingPointPublished } from '../../src/laws/floating-point.ts';
import { predict } from '../../src/laws/law.ts';
import { qatBase, qatGap, qatPublished } from '../../src/laws/qat.ts';
import { inTemporaryFolder, root, subbyte } from './run-cli.ts';

const runs = path.join(root, 'reproduce/data/quartet-runs.csv');
const first = ['--where', 'source=quartet', '--where', 'note=fit_v1'];
const bf16 = [...first, '--where', 'fwd=BF16', '--where', 'bwd=BF16'];

async function json(args: string[]) {
  const run = await subbyte(['laws', ...args, '--json']);
  expect(run.code, run.stdout).toBe(0);
  return JSON.parse(run.stdout);
}

async function failure(args: string[]): Promise<{ code: number | null; message: string }> {
  const { code, stderr, stdout } = await subbyte(['laws', ...args]);
  expect(stdout).toBe('');
  return { code, message: stderr.trim().split('\n').at(-1) as string };
}

describe('laws', () => {
  it('lists the laws with formulae, parameters and sources', async () => {
    const { laws } = await json([]);
    expect(laws.map((l: { id: string }) => l.id)).toEqual([
      'chinchilla',
      'outer-exponent',
      'quartet',
      'quest',
      'qat',
      'floating-point',
      'precision',
    ]);
    expect(laws[4]).toMatchObject({ predicts: 'gap', needs: ['n', 'd', 'group'] });
  });

  it('predicts what W4A4 with groups of 32 costs', async () => {
    const result = await json(['predict', 'qat', '--n', '1B', '--d', '100B', '--group', '32']);
    expect(result.predicted).toBeCloseTo(0.0394, 4);
    expect(result.loss).toBeCloseTo(2.664 + 0.0394, 3);
    expect(result.criticalTokens).toBeGreaterThan(1e14);
  });

  it('fits, writes the fit and a plot, and predicts from the fit with its interval', async () => {
    await inTemporaryFolder(async (folder) => {
      const [fit, plot] = ['fit.json', 'fit.svg'].map((f) => path.join(folder, f));
      const args = ['fit', 'outer-exponent', runs, ...bf16, '--huber', '1e-4', '--bootstrap', '40'];
      const result = await json([...args, '--out', fit, '--plot', plot, '--hold-out', 'n>3e8']);
      expect(result.values.alpha).toBeCloseTo(0.5886, 4);
      expect(result.intervals.alpha[0]).toBeLessThan(0.5886);
      expect(result.holdOut.meanError).toBeLessThan(0.01);
      expect(result.holdOut.reach.n).toBeGreaterThan(4);
      expect(await readFile(plot, 'utf8')).toContain('D, training tokens');
      const predicted = await json(['predict', '--fit', fit, '--n', '1B', '--d', '100B']);
      expect(predicted.interval[0]).toBeLessThan(predicted.predicted);
      expect(predicted.interval[1]).toBeGreaterThan(predicted.predicted);
      const plan = await json(['plan', '--fit', fit, '--flop', '1e20', '--formats', 'bf16,fp8']);
      expect(plan.plans.map((p: { scheme: string }) => p.scheme)).toEqual(['fp8:fp8', 'bf16:bf16']);
      const other = await failure(['predict', 'qat', '--fit', fit, '--n', '1B', '--d', '1T']);
      expect(other.message).toMatch(/the file holds a fit of another law, got outer-exponent, expected qat/);
      await writeFile(fit, '{"kind":"subbyte law fit 1","law":"outer-exponent","values":{"A":1}}');
      expect((await failure(['predict', '--fit', fit, '--n', '1B', '--d', '1T'])).message).toContain(
        'parameter alpha has no finite value',
      );
      await writeFile(fit, 'A=1');
      expect((await failure(['predict', '--fit', fit, '--n', '1B', '--d', '1T'])).code).toBe(2);
    });
  });

  it('names the diverged run and leaves it out', async () => {
    const args = ['fit', 'quartet', runs, ...first, '--where', 'fwd=AlbertTsengQuantizer', '--where', 'bwd=BF16'];
    const run = await subbyte(['laws', ...args, '--base', 'quartet', '--huber', '1e-4', '--bootstrap', '0']);
    expect(run.code).toBe(0);
    expect(run.stderr).toContain('line 77 of quartet-runs.csv was left out: loss 3.38471 after 2.40e+10 tokens');
    expect(run.stdout).toMatch(/effN\(AlbertTsengQuantizer\) +0\.438/);
  });

  it('says when a fit mixes formats or losses that cannot be compared', async () => {
    const { warnings } = await json(['fit', 'chinchilla', runs, '--bootstrap', '0']);
    expect(warnings[0]).toMatch(/the law chinchilla does not tell the runs' \d+ formats apart: QuEST:BF16, .* --where/);
    expect(warnings[1]).toMatch(/the runs have 2 values of corpus: llama-c4, massivetext; choose with --where/);
    const clean = await json(['fit', 'chinchilla', runs, ...bf16, '--bootstrap', '0']);
    expect(clean.warnings.join()).not.toContain('--where');
  });

  it('fits gaps to twins from JSONL', async () => {
    await inTemporaryFolder(async (folder) => {
      const file = path.join(folder, 'w4a4.jsonl');
      const truth = qatPublished.w4a4.values;
      const lines = [1e8, 3e8, 1e9].flatMap((n) =>
        [1e10, 1e11].flatMap((d) => {
          const base = predict(chinchilla, qatBase.values, { n, d });
          const quantized = [32, 128].map((group) => ({
            n_params: n,
            d_tokens: d,
            fwd: 'int4',
            group_size: group,
            loss: base + predict(qatGap, truth, { n, d, group }),
          }));
          return [{ n_params: n, d_tokens: d, fwd: 'BF16', loss: base }, ...quantized];
        }),
      );
      await writeFile(file, lines.map((line) => JSON.stringify(line)).join('\n'));
      const { values, runs: count } = await json(['fit', 'qat', file, '--bootstrap', '0']);
      expect(count).toBe(12);
      for (const [name, value] of Object.entries(truth)) expect(values[name] / value, name).toBeCloseTo(1, 6);
    });
  });

  it('keeps losses that rise with tokens for a law that has them rise, and gaps as they are', async () => {
    await inTemporaryFolder(async (folder) => {
      const [losses, gaps, bare] = ['fp.json', 'gap.csv', 'int4.csv'].map((f) => path.join(folder, f));
      const layouts = [
        [1, 1, 32],
        [1, 1, 128],
        [1, 2, 128],
        [2, 1, 128],
        [4, 3, 128],
      ];
      const rows = [4e7, 1.5e8, 6.8e8].flatMap((n) =>
        [1e10, 5e10, 1e11].flatMap((d) =>
          layouts.map(([e, m, block]) => ({
            n_params: n,
            d_tokens: d,
            e_bits: e,
            m_bits: m,
            block_size: block,
            loss: predict(floatingPoint, floatingPointPublished.values, {
              n,
              d,
              exponentBits: e,
              mantissaBits: m,
              block,
            }),
          })),
        ),
      );
      await writeFile(losses, JSON.stringify({ runs: rows }));
      const fitted = await json(['fit', 'floating-point', losses, '--bootstrap', '0']);
      expect(fitted).toMatchObject({ runs: 45, excluded: [] });
      expect(fitted.values.delta).toBeCloseTo(3.1926, 3);
      const lines = [7e7, 3e8, 6e8].flatMap((n) =>
        [1e10, 1e12].flatMap((d) =>
          [32, 1024].map((g) => `${n},${d},${g},${predict(qatGap, qatPublished.w16a4.values, { n, d, group: g })}`),
        ),
      );
      await writeFile(gaps, `n_params,d_tokens,group_size,gap\n${lines.join('\n')}\n`);
      const gap = await json(['fit', 'qat', gaps, '--bootstrap', '0']);
      expect(gap).toMatchObject({ runs: 12, excluded: [] });
      expect(gap.values.gammaG).toBeCloseTo(0.9812, 4);
      await writeFile(bare, 'n_params,d_tokens,fwd,group_size,loss\n1e8,1e10,INT4,32,3.1\n2e8,1e10,INT4,32,3\n');
      expect((await failure(['fit', 'qat', bare])).message).toMatch(
        /these look like losses, not gaps to unquantized runs; add the BF16 runs of equal n and d/,
      );
      expect((await failure(['fit', 'qat', runs, ...bf16])).message).toMatch(/no quantized run has a BF16 twin/);
    });
  });

  it('compares laws: the outer exponent describes the BF16 runs better, and says what cannot be fitted', async () => {
    const { laws } = await json([
      'compare',
      runs,
      ...bf16,
      '--hold-out',
      'n>3e8',
      '--laws',
      'chinchilla,outer-exponent,precision',
    ]);
    expect(laws[0].law).toBe('outer-exponent');
    expect(laws[1].fit.bic - laws[0].fit.bic).toBeGreaterThan(10);
    expect(laws[0].heldOut.meanError).toBeLessThan(laws[1].heldOut.meanError);
    expect(laws[2].problem).toContain('lacks cacheBits');
  });

  it('plans for a compute, and draws the regions', async () => {
    await inTemporaryFolder(async (folder) => {
      const plot = path.join(folder, 'regions.png');
      const result = await json(['plan', '--flop', '1e22', '--plot', plot]);
      expect(result.plans).toHaveLength(7);
      expect(result.plans.every((p: { interval: number[] }) => p.interval[0] < p.interval[1])).toBe(true);
      expect((await readFile(plot)).subarray(1, 4).toString()).toBe('PNG');
      const own = await json(['plan', '--flop', '1e22', '--speed', 'mxfp4=1,fp8=1.1']);
      expect(own.speeds).toMatchObject({ mxfp4: 1, fp8: 1.1, int8: 2 });
      const four = (plans: { scheme: string; loss: number }[]) => plans.find((p) => p.scheme === 'mxfp4:mxfp4')?.loss;
      expect(four(own.plans)).toBeGreaterThan(four(result.plans) as number);
    });
  });

  it('splits bits', async () => {
    const { layouts } = await json(['plan', '--bits', '8', '--block', '128', '--n', '1B']);
    expect(layouts[0]).toMatchObject({ exponentBits: 4, mantissaBits: 3, quality: 1 });
    expect(layouts[0].criticalTokens / 1e12).toBeCloseTo(27.3, 1);
  });
});

describe('laws on data that say nothing', () => {
  const header = 'n_params,d_tokens,loss\n';
  const rows = (list: [number, number, number | string][]) => header + list.map((r) => r.join(',')).join('\n');
  it.each([
    [
      'too few runs',
      rows([
        [1e8, 2e9, 3.2],
        [2e8, 4e9, 3.1],
      ]),
      1,
      /too few runs, got 2 runs for 5 free parameters, expected at least 6; add runs or freeze/,
    ],
    [
      'one size only',
      rows([1, 2, 4, 8, 16, 32].map((k) => [1e8, k * 1e9, 4 - k / 20])),
      1,
      /all runs have the same n, so alpha cannot be fitted/,
    ],
    [
      'a loss that is not a number',
      rows([[1e8, 2e9, 'nan']]),
      2,
      /the loss at line 2 is no loss, got NaN.*set diverged to true for this run or remove it/,
    ],
    ['sizes in millions', rows([[100, 2e9, 3]]), 1, /looks like millions or billions, got 100/],
    ['tokens in billions', rows([[1e8, 20, 3]]), 1, /looks like millions or billions, got 20/],
    ['a perplexity', rows([[1e8, 2e9, 24.5]]), 2, /looks like a perplexity, got 24.5.*take its natural logarithm/],
    ['no runs', header, 2, /the file holds no runs/],
  ] as const)('%s', async (_, text, code, message) => {
    await inTemporaryFolder(async (folder) => {
      const file = path.join(folder, 'runs.csv');
      await writeFile(file, text);
      const found = await failure(['fit', 'chinchilla', file]);
      expect(found.message).toMatch(message);
      expect(found.code).toBe(code);
    });
  });

  it.each([
    [['fit', 'chinchila', runs], /there is no such law, got "chinchila", expected chinchilla, outer-exponent/],
    [['fit', 'chinchilla', '/no/such.csv'], /no such file or folder \(file \/no\/such.csv\)/],
    [
      ['fit', 'chinchilla', runs, '--where', 'colour=red'],
      /no run has the column colour, got "colour=red", expected n, d, loss/,
    ],
    [['fit', 'chinchilla', runs, '--where', 'n>1e13'], /no run is left, got 566 runs before --where/],
    [['fit', 'chinchilla', runs, '--freeze', 'E'], /--freeze has no name and value, got "E", expected E=1.8/],
    [['fit', 'chinchilla', runs, '--plot', 'fit.pdf'], /cannot be written to a file of this kind, got "fit.pdf"/],
    [['predict', 'outer-exponent', '--n', '7', '--d', '2T'], /n .* looks like millions or billions, got 7/],
    [
      ['predict', 'outer-exponent', '--n', '7Q', '--d', '2T'],
      /not a count, got "7Q"; give a number such as 7e9, 7B or 1.5T/,
    ],
    [['predict', 'precision', '--n', '7B', '--d', '2T'], /there are no published coefficients of this law/],
    [['predict', 'qat', '--n', '7B', '--d', '2T'], /lacks group; give group for every run/],
    [['plan'], /the budget leaves size or tokens open; give --flop, or --memory with --d/],
    [['plan', '--flop', '12'], /--flop is no compute of a training, got 12/],
    [['plan', '--flop', '1e21', '--speed', 'fp8'], /--speed is no format and speed-up, got "fp8"/],
    [['plan', '--bits', '1'], /--bits or --block is out of range/],
  ])('%s', async (args, message) => {
    const found = await failure(args);
    expect(found.message).toMatch(message);
    expect(found.code).toBe(1);
  });
});
