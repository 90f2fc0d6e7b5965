// Writes a report into a folder: report.md, and each plot as SVG, PNG and as the specification that drew it.

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder } from '../io/make-folder.ts';
import { type Drawn, writePlots } from '../plot/render.ts';
import { reportMarkdown } from './markdown.ts';
import type { Report } from './reproduction.ts';

/** The files written, `report.md` first. Without the libraries that draw, plots are specifications only. */
export async function writeReport(op: string, report: Report, folder: string): Promise<Drawn> {
  await makeFolder(path.resolve(folder));
  const text = path.join(folder, 'report.md');
  const plots = report.sections.flatMap(({ plot }) =>
    plot
      ? ['svg', 'png', 'json'].map((kind) => ({ spec: plot.spec, file: path.join(folder, `${plot.name}.${kind}`) }))
      : [],
  );
  const drawn = await writePlots(op, plots);
  await writeFile(text, reportMarkdown(report));
  return { ...drawn, files: [text, ...drawn.files] };
}
