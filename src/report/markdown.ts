// A report as Markdown: claims first, then what the paper has wrong, then tables and plots.

import type { Report, Section, Table } from './reproduction.ts';

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

export function markdownTable({ columns, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n');
}

/** The claims as a table. */
export function claimTable({ claims }: Pick<Report, 'claims'>): Table {
  return {
    columns: ['claim', 'expected', 'found', 'verdict', 'on what ground'],
    rows: claims.map((c) => [c.claim, c.expected, c.found, c.verdict, c.note ?? '']),
  };
}

/** The whole report; plots are looked for beside it as `<name>.svg`. */
export function reportMarkdown(report: Report): string {
  const { title, paper, protocol, corrections, sections, unfinished } = report;
  const wrong = corrections.map(
    (c) => `- **Printed:** ${c.printed}\n  **Instead:** ${c.instead}\n  **How we know:** ${c.evidence}`,
  );
  const parts = [
    `# ${title}`,
    paper,
    `**Protocol.** ${protocol}`,
    ...(unfinished ? [`**Not finished.** ${unfinished}`] : []),
    ...(report.claims.length > 0 ? ['## Claims', markdownTable(claimTable(report))] : []),
    ...(wrong.length > 0 ? ['## What is printed wrongly', wrong.join('\n')] : []),
    ...sections.map(sectionMarkdown),
  ];
  return `${parts.join('\n\n')}\n`;
}

function sectionMarkdown({ title, text, table, plot }: Section): string {
  return [
    `## ${title}`,
    ...(text ? [text] : []),
    ...(table ? [markdownTable(table)] : []),
    ...(plot ? [`![${title}](${plot.name}.svg)`] : []),
  ].join('\n\n');
}
