// Writes a report into a folder: report.md, and each plot as SVG, PNG and as the specification that drew it.

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder } from '../io/make-folder.ts';
import { writePlot } from '../plot/render.ts';
import { reportMarkdown } from './markdown.ts';
import type { Report } from './reproduction.ts';

/** The files written, `report.md` first. */
export async function writeReport(op: string, report: Report, folder: string): Promise<string[]> {
  await makeFolder(path.resolve(folder));
  const text = path.join(folder, 'report.md');
  const files = [text];
  for (const { plot } of report.sections) {
    if (!plot) continue;
    for (const kind of ['svg', 'png', 'json']) {
      const file = path.join(folder, `${plot.name}.${kind}`);
      await writePlot(op, plot.spec, file);
      files.push(file);
    }
  }
  await writeFile(text, reportMarkdown(report));
  return files;
}
