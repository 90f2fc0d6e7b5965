// The op quantize against the reference codec: formats, widths and roundings beyond the common op cases.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FixedScale } from '../../formats/fixed-scale.ts';
import { dequantize as decode, quantize as encode } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { gaussian } from '../op-case.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

let backend: WasmBackend;
beforeAll(async () => {
  backend = await createWasmBackend({ threads: 2 });
});
afterAll(() => {
  expect(backend.usedBytes).toBe(0);
  backend.dispose();
});

/** Values of every kind: normal, heavy-tailed, ties, powers of two, tiny, zeros of both signs, zero rows. */
function values(rows: number, cols: number): Float32Array {
  const x = gaussian(rows + 31 * cols, [rows, cols]);
  return x.map((v, i) => {
    const kind = (i * 2654435761) % 11;
    if (Math.floor(i / cols) % 5 === 4) return 0;
    if (kind === 0) return v ** 5;
    if (kind === 1) return Math.round(v * 4) / 4;
    if (kind === 2) return 2 ** Math.round(3 * v);
    if (kind === 3) return v * 1e-40;
    if (kind === 4) return -0;
    return v;
  });
}

async function roundTrip(
  x: Float32Array,
  rows: number,
  cols: number,
  name: string,
  fixed?: FixedScale,
): Promise<Float32Array> {
  const format = parseFormat(name);
  const graph = trace((g) =>
    g.output('y', dequantize(quantize(g.input('x', f32([rows, cols])), format, { seed: 5, stream: 9, fixed }))),
  );
  const run = await backend.compile(graph, { params: new Map() });
  try {
    run.write('x', x);
    run.run();
    return (await run.read('y')).data as Float32Array;
  } finally {
    run.dispose();
  }
}

const cases: [name: string, shapes: (readonly [rows: number, cols: number])[]][] = [
  ...['int2', 'int3', 'int4', 'int5', 'int8'].map((e): (typeof cases)[number] => [
    `${e}-channel`,
    [
      [7, 37],
      [5, 48],
    ],
  ]),
  ...['rne', 'away', 'up', 'tozero', 'trunc', 'sr'].flatMap((rounding): typeof cases => [
    [`int4-g16-${rounding}`, [[6, 48]]],
    [`fp8-e4m3-channel-${rounding}`, [[6, 35]]],
    [`mxfp4-${rounding}`, [[6, 64]]],
  ]),
  [
    'int8-token',
    [
      [3, 1],
      [9, 130],
    ],
  ],
  ['int4-g12-asym', [[6, 36]]],
  ['int4-g32-asym', [[6, 64]]],
  ['int3-channel-asym', [[6, 21]]],
  ['int4-g32-asymf', [[6, 64]]],
  ['int4-g10-asymf', [[6, 30]]],
  ['int4-g128-half', [[3, 128]]],
  ['int4-g32-signed', [[6, 64]]],
  [
    'fp8-e4m3-tensor',
    [
      [5, 33],
      [5, 64],
    ],
  ],
  ['fp8-e5m2-tensor', [[5, 64]]],
  [
    'fp8-e4m3-tile1x128',
    [
      [3, 256],
      [3, 130],
    ],
  ],
  ['fp8-e4m3-tile128x128', [[130, 144]]],
  ['fp8-e4m3fnuz-channel', [[6, 32]]],
  ['mxfp4-ceil', [[6, 64]]],
  ['mxfp4-even', [[6, 64]]],
  ['mxfp4-rceil', [[6, 64]]],
  ['mxfp6-e2m3', [[6, 64]]],
  ['mxfp6-e3m2', [[6, 64]]],
  ['mxfp8-e5m2', [[6, 64]]],
  ['mxint8', [[6, 64]]],
  ['mxint4', [[6, 64]]],
  ['nvfp4', [[6, 64]]],
  ['nvfp4-2d', [[18, 48]]],
  ['nvfp4-sr', [[6, 64]]],
  ['nvint4', [[6, 64]]],
  ['nvfp4-ue5m3', [[6, 64]]],
  ['f16', [[5, 37]]],
  ['bf16', [[5, 37]]],
  ['f32', [[5, 37]]],
  ['q4_0', [[6, 64]]],
  ['q8_0', [[6, 64]]],
  ['hif4', [[6, 128]]],
];

describe('quantize gives the codes of the reference', () => {
  it.each(cases)('%s', async (name, shapes) => {
    for (const [rows, cols] of shapes) {
      const x = values(rows, cols);
      const expected = decode(encode(x, rows, cols, parseFormat(name), { seed: 5, stream: 9 }));
      const found = await roundTrip(x, rows, cols, name);
      // A negative zero may decode to a positive one; its code is not visible here.
      expect(found.map((v) => v + 0)).toEqual(expected.map((v) => v + 0));
    }
  });

  it('MXFP4: every midpoint and its neighbours, between groups whose scales are at the ends of the range', async () => {
    const middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5].flatMap((m) => [m - 2 ** -21, m, m + 2 ** -21]);
    const group = [6, ...middles.map((m, i) => (i % 2 ? -m : m)), 4, 2, -1, 0.5, 0, -0, 6 - 2 ** -20, -4, 1.5, -3];
    expect(group.length).toBe(32);
    const exponents = [0, 1, -1, -100, -99, -98, -130, -145, 124, 125, 100, -64, 3];
    for (const cols of [32, 96, 416]) {
      const rows = Math.ceil((32 * 3 * exponents.length) / cols);
      const x = Float32Array.from(
        { length: rows * cols },
        (_, i) => group[(i + 5 * (i >> 5)) % 32] * 2 ** exponents[(i >> 5) % exponents.length],
      );
      for (const rule of ['', '-ceil', '-even', '-rceil', '-quest']) {
        const expected = decode(encode(x, rows, cols, parseFormat(`mxfp4${rule}`)));
        const found = await roundTrip(x, rows, cols, `mxfp4${rule}`);
        expect(
          found.map((v) => v + 0),
          `mxfp4${rule}, ${rows}×${cols}`,
        ).toEqual(expected.map((v) => v + 0));
      }
    }
  });

  it('extremes of 16-bit formats and of blocks', async () => {
    const x = Float32Array.of(
      65504,
      65519,
      65520,
      1e38,
      -3.4e38,
      6e-8,
      2.9e-8,
      3.3895314e38,
      ...new Float32Array(24).fill(1e-39),
    );
    for (const name of ['f16', 'bf16', 'q8_0', 'q4_0']) {
      const expected = decode(encode(x, 1, 32, parseFormat(name)));
      expect([...(await roundTrip(x, 1, 32, name))]).toEqual([...expected]);
    }
  });

  it('refuses NaN and formats without a kernel, by name', async () => {
    const x = new Float32Array(64).fill(1);
    x[40] = Number.NaN;
    for (const name of ['mxfp4', 'int8-token', 'nvfp4', 'int4-g16-sr', 'fp8-e4m3-tensor', 'q8_0', 'hif4'])
      await expect(roundTrip(x, 1, 64, name)).rejects.toThrow(/quantize: x holds a NaN or an infinity/);
    for (const bad of [Number.NaN, -Infinity]) {
      x[40] = bad;
      for (const [name, fixed] of [
        ['int8-tensor', { scale: 1 }],
        ['int8-tensor-asym', { scale: 1, zeroPoint: 3 }],
        ['fp8-e4m3-tensor', { scale: 1 }],
      ] as const)
        await expect(roundTrip(x, 1, 64, name, fixed)).rejects.toThrow(/quantize: x holds a NaN or an infinity/);
    }
    await expect(roundTrip(x, 1, 64, 'int8-token', { scale: 1 })).rejects.toThrow(
      /the fixed scale does not suit the format, got int8-token with \{"scale":1\}, expected one scale for the tensor/,
    );
    await expect(roundTrip(x, 1, 64, 'nf4-g64')).rejects.toThrow(/quantize: the wasm backend has no kernel .*nf4-g64/);
  });
});

it('bf16: every upper half with lower halves about a tie, NaN and infinity among them', async () => {
  const low = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
  const words = Uint32Array.from({ length: low.length << 16 }, (_, i) => ((i & 0xffff) << 16) | low[i >> 16]);
  const x = new Float32Array(words.buffer);
  // one that no whole group of lanes holds
  const shorter = x.subarray(0, x.length - 5);
  for (const [rows, given] of [
    [low.length, x],
    [1, shorter],
  ] as const) {
    const found = await roundTrip(given, rows, given.length / rows, 'bf16');
    const expected = decode(encode(given, rows, given.length / rows, parseFormat('bf16')));
    expect(expected.findIndex((v, i) => !Object.is(v, found[i]))).toBe(-1);
  }
});
