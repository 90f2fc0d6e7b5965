// quantize to NVFP4 with a choice or a correction: four-over-six and MS-EDEN, after the tensor's largest magnitude.
//
// Thread map: a thread holds one block, 16 … 64 values, in registers, since the errors of four-over-six are f32 sums in
// element order; a workgroup of 256 threads writes its scales as whole words. Workgroup memory: 1 KB. No features.
//
// Four-over-six decodes with two quotients a candidate: the values of E2M1 are 1 and 1.5 times powers of two, and a power
// of two moves through fl(fl(fl(q · s) · amax) / 1536) unchanged.

import type { QuantSpec } from '../../../formats/format.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  type MemoryRange,
  type Names,
  type PackedOperand,
  read,
  write,
} from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { doubleSource } from '../wgsl/double.ts';
import { encodeSource } from '../wgsl/encode.ts';
import { edenSource, edenTensor } from '../wgsl/encode-eden.ts';
import { narrowSource } from '../wgsl/rounding.ts';
import { type Draws, isRandom } from './quantize-options.ts';
import { derivedAt, encodeAmax, scratchBinding, type TensorLevel, wholeAt } from './quantize-tensor.ts';
import { storeShared } from './quantize-unit.ts';

const threads = 256;

/** How blocks of this spec are encoded here; undefined: not at all. */
export function chosenKind({ choice, scale, granularity }: QuantSpec): 'eden' | 'four-over-six' | undefined {
  if (granularity.kind !== 'group' || granularity.size % 8 !== 0 || granularity.size > 64) return undefined;
  if (choice === 'four-over-six') return 'four-over-six';
  return choice === 'none' && scale.rule === 'ms-eden' ? 'eden' : undefined;
}

const levels: Readonly<Record<'eden' | 'four-over-six', TensorLevel>> = {
  eden: { prelude: doubleSource, statements: edenTensor },
  'four-over-six': {
    prelude: '',
    statements: `let found = divided(own, bitcast<u32>(1536.0));
    let g = select(found, bitcast<u32>(1.0), found == 0u);
    let derived = select(min(divided(bitcast<u32>(1536.0), own), 0x7f7fffffu), bitcast<u32>(1.0), own == 0u);`,
  },
};

/** The spec whose scales are those before choice and correction, to nearest E4M3. */
const plain = (spec: QuantSpec): QuantSpec => ({ ...spec, choice: 'none', scale: { ...spec.scale, rule: 'absmax' } });

const edenBody = (size: number) => `let scale = scaleValue(scaleCode(divided(amax, derived)));
  let tile = tileOf(0u, scale * g, 0.0, 0, 0u);
  var out: array<u32, ${size / 8}>;
  for (var j = 0u; j < ${size / 4}u; j++) { out[j >> 1u] |= packed4(codesOf(held[j], tile, 0u)) << (16u * (j & 1u)); }
  let code = edenCode(held, out, scale, tile.step, uniformOf(i * ${size}u));`;

/** f32 error of a block, in element order, from the magnitudes of four differences at a time. */
const measures: Readonly<Record<string, string>> = {
  mse: 'let d2 = unfused(d * d); error += d2.x; error += d2.y; error += d2.z; error += d2.w;',
  mae: 'error += d.x; error += d.y; error += d.z; error += d.w;',
  absmax: 'error = max(error, max(max(d.x, d.y), max(d.z, d.w)));',
};

const sixSource = (size: number, measure: string) => `${narrowSource('blockCode', 3, 7, 126, true)}
struct Candidate { codes: array<u32, ${size / 8}>, error: f32 }
fn levelsOf(codes: vec4u, one: f32, more: f32) -> vec4f {
  let n = codes & vec4u(7u);
  let base = select(vec4f(one), vec4f(more), ((n & vec4u(1u)) == vec4u(1u)) & (n != vec4u(1u)));
  let value = base * bitcast<vec4f>(((n >> vec4u(1u)) + vec4u(126u)) << vec4u(23u));
  return select(value, vec4f(), n == vec4u());
}
fn over1536(x: f32) -> f32 { return bitcast<f32>(divided(bitcast<u32>(x), bitcast<u32>(1536.0))); }
fn candidate(held: array<vec4u, ${size / 4}>, s: f32, g: f32, amax: f32, element: u32) -> Candidate {
  var h = held;
  var codes: array<u32, ${size / 8}>;
  var error = 0.0;
  let one = over1536(s * amax);
  let more = over1536((1.5 * s) * amax);
  let inverse = bitcast<f32>(divided(bitcast<u32>(1.0), bitcast<u32>(select(g * s, 1.0, s == 0.0))));
  let unit = tileOf(0u, 1.0, 0.0, 0, 0u);
  for (var j = 0u; j < ${size / 4}u; j++) {
    let x = bitcast<vec4f>(h[j]);
    let t = bitcast<vec4u>(clamp(x * inverse, vec4f(-6.0), vec4f(6.0)));
    let four = codesOf(select(t, vec4u(), s == 0.0), unit, element + 4u * j);
    let d = abs(levelsOf(four, one, more) - abs(x));
    ${measure}
    codes[j >> 1u] |= packed4(four) << (16u * (j & 1u));
  }
  return Candidate(codes, error);
}
`;

const sixBody = (size: number) => `let base = bitcast<f32>(divided(amax, bitcast<u32>(6.0))) * bitcast<f32>(derived);
  let whole = bitcast<f32>(most);
  var code = blockCode(bitcast<u32>(base));
  let other = blockCode(bitcast<u32>(1.5 * base));
  let first = candidate(held, scaleValue(code), g, whole, i * ${size}u);
  let second = candidate(held, scaleValue(other), g, whole, i * ${size}u);
  var out = first.codes;
  if (second.error < first.error) { out = second.codes; code = other; }`;

/** The commands for x [rows, cols] → y. */
export function encodeChosen(
  x: DenseOperand,
  y: PackedOperand,
  spec: QuantSpec,
  size: number,
  scratch: MemoryRange,
  draws: Draws,
): Command[] {
  const kind = chosenKind(spec);
  if (kind === undefined) throw new Error('webgpu: quantize was planned without a choice');
  const { layout } = y;
  const blocks = (y.rows * y.cols) / size;
  const own = kind === 'eden' ? edenSource(size) : sixSource(size, measures[spec.scale.rule]);
  // MS-EDEN draws for its scales, though elements go to the nearest
  const prelude = (
    n: Names,
  ) => `${valueSource}${unfusedSource}${encodeSource(plain(spec), n.step, isRandom(spec))}${own}
fn packed4(codes: vec4u) -> u32 { return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u); }
var<workgroup> codes: array<u32, ${threads}>;
`;
  const body = (n: Names) => `
  let i = item * ${threads}u + thread;
  let alive = i < ${blocks}u;
  var held: array<vec4u, ${size / 4}>;
  var largest = vec4u();
  if (alive) {
    for (var j = 0u; j < ${size / 4}u; j++) {
      held[j] = ${n.x}[i * ${size / 4}u + j];
      largest = max(largest, held[j] & vec4u(0x7fffffffu));
    }
  }
  var amax = max(max(largest.x, largest.y), max(largest.z, largest.w));
  if (amax >= 0x7f800000u) { report(${nonFiniteError}u, i32(i)); amax = 0u; }
  let g = bitcast<f32>(${n.y}[${layout.tensorScale / 4}u]);
  let most = ${n.scratch}[${wholeAt}u];
  let derived = ${n.scratch}[${derivedAt}u];
  ${kind === 'eden' ? edenBody(size) : sixBody(size)}
  if (alive) {
    for (var j = 0u; j < ${size / 8}u; j++) { ${n.y}[i * ${size / 8}u + j] = out[j]; }
  }
  ${storeShared({ array: n.y, value: 'code', bits: 8, first: layout.scales / 4, share: 1, total: blocks, threads })}`;
  return [
    ...encodeAmax(x, y, levels[kind], scratch),
    {
      bindings: { x: read(x, 'vec4<u32>'), y: write(y), scratch: scratchBinding(scratch), ...draws.bindings },
      words: draws.words,
      reports: true,
      ...forEachGroup(Math.ceil(blocks / threads), threads, body, prelude),
    },
  ];
}
