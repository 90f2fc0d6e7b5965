import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { chart, regionMap } from './plot.ts';
import { renderPng, renderSvg, writePlot } from './render.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-plot-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

const losses = chart({
  title: 'Loss by size',
  x: { title: 'N, parameters', scale: 'log' },
  y: { title: 'loss, nats' },
  series: [
    { name: 'fit', points: [[1e7, 4] as const, [1e9, 3] as const], band: [[3.9, 4.1] as const, [2.9, 3.1] as const] },
    { name: 'measured', style: 'points', points: [[1e8, 3.5] as const, [1e9, Number.NaN] as const] },
  ],
  rules: [{ axis: 'x', at: 3e8, label: 'κ*' }],
});

const count = (svg: string, pattern: RegExp) => (svg.match(pattern) ?? []).length;

describe('plots', () => {
  it('are JSON: what comes back from text draws the same picture', async () => {
    const again = JSON.parse(JSON.stringify(losses));
    expect(again).toEqual(losses);
    expect(await renderSvg(again)).toBe(await renderSvg(losses));
  });

  it('draw titles, labels, one line, one finite point and the band', async () => {
    const svg = await renderSvg(losses);
    for (const text of ['Loss by size', 'N, parameters', 'loss, nats', 'fit', 'measured', 'κ*', '1e7', '1e9'])
      expect(svg).toContain(`>${text}<`);
    expect(count(svg, /aria-roledescription="point"/g)).toBe(1);
    expect(count(svg, /aria-roledescription="line mark"/g)).toBe(1);
    expect(count(svg, /aria-roledescription="area mark"/g)).toBe(1);
    expect(svg).not.toContain('NaN');
  });

  it('place values: a line from the upper left to the lower right', async () => {
    const svg = await renderSvg(losses);
    const [, x0, y0, x1, y1] = /aria-roledescription="line mark"[^>]*d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"/.exec(
      svg,
    ) as RegExpExecArray;
    expect(Number(x1)).toBeGreaterThan(Number(x0));
    expect(Number(y1)).toBeGreaterThan(Number(y0));
  });

  it('map regions: cells of a column that are alike are one rectangle', async () => {
    const grid = [1, 10, 100, 1000];
    const spec = regionMap({
      title: 'Winner',
      x: { title: 'N' },
      y: { title: 'D/N' },
      xs: grid,
      ys: grid,
      names: ['low', 'high'],
      regionAt: (_, y) => (y > 50 ? 'high' : 'low'),
    });
    expect((spec as unknown as { data: { values: unknown[] } }).data.values).toHaveLength(8);
    expect(count(await renderSvg(spec), /aria-roledescription="rect mark"/g)).toBe(8);
  });

  it('become PNG with their text, twice as large as the SVG', async () => {
    const svg = await renderSvg(losses);
    const png = Buffer.from(await renderPng(svg));
    expect(png.subarray(1, 4).toString()).toBe('PNG');
    const [, width, height] = /width="([\d.]+)" height="([\d.]+)"/.exec(svg) as RegExpExecArray;
    expect(png.readUInt32BE(16)).toBeCloseTo(2 * Number(width), -1);
    expect(png.readUInt32BE(20)).toBeCloseTo(2 * Number(height), -1);
    const without = Buffer.from(await renderPng(svg.replace(/<text[^>]*>[^<]*<\/text>/g, '')));
    expect(png.length).toBeGreaterThan(without.length * 1.2);
  });

  it('are written as their names say', async () => {
    for (const kind of ['svg', 'png', 'json']) await writePlot('test', losses, path.join(folder, `a.${kind}`));
    expect(await readFile(path.join(folder, 'a.svg'), 'utf8')).toMatch(/^<svg/);
    expect(JSON.parse(await readFile(path.join(folder, 'a.json'), 'utf8'))).toEqual(losses);
    await expect(writePlot('test', losses, 'a.pdf')).rejects.toThrow(
      'test: a plot cannot be written to a file of this kind, got "a.pdf", expected a name that ends in .svg, .png, .json',
    );
  });
});
