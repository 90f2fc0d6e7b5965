import { describe, expect, it } from 'vitest';
import { publishedRuns } from '../../test/fixtures/laws/published.ts';
import { flagDiverged, gapsToTwins } from './divergence.ts';
import { parseRuns } from './runs.ts';

const csv =
  (row: string, header = 'n_params,d_tokens,loss') =>
  () =>
    parseRuns(`${header}\n${row}\n`, 'runs.csv');

describe('parseRuns', () => {
  it('reads the published table', () => {
    const runs = publishedRuns();
    expect(runs).toHaveLength(566);
    const { extra, ...run } = runs[0]!;
    expect(run).toEqual({
      n: 30482560,
      d: 749993984,
      observed: 3.48209,
      forward: 'QuEST',
      backward: 'BF16',
      weightBits: 4,
      activationBits: 4,
      label: 'line 17 of quartet-runs.csv',
    });
    expect(extra.size_label).toBe('30M');
  });

  it('reads the same runs from CSV, JSON and JSONL', () => {
    const rows = [
      { n_params: 1e8, d_tokens: 2e9, loss: 3.2, group_size: 32, note: 'a, "b"' },
      { n_params: 2e8, d_tokens: 4e9, loss: 3, group_size: 64, note: '' },
    ];
    const strip = (text: string, file: string) => parseRuns(text, file).map(({ label: _, ...r }) => r);
    const expected = strip(JSON.stringify(rows), 'x.json');
    expect(expected[0]).toEqual({ n: 1e8, d: 2e9, observed: 3.2, group: 32, extra: { note: 'a, "b"' } });
    expect(strip(JSON.stringify({ runs: rows }), 'x.json')).toEqual(expected);
    expect(strip(rows.map((r) => JSON.stringify(r)).join('\n'), 'x.jsonl')).toEqual(expected);
    expect(
      strip(
        '# comment\r\nn_params,d_tokens,loss,group_size,note\r\n1e8,2e9,3.2,32,"a, ""b"""\r\n2e8,4e9,3,64,\r\n',
        'x.csv',
      ),
    ).toEqual(expected);
  });

  it.each([
    ['74,1e10,3', /looks like millions or billions, got 74/],
    ['7.4e7,20,3', /looks like millions or billions, got 20/],
    ['1e9,2e5,3', /ratio of tokens to parameters, so their units differ, got 0.0002/],
    ['1e8,2B,3', /d at line 2 is not a plain number, got 2B.*without suffixes/],
    ['1e8,2e9,nan', /the loss at line 2 is no loss, got NaN.*set diverged to true/],
    ['1e8,2e9,-1', /the loss at line 2 is no loss, got -1/],
    ['1e8,2e9,24.5', /looks like a perplexity, got 24.5.*natural logarithm/],
    ['1e8,2e9', /line 2 has another number of cells than the header, got 2, expected 3/],
  ])('refuses %s', (row, message) => {
    expect(csv(row)).toThrow(message);
  });

  it('refuses what is no table of runs', () => {
    expect(csv('1e8,2e9', 'n_params,d_tokens')).toThrow('lacks its size, tokens or loss');
    expect(() => parseRuns('', 'runs.csv')).toThrow('the file is empty');
    expect(() => parseRuns('{', 'runs.json')).toThrow('the file is not JSON');
    expect(() => parseRuns('{}', 'runs.json')).toThrow('no list of runs');
    expect(() => parseRuns('[3]', 'runs.json')).toThrow('run 1 is no run record');
    expect(() => parseRuns('{"n":1e8,"d":2e9,"loss":NaN}\n', 'runs.jsonl')).toThrow('the loss at line 1 is no loss');
  });

  it('reads quoted cells over several lines and names the right line afterwards', () => {
    const text = 'n,d,loss,note\n1e8,2e9,3,"two\nlines"\n\n1e8,2e9,0,last\n';
    expect(() => parseRuns(text, 'runs.csv')).toThrow('the loss at line 5 is no loss, got 0');
    expect(parseRuns(text.replace('0,last', '2,last'), 'runs.csv')[0]!.extra.note).toBe('two\nlines');
  });

  it('keeps a NaN loss of a run that is marked as diverged', () => {
    const [run] = csv('1e8,2e9,nan,true', 'n_params,d_tokens,loss,diverged')();
    expect(run).toMatchObject({ diverged: true, observed: Number.NaN });
  });
});

describe('flagDiverged', () => {
  it('finds the diverged run of the published table, and otherwise only the two unstable FP4 baselines', () => {
    const flagged = flagDiverged(publishedRuns(), { same: ['source', 'note'] }).filter((r) => r.diverged);
    expect(flagged.filter((r) => r.extra.note === 'fit_v1').map((r) => r.label)).toEqual([
      'line 77 of quartet-runs.csv',
    ]);
    expect(flagged[0]!.reason).toBe('loss 3.38471 after 2.40e+10 tokens, but 3.30944 after 1.20e+10');
    expect(new Set(flagged.slice(1).map((r) => r.forward))).toEqual(new Set(['LUQ-FP4', 'HALO-FP4']));
  });
});

describe('gapsToTwins', () => {
  it('subtracts the loss of the twin and drops runs without one', () => {
    const runs = parseRuns('n,d,loss,fwd\n1e8,2e9,3.0,BF16\n1e8,2e9,3.1,INT4\n2e8,2e9,2.9,INT4\n', 'r.csv');
    const gaps = gapsToTwins(runs, (r) => r.forward === 'BF16');
    expect(gaps).toHaveLength(1);
    expect(gaps[0]!.observed).toBeCloseTo(0.1, 12);
  });
});
