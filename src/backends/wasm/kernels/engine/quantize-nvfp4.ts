// The op quantize for NVFP4 with a choice or a correction: four-over-six and MS-EDEN, one group at a time.
//
// Ports of src/formats/nvfp4.ts and ms-eden.ts with the same bytes. Words: those of quantizeSpec, of which the format words
// say the groups and, as maxima of element and scale, what the tensor scale divides by; word 42 is 1 for four-over-six, 2
// for MS-EDEN.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { fourOverSix, measureMse } from '../quantize/choose';
import { decodeScale, encodeScale, scaleE4m3 } from '../quantize/scale';
import { reportError } from './error';
import { packRow, tensorScaleOf } from './quantize-spec';
import { roundingAt } from './random';

const wGroup: i32 = 18;
const wSeed: i32 = 30;
const wStream: i32 = 31;
const wMax: i32 = 33;
const wScaleMax: i32 = 35;
const wStep: i32 = 39;
const wKind: i32 = 42;
const kindEden: i32 = 2;
const lastScale: u32 = 126;

const middles: usize = memory.data<f32>([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]);
const levels: usize = memory.data<f32>([0, 0.5, 1, 1.5, 2, 3, 4, 6]);

/** E2M1 code of x / step, to nearest even. */
// @ts-ignore: decorator
@inline
function encode(x: f32, step: f32): u32 {
  const a = abs(x);
  let n: u32 = 0;
  for (let i = 0; i < 7; i++) {
    const t = step * load<f32>(at(middles, i));
    n += (i & 1) != 0 ? u32(a >= t) : u32(a > t);
  }
  return n | ((reinterpret<u32>(x) >> 31) << 3);
}

/** One of the two E4M3 neighbours of v, the upper one with the probability of its nearness. */
function stochasticScale(v: f32, u: f64): u32 {
  const near = encodeScale(scaleE4m3, v);
  const low = min(decodeScale(scaleE4m3, near) > v ? near - 1 : near, lastScale - 1);
  const below = <f64>decodeScale(scaleE4m3, low);
  const above = <f64>decodeScale(scaleE4m3, low + 1);
  return u < (<f64>v - below) / (above - below) ? low + 1 : low;
}

/** Codes of a group, one a byte; its scale's code. */
function edenGroup(x: usize, group: i32, amax: f32, divisor: f32, g: f32, u: f64, out: usize): u32 {
  const scale = decodeScale(scaleE4m3, encodeScale(scaleE4m3, amax / divisor));
  const step = scale * g;
  let squares: f64 = 0;
  let products: f64 = 0;
  for (let i = 0; i < group; i++) {
    const v = load<f32>(at(x, i));
    const code = step == 0 ? (reinterpret<u32>(v) >> 31) << 3 : encode(v, step);
    store<u8>(out + <usize>i, <u8>code);
    squares += <f64>v * <f64>v;
    products += <f64>abs(v) * <f64>load<f32>(at(levels, code & 7));
  }
  const correction = products > 0 ? squares / (<f64>step * products) : 1;
  return stochasticScale(<f32>(<f64>scale * correction), u);
}

function chosenGroup(x: usize, group: i32, amax: f32, tensorAmax: f32, g: f32, out: usize): u32 {
  const multiplier: f32 = tensorAmax > 0 ? min<f32>(<f32>1536 / tensorAmax, f32.MAX_VALUE) : 1;
  const code = fourOverSix(x, group, amax, multiplier, g, tensorAmax, measureMse);
  const s = decodeScale(scaleE4m3, code);
  const inverse: f32 = s == 0 ? 0 : <f32>1 / (g * s);
  for (let i = 0; i < group; i++)
    store<u8>(out + <usize>i, s == 0 ? 0 : <u8>encode(load<f32>(at(x, i)) * inverse, 1));
  return code;
}

export function quantizeNvfp4(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const rows = word(args, 1);
  const columns = word(args, 2);
  const packedBytes = <usize>word(args, 4);
  const scales = address(args, 5);
  const out = address(args, 9) + <usize>thread * address(args, 10);
  const group = word(args, wGroup);
  const groups = columns / group;
  const eden = word(args, wKind) == kindEden;
  const max = load<f64>(args + (<usize>wMax << 2));
  const g = tensorScaleOf(address(args, 8), threads, max, load<f64>(args + (<usize>wScaleMax << 2)));
  const divisor = <f32>(max * <f64>g);
  let most: i32 = 0;
  for (let t = 0; t < threads; t++) {
    const share = load<i32>(at(address(args, 8), t));
    if (share > most) most = share;
  }
  if (most >= 0x7f800000) {
    if (thread == 0) reportError(nonFiniteError, 0);
    return;
  }
  const tensorAmax = reinterpret<f32>(most);
  const step = address(args, wStep) == 0 ? 0 : load<i32>(address(args, wStep));
  if (thread == 0) store<f32>(address(args, 7), g);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    for (let i = 0; i < groups; i++) {
      const first = r * columns + i * group;
      const from = at(x, first);
      let amax: f32 = 0;
      for (let k = 0; k < group; k++) amax = max2(amax, abs(load<f32>(at(from, k))));
      const to = out + <usize>(i * group);
      let code: u32;
      if (eden) {
        const u = roundingAt(word(args, wSeed), word(args, wStream), step, <u64>first);
        code = edenGroup(from, group, amax, divisor, g, u, to);
      } else code = chosenGroup(from, group, amax, tensorAmax, g, to);
      store<u8>(scales + <usize>(r * groups + i), <u8>code);
    }
    packRow(out, columns, 4, address(args, 3) + <usize>r * packedBytes);
  }
}

// @ts-ignore: decorator
@inline
function max2(a: f32, b: f32): f32 {
  return a > b ? a : b;
}
