// Block formats against bytes made by other implementations: torchao's to_mx (all scale rules), Transformer Engine,
// torchao and fouroversix NVFP4, fouroversix NVINT4 and IF4, HiFloat4's NumPy program, ONNX Runtime's quantizers.
import { expect, test } from 'vitest';
import type { QuantSpec } from '../../src/formats/format.ts';
import { unpackRows } from '../../src/formats/packing.ts';
import { dequantize, quantize } from '../../src/formats/quantize.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { elementBits } from '../../src/formats/table.ts';
import { hash, hex, streamX, streamY } from './streams.ts';

const streams: Record<string, Float32Array> = { X: streamX(), Y: streamY() };

test('the input streams are the published ones', () => {
  expect(hash(streams.X!)).toBe('d37f7897b79929d2');
  expect(hash(streams.Y!)).toBe('df06efad39cce010');
});

// stream, format, first 4 scale bytes, hash of the scale bytes, hash of one-code-per-byte elements
const mx: [string, string, number[], string, string][] = [
  ['X', 'mxfp4', [125, 125, 125, 125], '07e31c6ab1a4928c', 'eabc10caf2409515'],
  ['X', 'mxfp4-ceil', [126, 126, 126, 126], '3af805c48a2c0ebe', '2bf7c65ee71ce339'],
  ['X', 'mxfp4-even', [126, 126, 126, 126], '3af805c48a2c0ebe', '2bf7c65ee71ce339'],
  ['X', 'mxfp4-rceil', [126, 126, 126, 126], '3af805c48a2c0ebe', '2bf7c65ee71ce339'],
  ['Y', 'mxfp4', [127, 127, 127, 127], '17a7384bf1c50a94', 'ee4a86780aa4a139'],
  ['Y', 'mxfp4-ceil', [128, 128, 128, 128], 'bd75a82b9957d6d0', '3316ff66e93b8980'],
  ['Y', 'mxfp4-even', [128, 128, 128, 128], '993f90f89d6c5ddb', '4ce917fdcc5611cd'],
  ['Y', 'mxfp4-rceil', [128, 128, 128, 128], 'ec300efc40ee76f0', '6fd84c78d916b6fc'],
  ['X', 'mxfp8-e4m3', [119, 119, 119, 119], 'e29442e61ad354e5', '9b9a4919099272bd'],
  ['X', 'mxfp8-e4m3-ceil', [120, 120, 120, 120], 'c62e4615bd39e222', '573013d9e60501ce'],
  ['X', 'mxfp8-e4m3-rceil', [120, 120, 120, 120], 'c62e4615bd39e222', '573013d9e60501ce'],
  ['X', 'mxfp8-e4m3-even', [119, 120, 120, 120], 'e8da8866576d291a', '54c5947f3f209a3d'],
  ['Y', 'mxfp8-e4m3', [121, 121, 121, 121], '87c5ad3105ddfcc3', '3a5efa422b104a0e'],
  ['Y', 'mxfp8-e4m3-even', [121, 121, 122, 122], 'bf3ac6b140a3d570', '0ef46a533f15965f'],
  ['Y', 'mxfp8-e4m3-rceil', [122, 122, 122, 122], '022a2d9f51f6d8e1', '94c78d5d9aabb931'],
  ['X', 'mxfp8-e5m2', [112], 'a7cbbfdfe39c7df7', 'c6367e3f903bd3d4'],
  ['X', 'mxfp8-e5m2-rceil', [113], '3e441393404b2085', 'f73ecf18f9b66b78'],
  ['X', 'mxfp6-e2m3', [125], '07e31c6ab1a4928c', '98d0f63b966049ca'],
  ['X', 'mxfp6-e2m3-even', [125, 126], '13fda29c5735987e', 'bd5b44d62b8388a1'],
  ['X', 'mxfp6-e2m3-rceil', [126], '6f15f1e851b7618e', '1755b8fe63841a4f'],
  ['X', 'mxfp6-e3m2', [123], '242d90eb14c6780a', 'c0b494de360629dd'],
  ['X', 'mxfp6-e3m2-rceil', [124], 'd8f929fd8120f582', '1ee405d4ad9f967b'],
];

test.each(mx)('MX, stream %s, %s: torchao bytes', (stream, name, first, scales, codes) => {
  const format = parseFormat(name) as QuantSpec;
  const q = quantize(streams[stream]!, 1, 1024, format);
  expect([...q.scales.subarray(0, first.length)]).toEqual(first);
  expect(hash(q.scales)).toBe(scales);
  expect(hash(unpackRows(q.codes, 1024, elementBits(format.element), 0, 1))).toBe(codes);
});

// stream, format, leading scale bytes, hash of the scales (or none published), hash of the packed codes
const nv: [string, string, string, string | undefined, string][] = [
  ...['nvfp4', 'nvfp4-transformerengine', 'nvfp4-torchao', 'nvfp4-modelopt', 'nvfp4-ct', 'nvfp4-fouroversix'].flatMap(
    (name): [string, string, string, string, string][] => [
      ['X', name, '7e7c7e7d7e7d7e7e', '2e304ea2fcccfc8e', '16a60d834203b5ce'],
      ['Y', name, '7d797e7c7e7c7e7d', '0ef0639f4de2b6d5', 'feb2a5d185804d75'],
    ],
  ),
  ...['nvfp4-onelevel', 'nvfp4-onelevel-torchao'].flatMap((name): [string, string, string, string, string][] => [
    ['X', name, '2a292b2a2b2a2b2a', 'f0e3bbd08603210a', '301abbdf676942d8'],
    ['Y', name, '3a363a393b393b3a', '73e29fd0ec481fe6', 'b4fe6df5760158ac'],
  ]),
  ['X', 'nvfp4-46-mae', '7c7a787778777878', '202f8faf40961d47', 'a12781749ce44b5c'],
  ['X', 'nvfp4-46', '777a78777c777c78', 'e7927a8ccb89e75c', '88224abf60b27561'],
  ['Y', 'nvfp4-46-mae', '7672777b7c7b787b', '4c24317c430b7e94', '22f40d0ba013523e'],
  ['Y', 'nvfp4-46', '7b72777b7c7b787b', '46f6efea807b76a4', '936ba021d422a2bd'],
  ['X', 'nvfp4-46-absmax', '', '3061d2ff9a49b6f4', 'cd839684ae705802'],
  ['Y', 'nvfp4-46-absmax', '', '6cc8d0366ec6eac6', 'a677efac05845586'],
  ['X', 'nvint4', '', '2e304ea2fcccfc8e', '5e3258441599bca5'],
  ['Y', 'nvint4', '', '0ef0639f4de2b6d5', '6b3c36af7d524193'],
  ['X', 'if4', 'fefc7efdfefdfefe', '9d56e9299286c072', 'ca047bc42897131e'],
  ['Y', 'if4', '', '5aabd624adee799f', '0340f9cc69640a17'],
  ['X', 'if4-mae', '', '8872fe54148590d0', '9b35466aed59c798'],
  ['Y', 'if4-mae', '', '8d86584df24f5341', 'b4abb2f7960cda83'],
];

test.each(nv)('two-level scales, stream %s, %s: other libraries’ bytes', (stream, name, first, scales, codes) => {
  const q = quantize(streams[stream]!, 1, 1024, parseFormat(name));
  expect(hex(q.scales, first.length / 2)).toBe(first);
  if (scales) expect(hash(q.scales)).toBe(scales);
  expect(hash(q.codes)).toBe(codes);
});

test.each([
  ['X', '7e7e7e7e', '90355b565de86da4'],
  ['Y', undefined, 'e126778b1cecc67c'],
])('NVFP4 with 16×16 blocks, stream %s as [16, 64]: Transformer Engine bytes', (stream, scales, codes) => {
  const q = quantize(streams[stream]!, 16, 64, parseFormat('nvfp4-2d'));
  if (scales) expect(hex(q.scales, 4)).toBe(scales);
  expect(hash(q.codes)).toBe(codes);
});

test.each([
  ['X', 'd2fef6f25af81c6a'],
  ['Y', '408c090d0f007fe8'],
])('HiF4, stream %s: values of the reference program', (stream, values) => {
  const q = quantize(streams[stream]!, 16, 64, parseFormat('hif4'));
  const back = dequantize(q);
  if (stream === 'X') expect([...back.subarray(0, 5)]).toEqual([-1, -0.5, 0, 0.75, -1.75]);
  expect(hash(back)).toBe(values);
});
