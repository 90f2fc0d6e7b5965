// The comparison of methods as Markdown tables.

import type { CellResult } from './methods-child.ts';

/** One table for each group of rows, in the order in which they first appear. */
export function printTables(results: readonly CellResult[]): string {
  const tables = [...new Set(results.map((r) => r.table))];
  return tables
    .map((table) =>
      printTable(
        table,
        results.filter((r) => r.table === table),
      ),
    )
    .join('\n\n');
}

function printTable(title: string, rows: readonly CellResult[]): string {
  const texts = Object.keys(rows[0].perplexity);
  const head = ['format', 'method', 'bits', ...texts, 'KL', 'top-1', 'time', 'peak'];
  const original = texts.map((text) => rows[0].original[text].toFixed(3));
  const lines = [
    ['original', '', '16', ...original, '', '', '', ''],
    ...rows.map((r) => [
      r.format,
      r.method,
      r.bitsPerWeight.toFixed(2),
      ...texts.map((text) => r.perplexity[text].toFixed(r.perplexity[text] < 1000 ? 3 : 0)),
      r.kl.toPrecision(3),
      `${(100 * r.top1).toFixed(1)} %`,
      `${r.seconds.toFixed(r.seconds < 10 ? 1 : 0)} s`,
      `${Math.round(r.peakBytes / 1e6)} MB`,
    ]),
  ];
  const print = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = print(head.map((name) => (name === 'format' || name === 'method' ? '---' : '---:')));
  return [`### ${title}`, '', print(head), rule, ...lines.map(print)].join('\n');
}
