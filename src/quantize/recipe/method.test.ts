import { describe, expect, it } from 'vitest';
import { loadRecipe } from './load.ts';
import { recipeFromMethod } from './method.ts';
import { presetNames } from './preset-names.ts';
import { presets } from './presets.ts';
import { findStep } from './recipe.ts';
import { stepName } from './steps.ts';

const names = (text: string) => recipeFromMethod(text).steps.map(stepName).join(' ');

describe('methods on the command line', () => {
  it.each(presetNames)('%s is the preset of that name, without its formats', async (name) => {
    const { format: _, activations: __, ...preset } = await loadRecipe(`subbyte:${name}`);
    expect(recipeFromMethod(name)).toEqual(preset);
    expect(presets[name].doc).toMatch(/^.{10,120}$/);
  });

  it('joined by + take the order in which they run', () => {
    expect(names('gptq+awq')).toBe('awq gptq');
    expect(names('GPTQ + clip + awq+rotate')).toBe('rotate awq clip gptq');
    expect(names('smoothquant+gptq')).toBe('smooth gptq');
    expect(names('smooth')).toBe('smooth rtn');
    expect(names('awq')).toBe('awq clip rtn');
    expect(names('imatrix+awq')).toBe('awq clip imatrix rtn');
    expect(names('awq+rtn')).toBe('awq clip rtn');
    expect(names('rotate+quarot')).toBe('rotate gptq');
  });

  it('keep the options that make them', () => {
    expect(findStep(recipeFromMethod('gptaq'), 'gptq')?.asymmetry).toBe(1);
    expect(findStep(recipeFromMethod('awq+gptaq'), 'gptq')?.asymmetry).toBe(1);
    expect(findStep(recipeFromMethod('mr-gptq'), 'gptq')?.order).toBe('activation');
    expect(findStep(recipeFromMethod('mr-gptq'), 'rotate')?.block).toBe(128);
    expect(findStep(recipeFromMethod('gptq'), 'gptq')?.order).toBe('group');
  });

  it('are refused with the nearest name, or where they exclude each other', () => {
    const method = (text: string) => () => recipeFromMethod(text);
    expect(method('gptk')).toThrow(/^method: there is no such method, got "gptk".*did you mean "gptq"\?$/);
    expect(method('awq+smothquant')).toThrow(/got "smothquant".*did you mean "smoothquant"/);
    expect(method('awq+')).toThrow(/no such method, got ""/);
    expect(method('gptq+mse')).toThrow(/mse is a rule for scales and part of the format; .*int4-g128-mse/);
    expect(method('gptq+hqq')).toThrow(/gptq and hqq both choose the codes; keep one/);
    expect(method('gptq+rtn')).toThrow(/gptq and rtn both choose the codes; leave out rtn/);
    expect(method('gptq+gptaq')).toThrow(/two of the methods want different options of gptq/);
    expect(method('rotate+mr-gptq')).toThrow(/different options of rotate/);
    expect(method('gptk')).toThrow(expect.objectContaining({ kind: 'user' }));
  });
});
