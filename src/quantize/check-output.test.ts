import { describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { parseFormat } from '../formats/registry.ts';
import { mapWeights } from '../models/weights.ts';
import type { QTensor } from '../tensor/tensor.ts';
import { checkOutput } from './check-output.ts';
import { referenceQuantizer } from './tensor-quantizer.ts';

const format = parseFormat('int8-channel');
const quantizer = referenceQuantizer();
const source = await tinyWeights(tinyModel(Object.values(tinyConfigs)[0], 1));
const linear = (name: string) => source.role(name) === 'linear';
const quantized = mapWeights(source, (name, tensor) =>
  linear(name) ? quantizer.quantize(tensor, format, { seed: 0, stream: 0, name }) : tensor,
);
const options = {
  formatOf: (name: string) => (linear(name) ? format : undefined),
  quantizer,
  seed: 0,
  streams: new Map<string, number>(),
};

describe('the check of a written model', () => {
  it('accepts what was meant', async () => {
    const result = await checkOutput(source, quantized, options);
    expect(result).toMatchObject({ tensors: source.names().length, skipped: 0 });
  });

  it('names the tensor and the element of the first wrong value', async () => {
    const wrong = 'model.layers.1.mlp.up_proj.weight';
    const damaged = mapWeights(quantized, (name, tensor) => {
      if (name !== wrong) return tensor;
      const copy = structuredClone(tensor) as QTensor;
      copy.data.codes[5] ^= 1;
      return copy;
    });
    await expect(checkOutput(source, damaged, options)).rejects.toThrow(
      /does not hold what was meant at element 5, got .*expected .*model\.layers\.1\.mlp\.up_proj\.weight/,
    );
    // an error of 2^-7 of a value is not the last bit that a container may cost
    await expect(checkOutput(source, damaged, { ...options, relativeError: () => 2 ** -22 })).rejects.toThrow(
      /element 5/,
    );
  });

  it('samples the first, middle and last layer of a large model', async () => {
    const result = await checkOutput(source, quantized, { ...options, maxWeights: 1 });
    expect(result.tensors + result.skipped).toBe(source.names().length);
    expect(result.skipped).toBe(0); // two layers: all of them are first, middle or last
  });
});
