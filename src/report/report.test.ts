import { describe, expect, it } from 'vitest';
import { reportMarkdown } from './markdown.ts';
import { factClaim, numberClaim, printedClaim } from './reproduction.ts';

describe('claims', () => {
  it('tell digits, noise and contradiction apart', () => {
    const claim = (found: number) => numberClaim('x', 1, found, { tolerance: 0.01, noise: 0.1 }).verdict;
    expect([claim(1.01), claim(0.95), claim(1.2), claim(Number.NaN)]).toEqual([
      'holds',
      'within noise',
      'does not hold',
      'does not hold',
    ]);
    expect(numberClaim('x', 1, 1.05, { tolerance: 0.01 }).verdict).toBe('does not hold');
    expect(printedClaim('x', '0.27', 0.2739, (v) => v.toFixed(2)).verdict).toBe('holds');
    expect(printedClaim('x', '0.28', 0.2739, (v) => v.toFixed(2))).toMatchObject({
      verdict: 'does not hold',
      found: '0.27',
    });
  });
});

describe('reports', () => {
  it('keep tables whole when cells have bars and line ends, and leave out empty parts', () => {
    const report = {
      title: 'T',
      paper: 'P',
      protocol: 'M',
      claims: [factClaim('|a|\nb', 'x', 'y', false)],
      corrections: [],
      sections: [{ title: 'S', table: { columns: ['c'], rows: [['1']] } }],
    };
    const text = reportMarkdown(report);
    expect(text).toContain('| \\|a\\| b | x | y | does not hold |  |');
    expect(text).not.toContain('printed wrongly');
    expect(reportMarkdown({ ...report, claims: [] })).not.toContain('## Claims');
    expect(text).toContain('## S\n\n| c |\n| --- |\n| 1 |\n');
  });
});
