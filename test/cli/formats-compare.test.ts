// subbyte formats compare: random signals, a model, advice, and wrong requests.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { inTemporaryFolder, shippedModel, subbyte } from './run-cli.ts';

async function json(args: string[]) {
  const run = await subbyte(['formats', 'compare', ...args, '--json']);
  expect(run.code, run.stdout).toBe(0);
  return JSON.parse(run.stdout);
}

describe('formats compare', () => {
  it('recommends by crest factor', async () => {
    const better = async (...args: string[]) => (await json(args)).formats.map((f: { better: string }) => f.better);
    expect((await better('--crest', '2.96', '--granularity', '32')).slice(0, 3)).toEqual(['MXINT8', 'MXFP6', 'MXFP4']);
    expect((await better('--crest', '2.11')).at(-1)).toBe('NVINT4');
    expect((await better('--crest', '12', '--granularity', 'channel'))[0]).toBe('MXFP8');
  });

  it('simulates signals: coarser scales have larger crest factors and integers lose by them', async () => {
    await inTemporaryFolder(async (folder) => {
      const args = ['--samples', '65536', '--granularity', '16,32,128', '--signal', 'laplace', '--out', folder];
      const { rows, crossovers, clipping, files } = await json(args);
      expect(clipping.share.bf16).toBeCloseTo(0.168, 2);
      expect(rows).toHaveLength(12);
      const eight = rows.filter((r: { pair: string }) => r.pair === 'mx8');
      expect(eight[0].crest).toBeLessThan(eight[1].crest);
      expect(eight[1].crest).toBeLessThan(eight[2].crest);
      expect(eight[0].measured.int).toBeGreaterThan(eight[2].measured.int);
      for (const row of rows) expect(row.rotated.int).toBeGreaterThan(row.measured.int);
      expect(crossovers.map((c: { printed: number }) => c.printed.toFixed(2))).toEqual([
        '7.55',
        '1.96',
        '2.04',
        '2.39',
      ]);
      expect(crossovers[0].simulated).toBeCloseTo(7.9, 0);
      const report = await readFile(files[0], 'utf8');
      expect(report).toContain('## MXINT4 and MXFP4 by granularity');
      expect(report).not.toMatch(/NaN|undefined|## Claims/);
      expect(await readFile(path.join(folder, 'crest-nv4.svg'), 'utf8')).toContain('crest factor');
    });
  }, 120_000);

  it('compares the weights of a model, a part of them', async () => {
    const { weights, inputs } = await json([shippedModel, '--weights-only', '--filter', 'layers.0.', '--rows', '32']);
    expect(weights.tensors.length).toBe(7);
    expect(inputs.tensors).toEqual([]);
    expect(weights.summary.map((s: { names: string[]; intWins: number }) => [s.names[0], s.intWins])).toEqual([
      ['MXINT8', 7],
      ['MXINT6', 0],
      ['MXINT4', 0],
      ['NVINT4', 7],
    ]);
    expect(weights.tensors[0]).toMatchObject({ kind: 'weight', rows: 32, name: expect.stringContaining('layers.0.') });
  });

  it('compares what the layers read on a text', async () => {
    const args = [
      shippedModel,
      '--filter',
      'layers.0.self_attn.q_proj',
      '--rows',
      '64',
      '--windows',
      '1',
      '--window',
      '128',
    ];
    const { inputs, protocol } = await json(args);
    expect(inputs.tensors.map((t: { name: string }) => t.name).slice(0, 4)).toEqual([
      'model.layers.0 qkv',
      'model.layers.0 o',
      'model.layers.0 gateUp',
      'model.layers.0 down',
    ]);
    expect(inputs.tensors).toHaveLength(28);
    expect(inputs.summary[0].intWins).toBe(28);
    for (const s of inputs.summary) expect(s.rotated.int).toBeGreaterThan(s.measured.int);
    expect(protocol).toContain('28 inputs of its linear layers, the first 64 rows of 1 windows of 128 tokens');
  }, 120_000);

  it.each([
    [['--granularity', '48'], /not a granularity of rows of 4096, got "48"/],
    [['--signal', 'cauchy'], /there is no such signal, got "cauchy", expected uniform, gaussian, laplace, student-t/],
    [['--samples', '1'], /--samples is out of range, got 1/],
    [['--crest', '0.5'], /not a crest factor, got 0.5/],
    [
      [shippedModel, '--weights-only', '--filter', 'nothing'],
      /no weight of a linear layer has this in its name, got "nothing"/,
    ],
    [[shippedModel, '--rows', '0'], /--rows is too small, got 0, expected at least 1/],
  ])('%s', async (args, message) => {
    const { code, stderr, stdout } = await subbyte(['formats', 'compare', ...args]);
    expect(stdout).toBe('');
    expect(stderr.trim().split('\n').at(-1)).toMatch(message);
    expect(code).toBe(1);
  });

  it('leaves `subbyte formats` as it was', async () => {
    const run = await subbyte(['formats', 'mxfp4', '--no-qsnr', '--json']);
    expect(JSON.parse(run.stdout).formats[0].name).toBe('mxfp4');
  });
});
