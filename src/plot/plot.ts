// A plot as data: a Vega-Lite specification with its values inside, the same for files and for a browser.
//
// Vega-Lite is the field's grammar of graphics with a JSON form, so a plot can be stored, compared and drawn elsewhere.
// `chart` and `regionMap` write the two kinds that the reports need; render.ts draws them.

import type { TopLevelSpec } from 'vega-lite';
import { fontFamily } from './style.ts';

export type PlotSpec = TopLevelSpec;

export interface Axis {
  title: string;
  scale?: 'log' | 'linear';
  domain?: readonly [number, number];
  /** d3-format of the ticks. */
  format?: string;
}

export interface Series {
  name: string;
  points: readonly (readonly [x: number, y: number])[];
  /** `line` by default; `dashed` for what is predicted or published, `points` for measurements. */
  style?: 'line' | 'dashed' | 'points';
  /** Lower and upper bound at each point, drawn as a band. */
  band?: readonly (readonly [low: number, high: number])[];
}

export interface Rule {
  /** Where the line stands on the axis named. */
  axis: 'x' | 'y';
  at: number;
  label: string;
}

export interface ChartOptions {
  title: string;
  subtitle?: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
  rules?: readonly Rule[];
  width?: number;
  height?: number;
}

const config = {
  font: fontFamily,
  view: { stroke: '#bbb' },
  axis: { labelFontSize: 11, titleFontSize: 12, gridColor: '#e8e8e8', titleFontWeight: 'normal' as const },
  title: { fontSize: 14, subtitleFontSize: 11, anchor: 'start' as const, subtitleColor: '#555' },
  legend: { labelFontSize: 11, titleFontSize: 11, symbolStrokeWidth: 2, symbolOpacity: 1, labelLimit: 320 },
  range: {
    category: ['#4269d0', '#efb118', '#ff725c', '#6cc5b0', '#3ca951', '#ff8ab7', '#a463f2', '#97bbf5', '#9c6b4e'],
  },
};

const schema = 'https://vega.github.io/schema/vega-lite/v6.json';

/** Ticks of a log axis: 0.5, 20, 1000, then 1e5, 1e6, … */
const logLabel =
  "datum.value >= 1e-3 && datum.value < 1e5 ? format(datum.value, '~r') : replace(format(datum.value, '~e'), '+', '')";

function position(field: string, { title, scale = 'linear', domain, format }: Axis) {
  const range = { nice: false, ...(domain && { domain: [...domain] }) };
  return {
    field,
    type: 'quantitative' as const,
    title,
    scale: scale === 'log' ? { type: scale, ...range } : { type: scale, zero: false, ...range },
    axis:
      scale === 'log'
        ? { labelExpr: logLabel, values: decades(domain), labelOverlap: true as const }
        : { ...(format && { format }) },
  };
}

/** Ticks at powers of ten where the axis spans two or more; else what the library chooses. */
function decades(domain: readonly [number, number] | undefined): number[] | undefined {
  if (!domain) return undefined;
  const [low, high] = [Math.ceil(Math.log10(domain[0]) - 1e-9), Math.floor(Math.log10(domain[1]) + 1e-9)];
  if (high - low < 2) return undefined;
  return Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
}

/** The span of the finite values, widened by a twentieth (on a log axis: of its decades). */
function span(values: readonly number[], scale: Axis['scale']): [number, number] | undefined {
  const log = scale === 'log';
  const kept = values.filter((v) => Number.isFinite(v) && (!log || v > 0)).map((v) => (log ? Math.log10(v) : v));
  if (kept.length === 0) return undefined;
  const [low, high] = [Math.min(...kept), Math.max(...kept)];
  const margin = (high - low || Math.abs(high) || 1) / 20;
  const back = (v: number) => (log ? 10 ** v : v);
  return [back(low - margin), back(high + margin)];
}

/** Lines, points, bands and reference lines over two axes; one colour a series. */
export function chart(options: ChartOptions): PlotSpec {
  const { series, rules = [], width = 520, height = 340 } = options;
  const all = series.flatMap((s) => s.points);
  const bands = series.flatMap((s) => s.band ?? []).flat();
  const at = (axis: 'x' | 'y') => rules.filter((r) => r.axis === axis).map((r) => r.at);
  const xs = [...all.map(([x]) => x), ...at('x')];
  const ys = [...all.map(([, y]) => y), ...bands, ...at('y')];
  const x = { ...options.x, domain: options.x.domain ?? span(xs, options.x.scale) };
  const y = { ...options.y, domain: options.y.domain ?? span(ys, options.y.scale) };
  const rows = (style: Series['style']) =>
    series
      .filter((s) => (s.style ?? 'line') === style)
      .flatMap((s) =>
        s.points
          .map(([px, py], i) => ({ series: s.name, x: px, y: py, low: s.band?.[i]?.[0], high: s.band?.[i]?.[1] }))
          .filter((row) => Number.isFinite(row.x) && Number.isFinite(row.y)),
      );
  const names = [...new Set(series.map((s) => s.name))];
  const encoding = {
    x: position('x', x),
    y: position('y', y),
    color: {
      field: 'series',
      type: 'nominal' as const,
      title: null,
      scale: { domain: names },
      ...(names.length < 2 && { legend: null }),
    },
  };
  const banded = [...rows('line'), ...rows('dashed')].filter((row) => row.low !== undefined);
  const layers = [
    { values: banded, mark: { type: 'area' as const, opacity: 0.18, clip: true }, bandEncoding: true },
    { values: rows('line'), mark: { type: 'line' as const, strokeWidth: 2, clip: true } },
    { values: rows('dashed'), mark: { type: 'line' as const, strokeDash: [5, 4], strokeWidth: 1.5, clip: true } },
    { values: rows('points'), mark: { type: 'point' as const, filled: true, size: 30, opacity: 0.8, clip: true } },
  ].filter((layer) => layer.values.length > 0);
  return {
    $schema: schema,
    title: { text: options.title, ...(options.subtitle && { subtitle: options.subtitle }) },
    width,
    height,
    background: 'white',
    config,
    layer: [
      ...layers.map(({ values, mark, bandEncoding }) => ({
        data: { values },
        mark,
        encoding: bandEncoding ? { ...encoding, y: { ...encoding.y, field: 'low' }, y2: { field: 'high' } } : encoding,
      })),
      ...rules.flatMap((rule) => ruleLayers(rule, { x: encoding.x, y: encoding.y })),
    ],
  } as PlotSpec;
}

function ruleLayers({ axis, at, label }: Rule, encoding: Record<'x' | 'y', ReturnType<typeof position>>) {
  const data = { values: [{ at, label }] };
  const place = { [axis]: { ...encoding[axis], field: 'at' } };
  const text =
    axis === 'x'
      ? { align: 'left' as const, dx: 4, y: 10, fontSize: 10, color: '#555' }
      : { align: 'right' as const, dy: -5, x: { expr: 'width - 4' }, fontSize: 10, color: '#555' };
  return [
    { data, mark: { type: 'rule' as const, color: '#888', strokeDash: [2, 3] }, encoding: place },
    { data, mark: { type: 'text' as const, ...text }, encoding: { ...place, text: { field: 'label' } } },
  ];
}

/** `count` values from `low` to `high`, evenly spaced in the logarithm: `logSpace(1, 100, 3)` is 1, 10, 100. */
export function logSpace(low: number, high: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));
}

export interface RegionMapOptions {
  title: string;
  subtitle?: string;
  x: Axis;
  y: Axis;
  /** Cell centres on each axis, evenly spaced in the logarithm. */
  xs: readonly number[];
  ys: readonly number[];
  /** The name of the region at a cell. */
  regionAt(x: number, y: number): string;
  /** Names in the order of the legend. */
  names: readonly string[];
  width?: number;
  height?: number;
}

/** Which of several names holds where, over two logarithmic axes. */
export function regionMap(options: RegionMapOptions): PlotSpec {
  const { xs, ys, names, regionAt, width = 520, height = 340 } = options;
  const half = (values: readonly number[]) => (values.length > 1 ? Math.sqrt(values[1] / values[0]) : 2);
  const [hx, hy] = [half(xs), half(ys)];
  // cells of a column that are alike become one, and reach a little under the next column: no seams
  const values = xs.flatMap((x) => {
    const column: { x: number; x2: number; y: number; y2: number; region: string }[] = [];
    for (const y of ys) {
      const region = regionAt(x, y);
      const last = column[column.length - 1];
      if (last?.region === region) last.y2 = y * hy;
      else column.push({ x: x / hx, x2: x * hx * Math.sqrt(hx), y: y / hy, y2: y * hy, region });
    }
    return column;
  });
  const domain = (v: readonly number[], h: number): [number, number] => [v[0] / h, v[v.length - 1] * h];
  return {
    $schema: schema,
    title: { text: options.title, ...(options.subtitle && { subtitle: options.subtitle }) },
    width,
    height,
    background: 'white',
    config,
    data: { values },
    mark: { type: 'rect', strokeWidth: 0, clip: true },
    encoding: {
      x: position('x', { ...options.x, scale: 'log', domain: domain(xs, hx) }),
      x2: { field: 'x2' },
      y: position('y', { ...options.y, scale: 'log', domain: domain(ys, hy) }),
      y2: { field: 'y2' },
      color: { field: 'region', type: 'nominal', title: null, scale: { domain: [...names] } },
    },
  } as PlotSpec;
}
