import { describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import { parseFormat } from '../../formats/registry.ts';
import { layerActivation } from '../../models/runtime-scheme.ts';
import type { InputReport } from '../calibration/static-inputs.ts';
import { createRecipe } from '../recipe/recipe.ts';
import { rangeRules, withFixedInputs } from './static-activations.ts';
import { transformModel, withRuntime } from './transform-model.ts';

const config = Object.entries(tinyConfigs).find(([name]) => name.startsWith('qwen3, '))![1];
const source = await tinyWeights(tinyModel(config, 3));
const mixed = createRecipe({
  activations: [
    { match: 'up_proj', format: 'mxfp4' },
    { match: '.', format: 'int8-tensor', ranges: 'static', clip: 'mse' },
    { match: 'down_proj', format: 'int8-token' },
  ],
});
const report = (layer: string, scale: number): InputReport => ({
  ...{ layer, format: 'int8-tensor', clip: 'mse', min: -1, max: 1, amax: 1 },
  scale,
});

describe('static activations of a recipe', () => {
  it('give each layer the rule that holds for it', () => {
    expect(rangeRules(createRecipe({ activations: 'int8-tensor' }))).toBeUndefined();
    const rule = { format: parseFormat('int8-tensor'), clip: 'mse', percentile: undefined };
    expect(rangeRules(mixed)?.('model.layers.0.self_attn.q_proj')).toEqual(rule);
    expect(rangeRules(mixed)?.('model.layers.0.mlp.up_proj')).toEqual(rule);
    expect(rangeRules(mixed)?.('model.layers.0.mlp.down_proj')).toBeUndefined();
  });

  it('become rules with scales; the other rules stay', async () => {
    const { weights } = await transformModel(source, mixed);
    const [q, up] = ['model.layers.0.self_attn.q_proj', 'model.layers.0.mlp.up_proj'];
    const fixed = withFixedInputs(weights, mixed, [
      { layer: 0, layers: [], inputs: [report(q, 0.5), report(up, 0.25)], notes: [] },
    ]);
    const { runtime } = fixed.config;
    expect(runtime.activations).toHaveLength(4);
    expect(layerActivation(runtime, q)).toEqual({ format: parseFormat('int8-tensor'), fixed: { scale: 0.5 } });
    expect(layerActivation(runtime, up)).toEqual({ format: parseFormat('int8-tensor'), fixed: { scale: 0.25 } });
    expect(layerActivation(runtime, 'model.layers.0.mlp.down_proj')).toEqual({ format: parseFormat('int8-token') });
    expect(withFixedInputs(weights, mixed, [])).toBe(weights);
  });

  it('of a model that is transformed afterwards are refused, unless new ones are asked for', async () => {
    const activations = [{ match: '.', format: parseFormat('int8-tensor'), fixed: { scale: 0.5 } }];
    const brought = withRuntime(source, { ...source.config.runtime, activations });
    for (const step of ['rotate', 'smooth', 'awq'] as const)
      await expect(transformModel(brought, createRecipe({ steps: [step] }))).rejects.toThrow(
        new RegExp(`activations: ${step} changes the inputs of layers.*--activations int8-tensor:static`),
      );
    expect((await transformModel(brought, createRecipe({ steps: ['gptq'] }))).weights).toBe(brought);
    const recipe = createRecipe({ steps: ['smooth'], activations: 'int8-tensor:static' });
    const { weights } = await transformModel(brought, recipe);
    expect(layerActivation(weights.config.runtime, 'x')).toEqual({ format: parseFormat('int8-tensor') });
  });
});
