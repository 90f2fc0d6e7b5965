// Importance weights through both quantizers: shared by all rows, one set an expert, and unusable ones.

import { afterAll, beforeAll, expect, test } from 'vitest';
import { quantizeGgml } from '../formats/ggml/quantize.ts';
import { uniformSource } from '../formats/random.ts';
import { parseFormat } from '../formats/registry.ts';
import { type AnyTensor, tensorF32 } from '../tensor/tensor.ts';
import { openQuantizer, referenceQuantizer, type TensorQuantizer } from './tensor-quantizer.ts';

const random = uniformSource(11, 0);
const values = (n: number, first = 0) => Float32Array.from({ length: n }, (_, i) => random.at(first + i) - 0.5);
const experts: AnyTensor = tensorF32([3, 4, 256], values(3 * 4 * 256));
const weights = values(3 * 256, 5000).map((v) => v * v);
const options = { seed: 0, stream: 0, name: 'blk.0.ffn_up_exps.weight' };

let quantizers: Record<string, TensorQuantizer>;
beforeAll(async () => {
  quantizers = { reference: referenceQuantizer(), wasm: await openQuantizer({ threads: 1 }) };
});
afterAll(() => quantizers.wasm.dispose());

/** The rows of expert e by the definition. */
const expert = (type: 'q4_k' | 'q5_0' | 'q3_k', e: number, importance?: Float32Array) =>
  quantizeGgml(type, (experts.data as Float32Array).subarray(e * 1024, (e + 1) * 1024), 4, 256, importance);

test.each(['q4_k', 'q5_0', 'q3_k'] as const)(
  '%s: every expert has its own weights, or all share them',
  async (type) => {
    for (const quantizer of Object.values(quantizers)) {
      const { data } = await quantizer.quantize(experts, parseFormat(type), { ...options, importance: weights });
      const shared = { ...options, importance: weights.subarray(0, 256) };
      const same = await quantizer.quantize(experts, parseFormat(type), shared);
      const rowBytes = data.codes.length / 12;
      for (const e of [0, 1, 2]) {
        const rows = (codes: Uint8Array) => codes.subarray(e * 4 * rowBytes, (e + 1) * 4 * rowBytes);
        const own = weights.subarray(e * 256, (e + 1) * 256);
        expect(Buffer.compare(rows(data.codes), expert(type, e, own))).toBe(0);
        expect(Buffer.compare(rows(same.data.codes), expert(type, e, weights.subarray(0, 256)))).toBe(0);
        expect(Buffer.compare(rows(data.codes), expert(type, e))).not.toBe(0);
      }
    }
  },
);

test('formats without a weighted search ignore the weights', async () => {
  for (const quantizer of Object.values(quantizers)) {
    for (const name of ['q8_0', 'int4-g32', 'mxfp4']) {
      const plain = await quantizer.quantize(experts, parseFormat(name), options);
      const weighted = await quantizer.quantize(experts, parseFormat(name), { ...options, importance: weights });
      expect(weighted).toEqual(plain);
    }
  }
});

test('weights that do not fit are errors that name the tensor', async () => {
  const bad: [Float32Array, RegExp][] = [
    [weights.subarray(1), /got 767, expected 256 or 3 × 256 .*blk\.0\.ffn_up_exps/],
    [weights.map((w, i) => (i === 5 ? NaN : w)), /importance weight 5 is unusable, got NaN/],
    [weights.map((w, i) => (i === 700 ? -1 : w)), /importance weight 700 is unusable, got -1/],
  ];
  for (const quantizer of Object.values(quantizers))
    for (const [importance, message] of bad)
      await expect(quantizer.quantize(experts, parseFormat('q4_k'), { ...options, importance })).rejects.toThrow(
        message,
      );
});
