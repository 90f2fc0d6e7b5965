import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../test/fixtures/models/plain-forward.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { windowLogits } from '../evaluate/verify.ts';
import { uniformSource } from '../formats/random.ts';
import { loadDecoder } from '../models/loaded.ts';
import { denseF32 } from '../models/stack.ts';
import { modelSubsets, type Subset } from '../models/subsets.ts';
import { type Fold, foldModel, foldPlan, foldTensor } from './fold.ts';

const backend = await createWasmBackend();
afterAll(() => backend.dispose());

const ids = Array.from({ length: 12 }, (_, i) => (i * 29 + 5) % 96);

/** Scales from 1/8 to 8. */
const randomScales = (n: number, seed: number) => {
  const uniform = uniformSource(seed, 0);
  return Float32Array.from({ length: n }, (_, i) => 8 ** (2 * uniform.at(i) - 1));
};

describe('a model with folded scales', () => {
  it.each(Object.entries(tinyConfigs))('computes what it did: %s', async (_, config) => {
    const model = tinyModel(config, 3);
    const weights = await tinyWeights(model);
    const folds: Fold[] = modelSubsets(weights.config)
      .filter((subset) => subset.producer)
      .map((subset, i) => ({ subset, scales: randomScales(subset.width, i) }));
    const folded = foldModel(weights, folds);
    const decoder = await loadDecoder(folded, backend);
    const logits = await windowLogits({ model: decoder }, Int32Array.from(ids));
    decoder.dispose();
    const expected = plainForward(model, ids).flatMap((row) => [...row]);
    const largest = Math.max(...expected.map(Math.abs));
    expect(Math.max(...expected.map((v, i) => Math.abs(v - logits[i])))).toBeLessThan(1e-5 * largest);
    let changed = 0;
    for (const { subset } of folds)
      for (const layer of [...subset.layers, ...subset.others]) {
        const [a, b] = [await weights.load(`${layer}.weight`), await folded.load(`${layer}.weight`)];
        if (denseF32(a).every((v, i) => Math.abs(denseF32(b)[i] / v - 1) > 1e-3)) changed++;
      }
    expect(changed).toBeGreaterThan(0);
  });

  it('keeps the storage of what does not change', async () => {
    const weights = await tinyWeights(tinyModel(tinyConfigs['llama, yarn rope'], 3));
    const [subset] = modelSubsets(weights.config);
    const folded = foldModel(weights, [{ subset, scales: randomScales(64, 1) }]);
    for (const name of [
      'model.norm.weight',
      'model.layers.1.self_attn.q_proj.weight',
      'model.layers.0.mlp.up_proj.weight',
    ])
      expect(await folded.load(name)).toEqual(await weights.load(name));
  });
});

describe('the factors of a tensor', () => {
  const subset = (more: Partial<Subset>): Subset => ({
    layers: ['up'],
    others: [],
    width: 2,
    producer: { kind: 'norm', name: 'norm' },
    fixed: undefined,
    inspect: 'mlp',
    ...more,
  });

  it('are applied on both sides and rounded once', () => {
    const folds: Fold[] = [
      { subset: subset({}), scales: Float32Array.of(2, 4) },
      {
        subset: subset({ layers: ['down'], width: 3, producer: { kind: 'rows', name: 'up' } }),
        scales: Float32Array.of(1, 3, 0.1),
      },
    ];
    const plan = foldPlan(folds);
    expect([...plan.keys()].sort()).toEqual(['down.weight', 'norm.bias', 'norm.weight', 'up.bias', 'up.weight']);
    const up = foldTensor(Float32Array.of(1, 2, 3, 4, 5, 6), 2, plan.get('up.weight')!);
    expect([...up]).toEqual([2, 8, 2, 16 / 3, 10 / Math.fround(0.1), 24 / Math.fround(0.1)].map(Math.fround));
    expect([...foldTensor(Float32Array.of(1, 1), 1, plan.get('norm.weight')!)]).toEqual([0.5, 0.25]);
    expect([...foldTensor(Float32Array.of(1, 3, 1), 1, plan.get('up.bias')!)]).toEqual(
      [1, 1, 1 / Math.fround(0.1)].map(Math.fround),
    );
  });

  it('are refused when they are no scales or have nowhere to go', () => {
    const fold =
      (s: Subset, ...scales: number[]) =>
      () =>
        foldPlan([{ subset: s, scales: Float32Array.from(scales) }]);
    expect(fold(subset({ producer: undefined, fixed: 'heads are shared' }), 1, 1)).toThrow(
      /heads are shared.*tensor up/,
    );
    expect(fold(subset({}), 1)).toThrow(/one scale for each input is needed, got 1, expected 2/);
    expect(fold(subset({}), 1, 0)).toThrow(/scale of input 1 is no positive number, got 0/);
    expect(fold(subset({}), Number.NaN, 1)).toThrow(/input 0/);
  });
});
