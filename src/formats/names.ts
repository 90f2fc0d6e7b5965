// The grammar of format names: base name, then options in any order, joined by hyphens.
//
//   int4-g128-asym    base int4, groups of 128 along K, integer zero point
//   mxfp4-ceil        MXFP4 with the `ceil` scale rule
//   nvfp4-46-mae-sr   NVFP4 four-over-six by mean absolute error, stochastic rounding
// Options: tensor channel token gN tileRxC 2d · asym asymf · restricted half signed · f32s f16s bf16s e8m0s e4m3s ue5m3s
// e6m2s · onelevel twolevel ue5m3 · a scale rule · 46 · clipX · sr away up tozero trunc.
// What an option leaves open follows the base (below) and, for the scale format, the granularity: f16 scales for
// channels and groups of integers and codebooks, f32 otherwise. Printing gives the options that differ from it.

import type {
  ElementName,
  Granularity,
  IntElement,
  MinifloatElement,
  QuantSpec,
  Rounding,
  ScaleFormat,
  ScaleRule,
} from './format.ts';
import { codebookBits, intBits, isInt, isMinifloat, minifloats } from './table.ts';

interface Base {
  readonly spec: QuantSpec;
  /** Whether names always show the granularity. */
  readonly showGranularity: boolean;
}

function spec(element: ElementName, granularity: Granularity, changes: Partial<QuantSpec> = {}): QuantSpec {
  return {
    kind: 'quant',
    element,
    granularity,
    scale: { format: 'f32', rule: element === 'ternary' ? 'absmean' : 'absmax', tensorScale: false },
    zeroPoint: 'none',
    range: 'restricted',
    rounding: 'nearest-even',
    clip: 1,
    choice: 'none',
    ...changes,
  };
}

const channel: Granularity = { kind: 'channel' };
const group = (size: number): Granularity => ({ kind: 'group', size });

const plainName = (e: MinifloatElement) => `fp${minifloats[e].bits}-${e}`;
const plain = (s: QuantSpec): Base => ({ spec: s, showGranularity: true });
const mx = (e: ElementName): Base => ({
  spec: spec(e, group(32), { scale: { format: 'e8m0', rule: 'floor', tensorScale: false } }),
  showGranularity: false,
});
const nv = (e: ElementName, changes: Partial<QuantSpec> = {}): Base => ({
  spec: spec(e, group(16), { scale: { format: 'e4m3', rule: 'absmax', tensorScale: true }, ...changes }),
  showGranularity: false,
});

/** Every base name with what it stands for; plain bases come last, because any spec can be printed from one. */
export const bases: ReadonlyMap<string, Base> = new Map<string, Base>([
  ['mxfp4', mx('e2m1')],
  ['mxfp6-e2m3', mx('e2m3')],
  ['mxfp6-e3m2', mx('e3m2')],
  ['mxfp8-e4m3', mx('e4m3')],
  ['mxfp8-e5m2', mx('e5m2')],
  ['mxint8', mx('int8')],
  ['mxint4', mx('int4')],
  ['nvfp4', nv('e2m1')],
  ['nvint4', nv('int4')],
  ['if4', nv('e2m1', { choice: 'int-or-float', scale: { format: 'e4m3', rule: 'mse', tensorScale: true } })],
  ...Object.keys(intBits).map((e): [string, Base] => [e, plain(spec(e as IntElement, channel))]),
  ...Object.keys(minifloats).map((e): [string, Base] => [
    plainName(e as MinifloatElement),
    plain(spec(e as MinifloatElement, { kind: 'tensor' })),
  ]),
  ['nf4', plain(spec('nf4', group(64)))],
  ...Object.keys(codebookBits)
    .filter((e) => e !== 'nf4')
    .map((e): [string, Base] => [e, plain(spec(e as ElementName, { kind: 'tensor' }))]),
]);

/** Other spellings of base names. */
export const aliases: Readonly<Record<string, string>> = {
  mxfp8: 'mxfp8-e4m3',
  fp8: 'fp8-e4m3',
  ...Object.fromEntries(Object.keys(minifloats).map((e) => [e, plainName(e as MinifloatElement)])),
};

const roundings: Readonly<Record<string, Rounding>> = {
  rne: 'nearest-even',
  sr: 'stochastic',
  away: 'half-away',
  up: 'half-up',
  tozero: 'half-to-zero',
  trunc: 'floor',
};

const ruleTokens: Readonly<Record<string, ScaleRule>> = {
  floor: 'floor',
  ceil: 'ceil',
  even: 'even',
  even1: 'even1',
  rceil: 'rceil',
  te: 'te',
  log2ceil: 'log2ceil',
  deepseek: 'deepseek',
  nearest: 'nearest',
  microxcaling: 'microxcaling',
  fourthirds: 'four-thirds',
  quest: 'quest',
  questnearest: 'quest-nearest',
  absmax: 'absmax',
  absmean: 'absmean',
  mse: 'mse',
  mae: 'mae',
  transformerengine: 'transformer-engine',
  torchao: 'torchao',
  modelopt: 'modelopt',
  ct: 'compressed-tensors',
  fouroversix: 'fouroversix',
  mseden: 'ms-eden',
};

const scaleTokens: Readonly<Record<string, ScaleFormat>> = {
  f32s: 'f32',
  f16s: 'f16',
  bf16s: 'bf16',
  e8m0s: 'e8m0',
  e4m3s: 'e4m3',
  ue5m3s: 'ue5m3',
  e6m2s: 'e6m2',
};

function parseGranularity(token: string): Granularity | undefined {
  if (token === 'tensor' || token === 'channel' || token === 'token') return { kind: token };
  if (token === '2d') return { kind: 'tile', rows: 16, cols: 16 };
  const size = /^g([1-9]\d{0,6})$/.exec(token);
  if (size) return group(Number(size[1]));
  const tile = /^tile([1-9]\d{0,6})x([1-9]\d{0,6})$/.exec(token);
  return tile ? { kind: 'tile', rows: Number(tile[1]), cols: Number(tile[2]) } : undefined;
}

function printGranularity(g: Granularity): string {
  if (g.kind === 'group') return `g${g.size}`;
  if (g.kind === 'tile') return g.rows === 16 && g.cols === 16 ? '2d' : `tile${g.rows}x${g.cols}`;
  return g.kind;
}

/** Scale format that a plain base takes when the name does not say. */
function defaultScaleFormat(s: QuantSpec): ScaleFormat {
  const rowsShare = s.granularity.kind === 'channel' || s.granularity.kind === 'group';
  return rowsShare && !isMinifloat(s.element) ? 'f16' : 'f32';
}

/** The base that a name starts with, and the options after it; undefined when there is none. */
export function splitName(name: string): { base: Base; options: string[] } | undefined {
  const tokens = name.split('-');
  for (let n = Math.min(2, tokens.length); n > 0; n--) {
    const head = tokens.slice(0, n).join('-');
    const base = bases.get(aliases[head] ?? head);
    if (base) return { base, options: tokens.slice(n) };
  }
  return undefined;
}

/** Applies options to a base. Returns the first option that means nothing, or the spec. */
export function applyOptions(base: Base, options: readonly string[]): QuantSpec | { unknown: string } {
  const s: QuantSpec = { ...base.spec, scale: { ...base.spec.scale } };
  let scaleGiven = !base.showGranularity;
  for (const token of options) {
    const granularity = parseGranularity(token);
    const clip = /^clip(0?\.\d{1,6}|1)$/.exec(token);
    if (granularity) s.granularity = granularity;
    else if (token in roundings) s.rounding = roundings[token]!;
    else if (token in ruleTokens) s.scale.rule = ruleTokens[token]!;
    else if (token in scaleTokens) {
      s.scale.format = scaleTokens[token]!;
      scaleGiven = true;
    } else if (token === 'asym') s.zeroPoint = 'integer';
    else if (token === 'asymf') s.zeroPoint = 'float';
    else if (token === 'restricted') s.range = 'restricted';
    else if (token === 'half') s.range = 'half-range';
    else if (token === 'signed') s.range = 'signed-max';
    else if (token === 'onelevel') s.scale.tensorScale = false;
    else if (token === 'twolevel') s.scale.tensorScale = true;
    else if (token === 'ue5m3') {
      s.scale.format = 'ue5m3';
      s.scale.tensorScale = false;
      scaleGiven = true;
    } else if (token === '46') {
      s.choice = 'four-over-six';
      if (!options.some((o) => o in ruleTokens)) s.scale.rule = 'mse';
    } else if (clip) s.clip = Number(clip[1]);
    else return { unknown: token };
  }
  if (!scaleGiven) s.scale.format = defaultScaleFormat(s);
  // the constant of this rule is carried by the tensor scale
  if (s.scale.rule === 'four-thirds') s.scale.tensorScale = true;
  return s;
}

const keyOf = <T>(record: Readonly<Record<string, T>>, value: T) =>
  Object.keys(record).find((k) => record[k] === value)!;

/** The base from which a spec is printed. */
function baseName(s: QuantSpec): string {
  for (const [name, base] of bases) {
    if (base.showGranularity || base.spec.element !== s.element || base.spec.choice !== s.choice) continue;
    if (base.spec.scale.format === s.scale.format && s.zeroPoint === 'none' && s.range === 'restricted') return name;
  }
  if (s.element === 'e2m1' && (s.choice === 'four-over-six' || s.scale.format === 'ue5m3')) return 'nvfp4';
  if (isMinifloat(s.element)) return plainName(s.element);
  return s.element;
}

/** The canonical name of a spec; `applyOptions(splitName(...))` gives the spec back. */
export function printSpec(s: QuantSpec): string {
  const name = baseName(s);
  const base = bases.get(name)!;
  const out = [name];
  const granularity = printGranularity(s.granularity);
  if (base.showGranularity || granularity !== printGranularity(base.spec.granularity)) out.push(granularity);
  if (s.zeroPoint !== 'none') out.push(s.zeroPoint === 'integer' ? 'asym' : 'asymf');
  if (isInt(s.element) && s.range !== 'restricted') out.push(s.range === 'half-range' ? 'half' : 'signed');
  const unleveled = s.scale.format === 'ue5m3' && name === 'nvfp4' && !s.scale.tensorScale;
  const expected = base.showGranularity ? defaultScaleFormat(s) : base.spec.scale.format;
  if (unleveled) out.push('ue5m3');
  else {
    if (s.scale.format !== expected) out.push(keyOf(scaleTokens, s.scale.format));
    if (s.scale.tensorScale !== base.spec.scale.tensorScale && s.scale.rule !== 'four-thirds')
      out.push(s.scale.tensorScale ? 'twolevel' : 'onelevel');
  }
  if (s.choice === 'four-over-six') out.push('46');
  const usualRule = s.choice === 'four-over-six' ? 'mse' : base.spec.scale.rule;
  if (s.scale.rule !== usualRule) out.push(keyOf(ruleTokens, s.scale.rule));
  if (s.clip !== 1) out.push(`clip${s.clip}`);
  if (s.rounding !== 'nearest-even') out.push(keyOf(roundings, s.rounding));
  return out.join('-');
}
