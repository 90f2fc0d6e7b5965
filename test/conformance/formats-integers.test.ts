// Integer and codebook quantizers against ONNX Runtime's own (quantize_matmul_{2,4,8}bits, quantize_matmul_bnb4) on
// stream X as a weight [16, 64], blocks of 32 and 64.
import { expect, test } from 'vitest';
import { packCodes, unpackRows } from '../../src/formats/packing.ts';
import { quantize } from '../../src/formats/quantize.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { hash, hex, streamX } from './streams.ts';

const floats = (bytes: Uint8Array) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

test.each([
  [2, 'a268262f89fa6d7c', '157f58c0de854549', 'e5b49cdeb741ac7d', [0.9670135974884033, -0.9886785745620728]],
  [4, 'd1e94c700e545804', 'f7f53a3a5b28c8f1', '64b8619da074eaf4', [0.24175339937210083, -0.2471696436405182]],
  [8, '04daa01e687bf6a4', 'aae42cd741a7c040', '3a5d81b6095dc98f', [0.015109587460756302, -0.015448102727532387]],
])('symmetric %d bits: the signed-maximum rule', (bits, codes, scales, start, first) => {
  const q = quantize(streamX(), 16, 64, parseFormat(`int${bits}-g32-signed-f32s-up`));
  // the library stores codes with an offset of 2^(b−1)
  const offset = 2 ** (bits - 1);
  const packed = packCodes(
    unpackRows(q.codes, 64, bits, 0, 16).map((c) => (c + offset) & (2 * offset - 1)),
    16,
    64,
    bits,
  );
  expect([...floats(q.scales).subarray(0, 2)]).toEqual(first);
  expect(hash(q.scales)).toBe(scales);
  expect(hex(packed, 8)).toBe(start);
  expect(hash(packed)).toBe(codes);
});

test.each([
  [2, '094b042ed1002378', 'c307eee2f96a89b9', '8f52e17d1483cff4', 'e9b998deb755ad7d', 1.2858036756515503],
  [4, 'b667c7cfd0f9074f', '2697599b6533b20b', '3052b23675ff23ad', '64b8619ca074d9f4', 0.2571607232093811],
  [8, 'fcb0759b685a44a0', 'b7b030173659d1a9', '42e5f5c176334c42', '3a5d81b6095dc98f', 0.01512710191309452],
])('asymmetric %d bits: range with zero, integer zero point', (bits, codes, scales, zeros, start, first) => {
  const q = quantize(streamX(), 16, 64, parseFormat(`int${bits}-g32-asym-f32s-up`));
  expect(floats(q.scales)[0]).toBe(first);
  expect(hash(q.scales)).toBe(scales);
  expect(hex(q.codes, 8)).toBe(start);
  expect(hash(q.codes)).toBe(codes);
  // two zero points a row, packed to whole bytes; unused 2-bit places hold the middle code 2
  const padded = bits === 2 ? 4 : 2;
  const rows = new Uint8Array(16 * padded).fill(2);
  for (let r = 0; r < 16; r++) rows.set(q.zeroPoints!.subarray(2 * r, 2 * r + 2), padded * r);
  expect(hash(packCodes(rows, 16, padded, bits))).toBe(zeros);
});

test('NF4 in blocks of 64: bitsandbytes order has the first element in the high nibble', () => {
  // this function takes the transposed weight and runs its blocks over that order
  const x = streamX();
  const transposed = Float32Array.from({ length: 1024 }, (_, i) => x[(i % 16) * 64 + Math.floor(i / 16)]!);
  const q = quantize(transposed, 16, 64, parseFormat('nf4-g64-f32s'));
  const swapped = q.codes.map((b) => (b >> 4) | ((b & 15) << 4));
  expect(floats(q.scales)[0]).toBe(1.9925692081451416);
  expect(hash(q.scales)).toBe('9109be9bcd3ac5de');
  expect(hex(swapped, 8)).toBe('2d9e157efbf2ee22');
  expect(hash(swapped)).toBe('a00c6c271e4693a1');
});
