// The table that ends a quantization: size, quality and time always together.

import { humanBytes } from './progress.ts';
import type { QuantizeEntry } from './quantize-types.ts';
import type { Session } from './session.ts';
import { type Column, renderTable } from './table.ts';

export function printQuantizeTable(session: Session, entries: readonly QuantizeEntry[]): void {
  const measured = entries.some((e) => e.perplexity !== undefined);
  const right = { align: 'right' as const };
  const columns: Column[] = [
    { title: 'format' },
    { title: 'file' },
    { title: 'bits/weight', ...right },
    { title: 'size', ...right },
    ...(measured
      ? [
          { title: 'perplexity', ...right },
          { title: 'change', ...right },
          { title: 'KL', ...right },
          { title: 'top-1', ...right },
        ]
      : []),
    { title: 'checked' },
    { title: 'seconds', ...right },
  ];
  const base = entries.find((e) => e.originalPerplexity !== undefined)?.originalPerplexity;
  const rows = entries.map((e) => [
    e.format,
    e.container,
    e.bitsPerWeight.toFixed(3),
    humanBytes(e.bytes),
    ...(measured ? quality(e) : []),
    e.verified ? `${e.verified.tensors} tensors${e.verified.cosine === undefined ? '' : ', backend'}` : 'no',
    e.reused ? 'earlier' : e.seconds.toFixed(1),
  ]);
  if (base !== undefined) rows.unshift(['original', '', '', '', base.toFixed(3)]);
  session.print(renderTable(columns, rows));
  for (const e of entries)
    for (const note of e.notes) session.note(`  note         ${e.format} ${e.container}: ${note}`);
  for (const e of entries) session.print(`${session.color.green('✔')} ${e.path}`);
}

function quality(e: QuantizeEntry): string[] {
  if (e.perplexity === undefined || e.originalPerplexity === undefined) return ['', '', '', ''];
  const change = 100 * (e.perplexity / e.originalPerplexity - 1);
  return [
    e.perplexity.toFixed(3),
    `${change >= 0 ? '+' : ''}${change.toFixed(2)} %`,
    (e.kl as number).toPrecision(3),
    `${(100 * (e.top1 as number)).toFixed(1)} %`,
  ];
}
