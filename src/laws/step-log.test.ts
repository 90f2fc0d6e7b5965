import { describe, expect, it } from 'vitest';
import { parseRuns } from './runs.ts';

const log = (lines: object[]) => parseRuns(lines.map((line) => JSON.stringify(line)).join('\n'), 'train.jsonl');
const header = { n_params: 2e6, fwd: 'mxfp4', seed: 3 };
const steps = (count: number, loss: (i: number) => number | string) =>
  Array.from({ length: count }, (_, i) => ({ step: i, tokens: (i + 1) * 1e6, loss: loss(i) }));

describe('the log of one training', () => {
  it('is one run: size from the header, tokens of the last step, mean loss of the last twentieth', () => {
    const [run, ...rest] = log([header, ...steps(100, (i) => 4 - i / 100)]);
    expect(rest).toEqual([]);
    expect(run).toMatchObject({ n: 2e6, d: 1e8, forward: 'mxfp4', label: 'the end of train.jsonl' });
    expect(run!.observed).toBeCloseTo(4 - (95 + 96 + 97 + 98 + 99) / 500, 12);
    expect(run!.extra).toMatchObject({ seed: '3', loss_kind: 'mean training loss of the last records' });
  });

  it('takes the last validation loss where there is one', () => {
    const [run] = log([header, ...steps(50, () => 3), { step: 50, tokens: 5e7, val_loss: 3.25 }]);
    expect(run).toMatchObject({ observed: 3.25, d: 5e7, extra: { loss_kind: 'last validation loss' } });
  });

  it('that ends without a number is a run that diverged', () => {
    const text = `${JSON.stringify(header)}\n{"step":0,"tokens":1000000,"loss":4}\n{"step":1,"tokens":2000000,"loss":NaN}\n`;
    const [run] = parseRuns(text, 'train.jsonl');
    expect(run).toMatchObject({ diverged: true, reason: 'marked as diverged' });
  });

  it('reads the same from CSV, and says what is missing', () => {
    const csv = 'step,tokens,loss,n_params\n0,1e6,4,2e6\n1,2e6,3.5,\n2,3e6,3.25,\n';
    expect(parseRuns(csv, 'train.csv')).toHaveLength(1);
    expect(() => log(steps(10, () => 3))).toThrow('the end lacks its size, tokens or loss');
  });

  it('is not a table of runs that counts steps', () => {
    const rows = [1, 2, 3].map((step) => ({ step, n_params: 2e6, d_tokens: step * 1e8, loss: 4 - step / 10 }));
    expect(log(rows)).toHaveLength(3);
  });
});
