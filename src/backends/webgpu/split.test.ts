// Weights larger than a binding: the same numbers as whole, on a device that can bind only a part of them.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { windowLogits } from '../../evaluate/verify.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { quantize } from '../../graph/ops/quantize.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32, typeOfTensor } from '../../graph/value-type.ts';
import { openCheckpoint } from '../../io/open.ts';
import { loadDecoder } from '../../models/loaded.ts';
import { openWeights } from '../../models/weights.ts';
import type { Shape } from '../../tensor/shape.ts';
import { type AnyTensor, tensorF32 } from '../../tensor/tensor.ts';
import { packedTensor } from '../cases/common.ts';
import { differences, gaussian, integers, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { storedBytes } from './buffer.ts';
import { cutRows, SplitBuffer } from './split-buffer.ts';

const tensorOf = (shape: Shape, format?: string): AnyTensor =>
  format ? packedTensor(1, shape, format) : tensorF32(shape, gaussian(1, shape));

type Body = (weight: Value, input: (name: string, shape: Shape) => Value) => Value;

/** A case whose parameter is cut into three pieces or more by limitOf. */
function weightCase(name: string, shape: Shape, format: string | undefined, data: OpCase['runs'][0], body: Body) {
  const weight = tensorOf(shape, format);
  const opCase: OpCase = {
    name: `${name} ${format ?? 'dense'} [${shape.join(', ')}]`,
    tolerance: 'exact',
    build(g) {
      const input = (name: string, shape: Shape) =>
        g.input(name, (data[name] instanceof Int32Array ? i32 : f32)(shape));
      g.output('y', body(g.param('weight', typeOfTensor(weight)), input));
    },
    params: { weight },
    runs: [data],
  };
  return opCase;
}

const limitOf = ({ params }: OpCase) => Math.ceil(storedBytes(typeOfTensor(params!.weight)) / 2.6 / 256) * 256;

const V = 401;
const ids = Int32Array.of(0, V - 1, 200, 200, 64, 128);
const look = (shape: Shape, format?: string) =>
  weightCase('embedding', shape, format, { ids }, (table, input) => embedding(table, input('ids', [2, 3])));
const linear = (shape: Shape, xShape: Shape, format?: string, packedInput?: string) =>
  weightCase(
    `matmul [${xShape}]${packedInput ? ` ${packedInput}` : ''} ×`,
    shape,
    format,
    { x: gaussian(2, xShape) },
    (weight, input) => {
      const x = input('x', xShape);
      return matmul(packedInput ? quantize(x, parseFormat(packedInput)) : x, weight, { transposeB: true });
    },
  );
const experts = (xShape: Shape, format?: string) =>
  weightCase(
    `expertMatmul [${xShape}] ×`,
    [7, 56, 64],
    format,
    { x: gaussian(2, xShape), indices: integers(3, [xShape[0], 2], 0, 7) },
    (weight, input) => expertMatmul(input('x', xShape), weight, input('indices', [xShape[0], 2])),
  );

const sameBits = [
  ...[undefined, 'f16', 'mxfp4', 'nvfp4', 'int4-g32-asym', 'q4_0', 'int8-channel'].map((f) => look([V, 64], f)),
  look([V, 37]),
  look([V, 37], 'f16'),
  look([V, 160], 'fp8-e4m3-tile128x128'),
  linear([V, 64], [2, 64]),
  linear([V, 64], [2, 3, 64]),
  linear([V, 256], [2, 256], 'mxfp4'),
  linear([V, 256], [12, 256], 'mxfp4'),
  linear([V, 256], [12, 256], 'mxfp4', 'mxfp4'),
  linear([V, 256], [12, 256], 'int8-tensor', 'int8-token'),
  experts([3, 64]),
  experts([3, 2, 64]),
  experts([20, 64]),
  experts([3, 64], 'mxfp4'),
  weightCase('tied', [V, 64], 'q8_0', { ids }, (weight, input) =>
    matmul(embedding(weight, input('ids', [6])), weight, { transposeB: true }),
  ),
  ...[undefined, 'mxfp4'].map((format) =>
    weightCase(
      'crossEntropy',
      [V, 64],
      format,
      { hidden: gaussian(2, [7, 64]), targets: Int32Array.of(0, V - 1, -1, 64, 200, -100, 7) },
      (w, input) => crossEntropy(input('hidden', [7, 64]), w, input('targets', [7])),
    ),
  ),
];

const sumOrder = [
  weightCase('matmul x · W', [V, 64], undefined, { x: gaussian(2, [3, V]) }, (w, input) =>
    matmul(input('x', [3, V]), w),
  ),
  weightCase('matmul xᵀ · W', [V, 64], undefined, { x: gaussian(2, [V, 3]) }, (w, input) =>
    matmul(input('x', [V, 3]), w, { transposeA: true }),
  ),
];

describe('cutting', () => {
  it('leaves alone what fits and what has no rows', () => {
    expect(cutRows(f32([64, 64]), 64 * 64 * 4)).toBeUndefined();
    expect(cutRows(f32([4096]), 1024)).toBeUndefined();
    expect(cutRows(f32([2, 4096]), 1024)).toBeUndefined();
  });

  it('keeps pieces of whole tiles, shared scales and experts below the limit', () => {
    const counts = (tensor: AnyTensor, limit: number) =>
      cutRows(typeOfTensor(tensor), limit)!.map(({ count }) => count);
    expect(counts(tensorOf([V, 64]), 200 * 256)).toEqual([192, 192, 17]);
    expect(counts(tensorOf([V, 64]), 50 * 256)).toEqual([50, 50, 50, 50, 50, 50, 50, 50, 1]);
    expect(counts(tensorOf([V, 128], 'fp8-e4m3-tile128x128'), 140 * 128 + 1024)).toEqual([128, 128, 128, 17]);
    expect(counts(tensorOf([7, 24, 64]), 24 * 256 * 3)).toEqual([3, 3, 1]);
  });
});

const missing = missingGpu();

describe.skipIf(missing)(`weights larger than a binding${missing ? ` (${missing})` : ''}`, async () => {
  const whole = await createTestBackend();
  const reference = createReferenceBackend();
  afterAll(() => whole.dispose());

  const runSplit = async (opCase: OpCase) => {
    const backend = await createTestBackend({ maximumBufferBytes: limitOf(opCase) });
    const buffer = await backend.upload(opCase.params!.weight);
    expect(buffer).toBeInstanceOf(SplitBuffer);
    buffer.dispose();
    const found = await runOpCase(backend, opCase);
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
    return found;
  };
  const bits = (results: Awaited<ReturnType<typeof runOpCase>>) =>
    results.map((outputs) => [...outputs.values()].map(({ data }) => new Uint32Array(data.buffer)));

  it.each(sameBits.map((c) => [c.name, c] as const))('gives the bits of the whole one: %s', async (_, opCase) => {
    expect(bits(await runSplit(opCase))).toEqual(bits(await runOpCase(whole, opCase)));
  });

  it.each(sumOrder.map((c) => [c.name, c] as const))('agrees with the reference: %s', async (_, opCase) => {
    expect(differences(await runSplit(opCase), await runOpCase(reference, opCase), 2e-6)).toEqual([]);
  });

  it('computes a model whose table and matrices are cut, with the bits of one whose are not', async () => {
    const checkpoint = await openCheckpoint('models/qwen3-6m');
    const weights = await openWeights(checkpoint);
    const small = await createTestBackend({ maximumBufferBytes: 2 ** 17 });
    const logits: Float32Array[] = [];
    for (const backend of [whole, small]) {
      const model = await loadDecoder(weights, backend);
      logits.push(await windowLogits({ model }, Int32Array.of(5, 99, 1024, 7)));
      model.dispose();
    }
    await checkpoint.close();
    small.dispose();
    expect(new Uint32Array(logits[1].buffer)).toEqual(new Uint32Array(logits[0].buffer));
  }, 60_000);

  describe('on a device of 32 KiB', async () => {
    const backend = await createTestBackend({ maximumBufferBytes: 2 ** 15 });
    const weight = await backend.upload(tensorOf([V, 64]));
    const params = new Map([['weight', weight]]);
    afterAll(() => {
      weight.dispose();
      expect(backend.usedBytes).toBe(0);
      backend.dispose();
    });
    const compile = (body: Body) =>
      backend.compile(
        trace((g) => {
          const input = (name: string, shape: Shape) => g.input(name, (name === 'x' ? f32 : i32)(shape));
          g.output('y', body(g.param('weight', f32([V, 64])), input));
        }),
        { params },
      );

    it('gives back the pieces that were there when memory ran out', async () => {
      const small = await createTestBackend({ maximumBufferBytes: 2 ** 14, maximumBytes: 2 ** 15 });
      await expect(small.upload(tensorOf([V, 64]))).rejects.toThrow(/not enough device memory .* with 32768 in use/);
      expect(small.usedBytes).toBe(0);
      small.dispose();
    });

    it('plans the bytes that it takes', async () => {
      const run = await compile((w, input) => matmul(input('x', [2, 64]), w, { transposeB: true }));
      expect(run.plan.peakBytes).toBe(backend.usedBytes);
      expect(run.plan.parameterBytes).toBe(weight.byteLength);
      run.dispose();
    });

    it('names the op and all rows when data is wrong', async () => {
      const run = await compile((table, input) => embedding(table, input('ids', [3])));
      run.write('ids', Int32Array.of(1, V, 2));
      await expect(run.run()).rejects.toThrow(
        /^embedding: an id is out of range in embedding#0, got 401, expected 0 … 400/,
      );
      run.dispose();
      const loss = await compile((w, input) => crossEntropy(input('x', [2, 64]), w, input('targets', [2])));
      loss.write('targets', Int32Array.of(1, V + 1));
      await expect(loss.run()).rejects.toThrow(/^crossEntropy: a target is out of range .*, got 402, expected 0 … 400/);
      loss.dispose();
    });

    it('says which op needs the whole weight, with bytes and limit', async () => {
      await expect(compile((w) => softmax(w))).rejects.toThrow(
        /^softmax: weight f32\[401, 64\] is larger than a kernel can bind .*, and softmax needs it whole, got 102656 bytes, expected at most 32768; use a smaller format/,
      );
    });

    it('says that a result is too large, with bytes and limit', async () => {
      const tooMany = (w: Value, input: (name: string, shape: Shape) => Value) =>
        matmul(input('x', [64, 64]), w, { transposeB: true });
      await expect(compile(tooMany)).rejects.toThrow(
        /^matmul: matmul#0 f32\[64, 401\] is larger .*, got 102656 bytes, expected at most 32768; use a shorter window, a smaller batch/,
      );
    });
  });
});
