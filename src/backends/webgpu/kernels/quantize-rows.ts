// quantize in one pass, for one f32 scale a row: activations per token, weights per channel.
//
// Thread map: a workgroup of 32 … 256 threads takes one row; a thread holds up to 64 of its values in registers, in units
// that fill whole words of codes (quantize-unit.ts), neighbouring threads next to each other. Statistics are combined by
// halving in workgroup memory (4 … 12 bytes a thread). No features.

import type { QuantSpec } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import { type Command, type DenseOperand, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { encodeSource, readsTile } from '../wgsl/encode.ts';
import type { Draws } from './quantize-options.ts';
import { readUnit, tileAccess, unitOf, writeUnit } from './quantize-unit.ts';

const mostValues = 64;

function threadsOf(units: number): number {
  return Math.min(256, Math.max(32, 2 ** Math.ceil(Math.log2(units))));
}

/** Whether this kernel rounds rows of `cols` values under a spec: one f32 scale for each, rows in whole words. */
export function fitsRows(spec: QuantSpec, rows: number, cols: number): boolean {
  const { tileRows, tileCols } = scaleLayout(spec.granularity, rows, cols);
  if (tileRows !== 1 || tileCols !== cols || spec.scale.format !== 'f32') return false;
  if (spec.range === 'signed-max' || spec.zeroPoint === 'integer') return false;
  const { values } = unitOf(spec);
  const units = cols / values;
  return Number.isInteger(units) && Math.ceil(units / threadsOf(units)) * values <= mostValues;
}

/** The command for x [rows, cols] → y. */
export function encodeRows(x: DenseOperand, y: PackedOperand, spec: QuantSpec, draws: Draws): Command {
  const { rows, cols, layout } = y;
  const unit = unitOf(spec);
  const units = cols / unit.values;
  const threads = threadsOf(units);
  const held = Math.ceil(units / threads);
  const eachUnit = (work: string) => `for (var u = 0u; u < ${held}u; u++) {
    let at = u * ${threads}u + thread;
    if (at >= ${units}u) { break; }
    ${work}
  }`;
  const index = `item * ${units}u + at`;
  const first = `u * ${unit.vectors}u`;
  const minimum =
    spec.zeroPoint === 'float' ? (n: Names) => `${n.y}[${layout.zeroPoints / 4}u + item] = tile.zeroCode;` : () => '';
  const body = (n: Names) => `
  var held: array<vec4u, ${held * unit.vectors}>;
  var own = noStatistics();
  ${eachUnit(readUnit(unit, n.x, index, first))}
  parts[thread] = own;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { parts[thread] = join(parts[thread], parts[thread + half]); }
  }
  workgroupBarrier();
  own = parts[0];
  if (own.amax >= 0x7f800000u) {
    if (thread == 0u) { report(${nonFiniteError}u, i32(item)); }
    own = noStatistics();
  }
  ${readsTile(spec) ? `tileFirst = item * ${cols}u;` : ''}
  let tile = fitTile(own, 1.0);
  ${eachUnit(writeUnit(spec, unit, n.y, index, first))}
  if (thread == 0u) {
    ${n.y}[${layout.scales / 4}u + item] = tile.code;
    ${minimum(n)}
    if (item == 0u) { ${n.y}[${layout.tensorScale / 4}u] = bitcast<u32>(1.0); }
  }`;
  const prelude = (
    n: Names,
  ) => `${valueSource}${unfusedSource}${encodeSource(spec, n.step)}${readsTile(spec) ? tileAccess(n.x, cols) : ''}
var<workgroup> parts: array<Statistics, ${threads}>;
`;
  return {
    bindings: { x: read(x, 'vec4<u32>'), y: write(y), ...draws.bindings },
    words: draws.words,
    reports: true,
    ...forEachGroup(rows, threads, body, prelude),
  };
}
