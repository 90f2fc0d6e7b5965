import { describe, expect, it } from 'vitest';
import { dequantize, quantize } from '../formats/quantize.ts';
import { uniformSource } from '../formats/random.ts';
import { parseFormat } from '../formats/registry.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../tensor/tensor.ts';
import { denseF32, stackExperts } from './stack.ts';

const [M, K] = [6, 64];

/** Three experts of different magnitude, each in the format of its name; 'f32' stays dense. */
function experts(...formats: string[]): AnyTensor[] {
  const uniform = uniformSource(3, 0);
  return formats.map((name, e) => {
    const values = Float32Array.from({ length: M * K }, (_, i) => (uniform.at(e * M * K + i) - 0.5) * (e + 1));
    return name === 'f32' ? tensorF32([M, K], values) : qtensor([M, K], quantize(values, M, K, parseFormat(name)));
  });
}

const valuesOf = (list: AnyTensor[]) => list.flatMap((t) => [...denseF32(t)]);

describe('stackExperts', () => {
  for (const name of ['bf16', 'mxfp4', 'int3-g16-asym', 'int8-channel', 'q8_0', 'int8-tensor', 'fp8-e4m3-tile2x32'])
    it(`keeps codes and values: ${name}`, () => {
      const list = experts(name, name, name);
      const { weight, tensorScales } = stackExperts(list);
      expect(weight.kind).toBe('packed');
      expect(weight.shape).toEqual([3, M, K]);
      expect([...denseF32(weight)]).toEqual(valuesOf(list));
      expect(tensorScales).toBeUndefined();
    });

  it('keeps the second-level scales of NVFP4 beside the stack', () => {
    const list = experts('nvfp4', 'nvfp4', 'nvfp4');
    const { weight, tensorScales } = stackExperts(list);
    if (weight.kind !== 'packed' || list[2].kind !== 'packed') throw new Error('not packed');
    expect(tensorScales?.shape).toEqual([3, 1]);
    expect(tensorScales?.data[2]).toBe(list[2].data.tensorScale);
    expect(tensorScales?.data[2]).not.toBe(tensorScales?.data[0]);
    const third = dequantize(weight.data).slice(2 * M * K);
    const expected = denseF32(list[2]);
    for (const [i, v] of third.entries()) expect(v * tensorScales!.data[2]).toBeCloseTo(expected[i], 6);
  });

  it('goes to f32 where formats differ or tiles cross experts', () => {
    for (const list of [experts('mxfp4', 'q8_0', 'f32'), experts(...new Array(3).fill('fp8-e4m3-tile4x32'))]) {
      const { weight } = stackExperts(list);
      expect(weight.kind).toBe('dense');
      expect([...denseF32(weight)]).toEqual(valuesOf(list));
    }
  });
});
