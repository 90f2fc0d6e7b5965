// Golden bytes of llama.cpp's quantizers (x86-64): whole-stream hashes, hashes under importance weights, and single
// blocks of ramps. Recorded once from libggml; they need no native library.

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { GgmlTypeName } from '../../src/formats/format.ts';
import { dequantizeGgml, quantizeGgml } from '../../src/formats/ggml/quantize.ts';
import { ggmlRowBytes, ggmlTypeNames } from '../../src/formats/ggml/types.ts';

/** 1024 values in [−2, 2) from a linear congruential generator; every value is exact in f32. */
function streamX(seed = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: 1024 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 8) / 2 ** 24 - 0.5) * 4;
  });
}

/** The same with heavier tails: x³ in f32 steps. */
const streamY = () => streamX().map((x) => Math.fround(x * x) * x);

const hash = (data: Uint8Array | Float32Array) => createHash('sha256').update(data).digest('hex').slice(0, 16);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

test('the input streams are the recorded ones', () => {
  expect(hash(streamX())).toBe('d37f7897b79929d2');
  expect(hash(streamY())).toBe('df06efad39cce010');
});

const streams: [GgmlTypeName, number, string, string, string][] = [
  ['q4_0', 576, '4acf47d7bfbe2603', '62d0e68bd8fab151', 'bc33e456b89b31161d5920ba'],
  ['q4_1', 640, 'f4e4b28d38db4f60', '8e34a84d87783f26', '1d34bcbfd355a88b31151c58'],
  ['q5_0', 704, 'abbe20dbe1673c97', '45fce4d123fe1f66', 'bc2fccb20d66c7ac6017713c'],
  ['q5_1', 768, 'bed93d22f3f99eb4', 'd04d37d6cf022b3d', 'f72fbcbfccb20d66b7ab5016'],
  ['q8_0', 1088, 'ed9e49633d9e55f0', '2ed7d695ef827cb2', 'cc23bbde01368ade480f8125'],
  ['q2_k', 336, 'f8d0e9ee19818f86', 'd4d0ff94be02179a', 'ffccbcdcdeeeebffffeceecc'],
  ['q3_k', 440, 'a2dbc3a257b1ec14', 'de32d832f50688d2', 'fab8ffbfca907515f83122b7'],
  ['q4_k', 576, '31ed8c5b0d7135c6', '1c8fb46a91a9b601', '8a1c1128fefbfafffcfcfdfe'],
  ['q5_k', 704, '7d9f2b170b484303', '999795b4f8cbe907', '22181728fefefffffdfcfdff'],
  ['q6_k', 840, '427a1880e7a993dc', 'd694267f7ce5c895', 'df48f0ed03c832745129101b'],
  ['iq4_nl', 576, 'd3a1df2b47e3b0ef', '01c46f25f078182f', '1b24e345c89c31151d4920cb'],
  ['iq4_xs', 544, 'ff809b199f34b923', '9c795d6b8839ab1b', '4010c33f2ff0fe4fe345b89c'],
  ['tq1_0', 216, 'e71f8c7877aa43dd', 'f3643fd695df9130', '34a6767636a6f08047a40e7d'],
  ['tq2_0', 264, 'cf5f7a2396e94de9', 'd496da3f2c46ff1f', '64694545a4691a5558295015'],
  ['ggml-mxfp4', 544, '2d30186784f7af64', '2661b1db92379dc2', '7d7edc5015effcf6d2ff543e'],
  ['ggml-nvfp4', 576, '13daa57863257928', '3b9f229e71be89f8', '2a292b2afd4bd0a52f6bd671'],
  ['q1_0', 144, '18970aa3fe8cfc20', 'd7a03b541bf0eb9e', '0a3cccb20d66ea13539033c7'],
  ['q2_0', 288, '71c5034153a5f9c8', '444efdf44525ea1c', 'e93f54644489564054295969'],
];

describe('recorded streams', () => {
  test('cover every type', () => {
    expect(streams.map(([type]) => type).sort()).toEqual([...ggmlTypeNames].sort());
  });

  test.each(streams)('%s', (type, size, hashX, hashY, start) => {
    const bytes = quantizeGgml(type, streamX(), 1, 1024);
    expect(bytes.length).toBe(size);
    expect(hex(bytes.subarray(0, 12))).toBe(start);
    expect(hash(bytes)).toBe(hashX);
    expect(hash(quantizeGgml(type, streamY(), 1, 1024))).toBe(hashY);
  });

  test.each<[GgmlTypeName, string]>([
    ['q2_k', '6249b0afc19237dc'],
    ['q3_k', '2facd5a7f3f920eb'],
    ['q4_k', 'e7bf805de90431be'],
    ['q5_k', '56f128c14a7e306c'],
    ['q6_k', 'cecaf2d1a2c277ea'],
    ['q4_0', '3db987ce61de80e9'],
  ])('%s with importance weights', (type, expected) => {
    const importance = streamX(7).map((x) => x * x);
    expect(hash(quantizeGgml(type, streamX(), 1, 1024, importance))).toBe(expected);
  });
});

const ramp = (length: number, offset: number) => Float32Array.from({ length }, (_, i) => i - offset);

describe('single blocks of i − offset', () => {
  test.each<[GgmlTypeName, number, number, string]>([
    ['q4_0', 32, 12, 'c0c06d6d5c5c5b4b4b3a3a39292818180707'],
    ['q4_1', 32, 12, '224000ca80809191a2a2b3b3c4c4d5d5e6e6f7f7'],
    ['q5_0', 32, 12, 'c0bcff1f0000dac9b8a89786857463534231302f1e0d'],
    ['q5_1', 32, 12, '003c00ca0000ffff00112233445566778899aabbccddeeff'],
    ['q8_0', 32, 12, 'ca30b0b6bdc4cbd1d8dfe5ecf3f900070d141b21282f353c434a50575e646b72787f'],
    ['iq4_nl', 32, 12, '98b06e5d5d4d4c3c3b2b2a2a191818070706'],
    ['ggml-mxfp4', 32, 12, '812d2d3c3c4c4b4b5a5a59596060606161'],
    ['ggml-nvfp4', 64, 20, '453f494eefdfdfdfcececebe4c5b5a696061727365656575767676767676767676767676'],
    ['q2_0', 64, 20, '605155555555555555555555a5aaaaaaaaaa'],
    ['q1_0', 128, 40, '8a500000000000ffffffffffffffffffffff'],
  ])('%s', (type, length, offset, expected) => {
    expect(hex(quantizeGgml(type, ramp(length, offset), 1, length))).toBe(expected);
  });

  test.each<[GgmlTypeName, string]>([
    ['q2_k', '6e035c8fece15720'],
    ['q3_k', 'e19c03aa20d5e12b'],
    ['q4_k', '7b09a0873b60937f'],
    ['q5_k', '79deae88a927d927'],
    ['q6_k', 'f93c9eaee7650fd9'],
    ['iq4_xs', 'fdf35926a01181d9'],
  ])('%s', (type, expected) => {
    expect(hash(quantizeGgml(type, ramp(256, 100), 1, 256))).toBe(expected);
  });

  test('ternary runs', () => {
    const runs = (text: string) =>
      text
        .split(' ')
        .map((run) => run.split('x'))
        .map(([byte, count]) => byte.repeat(Number(count ?? 1)))
        .join('');
    const tq1 = '2bx23 80x9 8ex2 aax14 fdx4 d8 58';
    expect(hex(quantizeGgml('tq1_0', ramp(256, 100), 1, 256))).toBe(runs(tq1));
    expect(hex(quantizeGgml('tq2_0', ramp(256, 100), 1, 256))).toBe(runs('54x23 55x9 a5x18 a9x14 d8 58'));
  });
});

test('a decoded value lies within one scale step of its source', () => {
  // Loose on purpose: a swapped nibble or scale moves values by much more. Exact values are compared with ggml.
  const x = ramp(256, 100);
  for (const type of ggmlTypeNames) {
    if (type.startsWith('tq') || type.startsWith('q1') || type === 'q2_0') continue;
    const back = dequantizeGgml(type, quantizeGgml(type, x, 1, 256), 1, 256);
    const worst = Math.max(...x.map((v, i) => Math.abs(v - back[i])));
    expect(worst, type).toBeLessThan(type === 'q2_k' || type === 'q3_k' ? 32 : 28);
    expect(ggmlRowBytes(type, 256)).toBeLessThan(512);
  }
});
