// quantize in one pass, for groups along rows: every value is read once and leaves as a code.
//
// Thread map: a thread holds as many neighbouring values as fill whole words of codes (quantize-unit.ts); group / that
// many threads share a scale and combine their statistics by halving in workgroup memory, or by exchange within a
// subgroup where the device promises one that is wide enough. Bits of what is not clipped are made on the way. A workgroup
// of 256 threads writes its scales and bits as whole words. Workgroup memory: statistics (4 … 12 bytes) and a scale code
// a thread, at most 5 KB.
// Features: subgroups, optional.

import { integerUnit } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup } from '../entry.ts';
import { type Command, type DenseOperand, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { encodeSource, fixedTensorScale, readsTile, statisticsFields } from '../wgsl/encode.ts';
import type { Draws, Marks } from './quantize-options.ts';
import { markUnit, readUnit, storeShared, tileAccess, unitOf, writeUnit } from './quantize-unit.ts';

const threads = 256;

/** Threads that share a scale, where this kernel applies to a matrix of `cols` columns. */
export function groupThreads(spec: QuantSpec, rows: number, cols: number): number | undefined {
  const { tileRows, tileCols } = scaleLayout(spec.granularity, rows, cols);
  if (tileRows !== 1 || spec.range === 'signed-max' || (spec.granularity.kind !== 'group' && tileCols !== cols)) return;
  const share = tileCols / unitOf(spec).values;
  const stored = spec.zeroPoint === 'integer' ? 1 : scaleBytes(spec.scale.format);
  const whole = Number.isInteger(Math.log2(share)) && share >= 1 && ((threads / share) * stored) % 4 === 0;
  return whole ? share : undefined;
}

/** Combines `own` over the `share` threads of a group. */
function combine(fields: readonly string[], share: number, subgroups: boolean): string {
  if (share === 1) return '';
  if (subgroups) {
    const exchange = fields.map((f) => `subgroupShuffleXor(own.${f}, half)`).join(', ');
    return `for (var half = 1u; half < ${share}u; half <<= 1u) { own = join(own, Statistics(${exchange})); }`;
  }
  return `parts[thread] = own;
  for (var half = ${share / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread % ${share}u < half) { parts[thread] = join(parts[thread], parts[thread + half]); }
  }
  workgroupBarrier();
  own = parts[thread - thread % ${share}u];`;
}

/** The command for x [rows, cols] → y; the tensor scale of two-level specs stands in y already. */
export function encodeGroups(
  x: DenseOperand,
  y: PackedOperand,
  spec: QuantSpec,
  share: number,
  draws: Draws,
  marks: Marks | undefined,
  gpu: GpuTraits,
): Command {
  const unit = unitOf(spec);
  const { layout } = y;
  const units = (y.rows * y.cols) / unit.values;
  const scales = units / share;
  const fixed = fixedTensorScale(spec);
  // A subgroup is a run of neighbouring threads only where its size divides the workgroup; no standard says so, but
  // every implementation of WebGPU numbers one-dimensional workgroups that way.
  const subgroups = gpu.features.has('subgroups') && share <= gpu.subgroupMinSize;
  const bytes = scaleBytes(spec.scale.format);
  const zeroBits = { none: 0, integer: 8, float: 8 * bytes }[spec.zeroPoint];
  const tensorScale = layout.tensorScale / 4;
  const prelude = (
    n: Names,
  ) => `${valueSource}${unfusedSource}${encodeSource(spec, n.step)}${readsTile(spec) ? tileAccess(n.x, share * unit.values) : ''}
${share > 1 && !subgroups ? `var<workgroup> parts: array<Statistics, ${threads}>;` : ''}
var<workgroup> codes: array<u32, ${threads}>;
`;
  const body = (n: Names) => `
  let i = item * ${threads}u + thread;
  let alive = i < ${units}u;
  var held: array<vec4u, ${unit.vectors}>;
  var own = noStatistics();
  if (alive) {
    ${readUnit(unit, n.x, 'i', '0u')}
  }
  ${combine(statisticsFields(spec), share, subgroups)}
  if (own.amax >= 0x7f800000u) { report(${nonFiniteError}u, i32(i)); own = noStatistics(); }
  let g = ${fixed === undefined ? `bitcast<f32>(${n.y}[${tensorScale}u])` : `words.g`};
  ${fixed === undefined ? '' : `if (i == 0u) { ${n.y}[${tensorScale}u] = bitcast<u32>(words.g); }`}
  ${readsTile(spec) ? `tileFirst = (i - thread % ${share}u) * ${unit.values}u;` : ''}
  let tile = fitTile(own, g);
  if (alive) {
    ${writeUnit(spec, unit, n.y, 'i', '0u')}
  }
  ${storeShared({ array: n.y, value: 'tile.code', bits: 8 * bytes, first: layout.scales / 4, share, total: scales, threads })}
  ${zeroBits === 0 ? '' : storeShared({ array: n.y, value: 'tile.zeroCode', bits: zeroBits, first: layout.zeroPoints / 4, share, total: scales, threads })}
  ${marks ? markUnit(unit, 'tile.step * words.bound') : ''}
  ${marks ? storeShared({ array: n.bits, value: 'marks', bits: unit.values, first: 0, share: 1, total: units, threads }) : ''}`;
  return {
    bindings: {
      x: read(x, 'vec4<u32>'),
      y: write(y),
      ...draws.bindings,
      ...(marks && { bits: write(marks.bits, 'u32') }),
    },
    words: {
      ...draws.words,
      ...(fixed !== undefined && { g: { f32: fixed } }),
      ...(marks && { bound: { f32: marks.bound / integerUnit(spec) } }),
    },
    reports: true,
    enable: subgroups && share > 1 ? ['subgroups'] : [],
    ...forEachGroup(Math.ceil(units / threads), threads, body, prelude),
  };
}
