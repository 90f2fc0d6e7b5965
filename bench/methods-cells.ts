// What the comparison of methods compares: rows of the tables in docs/methods.md.

import type { RecipeOverrides } from '../src/quantize/recipe/entries.ts';

export interface Cell {
  /** Table that the row belongs to. */
  table: string;
  format: string;
  method: string;
  recipe: RecipeOverrides;
}

/** Group size of integers: 128 where it divides all widths of the model. */
export function cellsFor(group: number): Cell[] {
  const cells: Cell[] = [];
  const add = (table: string, format: string, method: string, recipe: RecipeOverrides) =>
    cells.push({ table, format, method, recipe: { ...recipe, format } });
  for (const bits of [4, 3, 2]) {
    const groups = `int${bits}-g${group}-asym`;
    for (const format of [`int${bits}-channel-asym`, groups]) {
      add('weights', format, 'rtn', {});
      add('weights', format, 'gptq', { steps: ['gptq'] });
      add('weights', format, 'gptaq', { steps: [{ gptq: { asymmetry: 1 } }] });
      if (bits === 2) add('weights', format, 'gptaq 0.25', { steps: [{ gptq: { asymmetry: 0.25 } }] });
      add('weights', format, 'awq', { steps: ['awq', 'clip'] });
    }
    add('weights', `${groups}-mse`, 'rtn', {});
    add('weights', groups, 'gptq act-order', { steps: [{ gptq: { order: 'activation' } }] });
    add('weights', `${groups}-mse`, 'gptq', { steps: ['gptq'] });
    add('weights', groups, 'awq+gptq', { steps: ['awq', 'gptq'] });
    add('weights', groups, 'rotate+gptq', { steps: [offline, 'gptq'] });
  }
  for (const bits of [4, 3, 2]) {
    add('weights', `int${bits}-g${group}-asymf`, 'rtn', {});
    add('weights', `int${bits}-g${group}-asymf`, 'hqq', { steps: ['hqq'] });
    add('weights', `int${bits}-g${group}-asymf`, 'gptq', { steps: ['gptq'] });
  }
  for (const format of ['mxfp4', 'nvfp4']) {
    add('FP4 weights', format, 'rtn', {});
    add('FP4 weights', `${format}-mse`, 'rtn', {});
    add('FP4 weights', format, 'gptq', { steps: ['gptq'] });
    add('FP4 weights', `${format}-mse`, 'gptq', { steps: ['gptq'] });
    add('FP4 weights', format, 'awq', { steps: ['awq'] });
  }
  // K-quants need widths that are multiples of 256, which models this small have few of
  for (const format of ['q4_0', 'iq4_nl', 'q4_k_m', 'q3_k']) {
    add('llama.cpp types', format, 'rtn', {});
    add('llama.cpp types', format, 'imatrix', { steps: ['imatrix'] });
    add('llama.cpp types', format, 'gptq', { steps: ['gptq'] });
    add('llama.cpp types', format, 'gptq+imatrix', { steps: ['gptq', 'imatrix'] });
  }
  const activations = 'int8-token';
  add('W8A8', 'int8-channel', 'rtn', { activations });
  for (const alpha of [0.5, 0.8])
    add('W8A8', 'int8-channel', `smooth ${alpha}`, { activations, steps: [{ smooth: { alpha } }] });
  const four = { activations: 'int4-token' };
  add('W4A4', 'int4-channel', 'rtn', four);
  add('W4A4', 'int4-channel', 'smooth 0.5', { ...four, steps: [{ smooth: { alpha: 0.5 } }] });
  add('W4A4', 'int4-channel', 'gptq', { ...four, steps: ['gptq'] });
  add('W4A4', 'int4-channel', 'smooth 0.5+gptq', { ...four, steps: [{ smooth: { alpha: 0.5 } }, 'gptq'] });
  add('W4A4', 'int4-channel', 'rotate', { ...four, steps: ['rotate'] });
  add('W4A4', 'int4-channel', 'rotate offline', { ...four, steps: [offline] });
  add('W4A4', 'int4-channel', 'quarot', { ...four, steps: ['rotate', 'gptq'] });
  add('W4A4', 'int4-channel', 'rotate blocks', { ...four, steps: [{ rotate: { block: 128 } }] });
  add('W4A4', 'int4-channel', 'rotate blocks+gptq', { ...four, steps: [{ rotate: { block: 128 } }, 'gptq'] });
  for (const [format, variants] of [
    ['mxfp4', ['mxfp4', 'mxfp4-mse', 'mxfp4-fourthirds']],
    ['nvfp4', ['nvfp4', 'nvfp4-46']],
  ] as const) {
    const table = `${format.toUpperCase()} W4A4`;
    for (const variant of variants) {
      const both = { activations: format };
      add(table, variant, 'rtn', both);
      add(table, variant, 'gptq', { ...both, steps: [importance] });
      add(table, variant, 'rotate blocks', { ...both, steps: [{ rotate: { block: 128 } }] });
      add(table, variant, 'mr-gptq', { ...both, steps: [{ rotate: { block: 128 } }, importance] });
    }
    add(table, format, 'rotate (global)', { activations: format, steps: ['rotate'] });
    add(table, format, 'quarot', { activations: format, steps: ['rotate', importance] });
  }
  for (const bits of [4, 2]) {
    const kv = (keys: string, residual: number) =>
      `k=int${bits}-${keys},v=int${bits}-g${kvGroup(group)},residual=${residual}`;
    add('KV cache', 'bf16', `keys per token, ${bits} bits`, { kv: kv(`g${kvGroup(group)}`, 32) });
    add('KV cache', 'bf16', `keys per channel, ${bits} bits`, { kv: kv('channel-g32', 32) });
  }
  return cells;
}

/** Everything merged into the weights: any runtime can run the result. */
const offline = { rotate: { residual: 'hadamard', value: true, down: 'none', out: 'none' } } as const;
/** Columns by importance, restored afterwards: MR-GPTQ's order. */
const importance = { gptq: { order: 'activation', staticGroups: true } } as const;
/** A group that divides the heads: 64 for heads of 64, 40 for heads of 80. */
const kvGroup = (group: number) => (group === 128 ? 32 : 40);
