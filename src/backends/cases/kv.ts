// Quantized key/value caches: packed rows, rings, groups rounded per channel, and attention that reads them.

import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { cacheWrite } from '../../graph/ops/cache-write.ts';
import { type KvAttentionAttributes, kvAttention } from '../../graph/ops/kv-attention.ts';
import { packChannels, ringWrite } from '../../graph/ops/kv-write.ts';
import { concat, slice, transpose } from '../../graph/ops/layout.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';

const writes = (shape: number[], starts: number[]) =>
  starts.map((s) => ({ x: gaussian(s + 1, shape), start: Int32Array.of(s) }));

const packedRows = (format: string, D: number): OpCase => ({
  name: `cacheWrite ${format}, D ${D}`,
  tolerance: 'exact',
  build(g) {
    const type = parseFormat(format);
    const x = quantize(g.input('x', f32([2, 2, 3, D])), type);
    const cache = cacheWrite(g.state('cache', packed([2, 7, 3, D], type)), x, g.input('start', i32([1])));
    g.output('y', dequantize(cache));
  },
  runs: writes([2, 2, 3, D], [0, 2, 5, 1]),
});

const ring = (W: number, T: number, sinks: number, starts: number[]): OpCase => ({
  name: `ringWrite ${W} rows, ${T} tokens, ${sinks} sinks`,
  tolerance: 'exact',
  build(g) {
    const state = g.state('ring', f32([2, W, 2, 3]));
    g.output('y', ringWrite(state, g.input('x', f32([2, T, 2, 3])), g.input('start', i32([1])), { sinks }));
  },
  runs: writes([2, T, 2, 3], starts),
});

const channels = (
  format: string,
  group: number,
  T: number,
  sinks: number,
  D: number,
  starts: number[],
  S = 48,
): OpCase => ({
  name: `packChannels ${format}, ${T} tokens, ${sinks} sinks, D ${D}`,
  tolerance: 'exact',
  build(g) {
    const type = parseFormat(format);
    const start = g.input('start', i32([1]));
    const W = sinks + group - 1 + T;
    const recent = ringWrite(g.state('ring', f32([2, W, 2, D])), g.input('x', f32([2, T, 2, D])), start, { sinks });
    const cache = packChannels(g.state('cache', packed([2, 2, D, S], type)), recent, start, { tokens: T, sinks });
    g.output('y', dequantize(cache));
  },
  runs: writes([2, T, 2, D], starts),
});

export const kvWriteCases: OpCase[] = [
  packedRows('int2-channel-asymf', 5),
  packedRows('int4-g16-asymf', 80),
  packedRows('int3-g32-asymf', 64),
  packedRows('fp8-e4m3-token', 12),
  packedRows('mxfp4', 32),
  packedRows('f16', 7),
  packedRows('q8_0', 32),
  ring(4, 1, 0, [0, 1, 2, 3, 4, 5, 6]),
  ring(7, 3, 2, [0, 3, 6, 9]),
  ring(5, 4, 1, [1, 5, 9, 1]),
  channels('int2-g8-asymf', 8, 1, 0, 3, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
  channels('int4-g16-asymf', 16, 5, 2, 5, [0, 5, 10, 15, 20, 25]),
  channels('int3-g8-asymf', 8, 16, 0, 20, [0, 16, 32]),
  channels('int8-g16', 16, 7, 1, 4, [0, 7, 14, 21]),
  channels('mxfp4', 32, 33, 0, 2, [0, 31], 64),
];

interface Sizes {
  B: number;
  T: number;
  H: number;
  G: number;
  D: number;
}

type View = Omit<KvAttentionAttributes, 'scale'>;

/** Keys rounded per channel: [B, T, G, D] → packed [B, G, D, whole groups], at least one. */
function windowChannels(g: GraphBuilder, k: Value, format: string, group: number, sinks: number): Value {
  const [B, T, G, D] = k.type.shape;
  const whole = Math.floor((T - sinks) / group) * group;
  const zeros = g.constant(tensorF32([B, group, G, D], new Float32Array(B * group * G * D)));
  const tokens = whole > 0 ? concat([slice(k, 1, sinks, whole), zeros], 1) : zeros;
  return quantize(transpose(tokens, [0, 2, 3, 1]), parseFormat(format));
}

const wholeWindow = (
  name: string,
  { B, T, H, G, D }: Sizes,
  keys: string,
  values: string,
  view: View,
  group = 1,
): OpCase => ({
  name: `kvAttention ${name}`,
  tolerance: 4e-6,
  build(g) {
    const k = g.input('k', f32([B, T, G, D]));
    const v = g.input('v', f32([B, T, G, D]));
    const kv = {
      keys: view.keys === 'channel' ? windowChannels(g, k, keys, group, view.sinks) : quantize(k, parseFormat(keys)),
      values: quantize(v, parseFormat(values)),
      recentKeys: k,
      recentValues: v,
    };
    g.output('y', kvAttention(g.input('q', f32([B, T, H, D])), kv, { scale: 0.3, ...view }));
  },
  runs: [{ q: gaussian(1, [B, T, H, D]), k: gaussian(2, [B, T, G, D]), v: gaussian(3, [B, T, G, D]) }],
});

/** Tokens appended to a cache of S rows, T a run. */
const appended = (
  name: string,
  { B, T, H, G, D }: Sizes,
  S: number,
  keys: string,
  values: string,
  view: View,
  starts: number[],
): OpCase => ({
  name: `kvAttention ${name}`,
  tolerance: 4e-6,
  build(g) {
    const start = g.input('start', i32([1]));
    const [k, v] = [g.input('k', f32([B, T, G, D])), g.input('v', f32([B, T, G, D]))];
    const { sinks } = view;
    const W = sinks + Math.max(view.block - 1, view.residual) + T;
    const [keyFormat, valueFormat] = [parseFormat(keys), parseFormat(values)];
    const recentKeys = ringWrite(g.state('rk', f32([B, W, G, D])), k, start, { sinks });
    const recentValues = ringWrite(g.state('rv', f32([B, W, G, D])), v, start, { sinks });
    const packedKeys =
      view.keys === 'channel'
        ? packChannels(g.state('k-cache', packed([B, G, D, S], keyFormat)), recentKeys, start, { tokens: T, sinks })
        : cacheWrite(g.state('k-cache', packed([B, S, G, D], keyFormat)), quantize(k, keyFormat), start);
    const packedValues = cacheWrite(
      g.state('v-cache', packed([B, S, G, D], valueFormat)),
      quantize(v, valueFormat),
      start,
    );
    const kv = { keys: packedKeys, values: packedValues, recentKeys, recentValues, start };
    g.output('y', kvAttention(g.input('q', f32([B, T, H, D])), kv, { scale: 0.3, ...view }));
  },
  runs: starts.map((s) => ({
    start: Int32Array.of(s),
    q: gaussian(100 + s, [B, T, H, D]),
    k: gaussian(200 + s, [B, T, G, D]),
    v: gaussian(300 + s, [B, T, G, D]),
  })),
});

const from = (count: number, step = 1) => Array.from({ length: count }, (_, i) => i * step);
const channel = (block: number, residual: number, more: Partial<View> = {}): View => ({
  keys: 'channel',
  block,
  residual,
  sinks: 0,
  window: 0,
  ...more,
});
const token = (block: number, residual: number, more: Partial<View> = {}): View => ({
  ...channel(block, residual, more),
  keys: 'token',
});

export const kvAttentionCases: OpCase[] = [
  wholeWindow(
    'window, per channel',
    { B: 2, T: 37, H: 4, G: 2, D: 6 },
    'int2-g8-asymf',
    'int2-channel-asymf',
    channel(8, 8),
    8,
  ),
  wholeWindow(
    'window, per token',
    { B: 1, T: 21, H: 3, G: 1, D: 5 },
    'int4-channel-asymf',
    'int4-channel-asymf',
    token(1, 0),
  ),
  wholeWindow(
    'shorter than a group',
    { B: 1, T: 5, H: 2, G: 2, D: 8 },
    'int2-g8-asymf',
    'int2-g8-asymf',
    channel(8, 3),
    8,
  ),
  wholeWindow(
    'head dimension 80, queries in several blocks',
    { B: 1, T: 150, H: 8, G: 2, D: 80 },
    'int4-g32-asymf',
    'int4-g16-asymf',
    channel(64, 64),
    32,
  ),
  wholeWindow(
    'sliding window and sinks',
    { B: 2, T: 139, H: 2, G: 1, D: 16 },
    'int4-g8-asymf',
    'fp8-e4m3-token',
    channel(16, 16, { sinks: 3, window: 41 }),
    8,
  ),
  wholeWindow(
    'sinks beyond a block',
    { B: 1, T: 90, H: 1, G: 1, D: 8 },
    'int8-channel',
    'f16',
    token(4, 2, { sinks: 70 }),
  ),
  appended(
    'token by token, per channel',
    { B: 2, T: 1, H: 4, G: 2, D: 6 },
    32,
    'int2-g8-asymf',
    'int2-channel-asymf',
    channel(8, 5),
    from(27),
  ),
  appended(
    'token by token, per token, no residual',
    { B: 1, T: 1, H: 3, G: 3, D: 8 },
    9,
    'int4-g8-asymf',
    'int8-g8',
    token(1, 0),
    from(9),
  ),
  appended(
    'chunks with sinks',
    { B: 1, T: 5, H: 6, G: 2, D: 20 },
    48,
    'int3-g8-asymf',
    'int4-channel-asymf',
    channel(16, 16, { sinks: 2 }),
    from(9, 5),
  ),
  appended(
    'chunks in a sliding window',
    { B: 1, T: 7, H: 9, G: 1, D: 10 },
    64,
    'int4-channel-asymf',
    'int4-channel-asymf',
    token(4, 6, { window: 12 }),
    from(8, 7),
  ),
];
