// Draws plots: Vega-Lite to SVG without a DOM, SVG to PNG by resvg in WebAssembly. Both libraries are loaded when the
// first plot is drawn, so that a machine that only trains can do without them.

import { readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { SubbyteError, userError } from '../errors.ts';
import type { PlotSpec } from './plot.ts';
import { fontFile } from './style.ts';

/** What `load` gives; a user error where a package is not there. */
async function loadLibrary<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    // of import and of require
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw cause;
    const [, name] = /'([^']+)'/.exec(message) ?? [];
    throw userError(
      {
        code: missingLibrary,
        op: 'plot',
        problem: `the package ${name ?? 'that draws'} is not installed, so nothing can be drawn`,
        fix: 'run npm install where subbyte is',
      },
      { cause },
    );
  }
}

const missingLibrary = 'plot-library';

/** The plot as an SVG document. Throws an Error when the specification is no Vega-Lite, a user error without Vega. */
export async function renderSvg(spec: PlotSpec): Promise<string> {
  const [vega, { compile }] = await loadLibrary(() => Promise.all([import('vega'), import('vega-lite')]));
  // a copy, as Vega writes marks of its own into the values
  const view = new vega.View(vega.parse(compile(structuredClone(spec)).spec), {
    renderer: 'none',
    logLevel: vega.Error,
  });
  try {
    // names of clip paths count up over all plots: the same plot is the same file
    vega.resetSVGDefIds();
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

let resvg: Promise<{ Resvg: typeof import('@resvg/resvg-wasm').Resvg; font: Uint8Array }> | undefined;

async function loadResvg() {
  const { initWasm, Resvg } = await import('@resvg/resvg-wasm');
  const require = createRequire(import.meta.url);
  await initWasm(readFile(require.resolve('@resvg/resvg-wasm/index_bg.wasm')));
  return { Resvg, font: new Uint8Array(await readFile(require.resolve(fontFile))) };
}

/** The picture in `scale` pixels for each unit of the SVG. */
export async function renderPng(svg: string, scale = 2): Promise<Uint8Array> {
  resvg ??= loadLibrary(loadResvg);
  const { Resvg, font } = await resvg;
  const picture = new Resvg(svg, {
    fitTo: { mode: 'zoom', value: scale },
    font: { fontBuffers: [font], defaultFontFamily: 'Inter', sansSerifFamily: 'Inter' },
  });
  const rendered = picture.render();
  try {
    return rendered.asPng();
  } finally {
    rendered.free();
    picture.free();
  }
}

const kinds = ['.svg', '.png', '.json'];

/** Refuses a file name that no plot can be written to, before any work. */
export function checkPlotFile(op: string, file: string): void {
  if (kinds.includes(path.extname(file).toLowerCase())) return;
  throw userError({
    code: 'plot-file',
    op,
    problem: 'a plot cannot be written to a file of this kind',
    got: JSON.stringify(file),
    expected: `a name that ends in ${kinds.join(', ')}`,
  });
}

/** Writes the plot as its file name says: `.svg`, `.png`, or the specification as `.json`. The folder must exist. */
export async function writePlot(op: string, spec: PlotSpec, file: string): Promise<void> {
  checkPlotFile(op, file);
  const kind = path.extname(file).toLowerCase();
  if (kind === '.json') await writeFile(file, `${JSON.stringify(spec, null, 2)}\n`);
  else {
    const svg = await renderSvg(spec);
    await writeFile(file, kind === '.svg' ? `${svg}\n` : await renderPng(svg));
  }
}

export interface Drawn {
  readonly files: readonly string[];
  /** A sentence: why pictures are missing. */
  readonly warning?: string;
}

/** Writes plots, each as its file name says; without the libraries that draw, only those that are specifications. */
export async function writePlots(op: string, plots: Iterable<{ spec: PlotSpec; file: string }>): Promise<Drawn> {
  const files: string[] = [];
  let warning: string | undefined;
  for (const { spec, file } of plots) {
    try {
      await writePlot(op, spec, file);
      files.push(file);
    } catch (error) {
      if (!(error instanceof SubbyteError) || error.details.code !== missingLibrary) throw error;
      warning ??= error.message;
    }
  }
  return { files, ...(warning !== undefined && { warning }) };
}
