import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RecipeOverrides } from './entries.ts';
import { parseRecipe } from './load.ts';
import { recipeNotes } from './notes.ts';
import { printRecipe } from './print.ts';
import { createRecipe, findStep, mergeRecipe, needsText, recipeDigest } from './recipe.ts';

const whole = (min: number, max: number) => fc.integer({ min, max });
const share = fc.double({ min: 0, max: 1, noNaN: true });
const positive = share.filter((x) => x > 0);
const some = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { requiredKeys: [] });
/** Text with everything that YAML treats specially. */
const text = fc
  .oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
    fc.constantFrom('no', '~', '1e3', ': ', '- a', '#x', "'", '"', 'a: b', '\n', '\u0000', '\u2028', ' x ', '%', '0x1'),
  )
  .filter((t) => t.length > 0);
const format = fc.constantFrom('int4-g128-asym', 'MXFP4', 'nvfp4', 'int8_channel', 'q4_k', 'bf16', 'fp8-e4m3-token-sr');
const rules = fc.array(fc.record({ match: fc.constantFrom('down_proj', '\\.0\\.', '^a|b$'), format }), {
  maxLength: 3,
});
/** Options of static ranges, among them those that are defaults anyway. */
const ranges = fc.oneof(
  fc.constant({}),
  fc.constant({ ranges: 'dynamic' as const }),
  some({ clip: fc.constantFrom('minmax' as const, 'mse' as const, 'kl' as const) }).map((o) => ({
    ...o,
    ranges: 'static' as const,
  })),
  some({ percentile: fc.double({ min: 50, max: 100, noNaN: true }) }).map((o) => ({
    ...o,
    ranges: 'static' as const,
    clip: 'percentile' as const,
  })),
);
const tensorFormat = fc.constantFrom('int8-tensor', 'INT4_TENSOR', 'int8-tensor-sr');
const activations = fc.oneof(
  format,
  rules,
  fc.constantFrom('int8-tensor:static', 'fp8-e4m3-tensor:static:mse', 'int8-tensor-asym : static : percentile'),
  fc.tuple(tensorFormat, ranges).map(([format, o]) => ({ format, ...o })),
  fc.array(
    fc.tuple(tensorFormat, ranges).map(([format, o]) => ({ match: 'a|b', format, ...o })),
    { maxLength: 3 },
  ),
  fc.constant(null),
);
const optional = (name: string, options: fc.Arbitrary<object>) =>
  fc.oneof(
    fc.constant([name]),
    fc.constant([]),
    fc.constant([{ [name]: null }]),
    options.map((o) => [{ [name]: o }]),
  );
const rotation = fc.oneof(
  some({
    residual: fc.constantFrom('hadamard' as const, 'none' as const),
    value: fc.boolean(),
    queryKey: fc.boolean(),
    down: fc.constantFrom('online' as const, 'none' as const),
    out: fc.constantFrom('online' as const, 'none' as const),
    randomSigns: fc.boolean(),
  }),
  some({ block: whole(1, 16).map((e) => 2 ** e), onlineSigns: fc.boolean() }),
);
const solver = fc.oneof(
  optional(
    'gptq',
    some({
      damping: share,
      order: fc.constantFrom('group', 'activation', 'natural'),
      staticGroups: fc.boolean(),
      blockSize: whole(1, 65536),
      asymmetry: share,
    }).filter(({ order, staticGroups }) => order !== 'activation' || staticGroups !== false),
  ),
  optional('hqq', some({ iterations: whole(1, 100), norm: positive })),
);
const steps = fc
  .tuple(
    optional('rotate', rotation),
    optional('smooth', some({ alpha: share })),
    optional('awq', some({ grid: whole(1, 100), duo: fc.boolean(), tokens: whole(1, 9999) })),
    optional('clip', some({ grid: whole(1, 100), maxShrink: positive })),
    solver,
    optional('imatrix', some({ file: fc.option(text), save: text })),
  )
  .map((lists) => lists.flat());
const overrides = some({
  format: fc.oneof(format, fc.constant('q4_k_m')),
  activations,
  kv: fc.option(text),
  exclude: fc.array(text, { maxLength: 3 }),
  layers: rules,
  seed: whole(0, 2 ** 32 - 1),
  calibration: some({
    text: fc.option(text),
    samples: whole(1, 1000),
    window: whole(2, 4096),
    sampling: fc.constantFrom('start', 'spread', 'random'),
    field: fc.option(text),
  }),
  steps,
}) as fc.Arbitrary<RecipeOverrides>;

describe('a recipe', () => {
  it('printed and read again is the same, in YAML and in JSON', async () => {
    await fc.assert(
      fc.asyncProperty(overrides, async (given) => {
        const recipe = createRecipe(given);
        expect(await parseRecipe(printRecipe(recipe, 'yaml'))).toEqual(recipe);
        expect(await parseRecipe(printRecipe(recipe, 'json'))).toEqual(recipe);
        expect(JSON.parse(printRecipe(recipe, 'json'))).toEqual(recipe);
        expect(createRecipe(recipe)).toEqual(recipe);
      }),
      { numRuns: 300 },
    );
  });

  it('merged with nothing stays, merged with all of another is the other', () => {
    fc.assert(
      fc.property(overrides, overrides, (a, b) => {
        const [one, other] = [createRecipe(a), createRecipe(b)];
        expect(mergeRecipe(one, {})).toEqual(one);
        const reset = { format: null, activations: null, kv: null } as const;
        const calibration = { text: null, field: null, ...other.calibration };
        expect(mergeRecipe(one, { ...reset, ...other, calibration })).toEqual(other);
      }),
    );
  });

  it('has every default', () => {
    expect(createRecipe()).toEqual({
      exclude: [],
      layers: [],
      seed: 0,
      calibration: { samples: 128, window: 512, sampling: 'start' },
      steps: [{ rtn: {} }],
    });
    expect(createRecipe({ steps: ['rotate', 'smooth', 'awq', 'clip', 'gptq', 'imatrix'] }).steps).toEqual([
      {
        rotate: {
          residual: 'hadamard',
          value: true,
          queryKey: false,
          down: 'online',
          out: 'online',
          block: 0,
          randomSigns: true,
          onlineSigns: false,
        },
      },
      { smooth: { alpha: 0.5 } },
      { awq: { grid: 20, duo: false, tokens: 4096 } },
      { clip: { grid: 20, maxShrink: 0.5 } },
      { gptq: { damping: 0.01, order: 'group', staticGroups: true, blockSize: 128, asymmetry: 0 } },
      { imatrix: {} },
    ]);
    expect(createRecipe({ steps: ['hqq'] }).steps).toEqual([{ hqq: { iterations: 20, norm: 0.7 } }]);
  });

  it('blocks of a rotation take the place of the others', () => {
    const [step] = createRecipe({ steps: [{ rotate: { block: 128 } }] }).steps;
    expect(step).toMatchObject({ rotate: { block: 128, residual: 'none', value: false, down: 'none', out: 'none' } });
  });

  it('merges maps, replaces lists, takes back with null', () => {
    const base = createRecipe({
      format: 'int4-g128',
      activations: 'int8-token',
      exclude: ['a', 'b'],
      calibration: { text: 'a.txt', samples: 8 },
      steps: ['smooth', 'gptq'],
    });
    const merged = mergeRecipe(base, {
      activations: null,
      exclude: ['c'],
      calibration: { window: 64 },
      steps: ['awq'],
    });
    expect(merged).toEqual({
      format: 'int4-g128',
      exclude: ['c'],
      layers: [],
      seed: 0,
      calibration: { text: 'a.txt', samples: 8, window: 64, sampling: 'start' },
      steps: [{ awq: { grid: 20, duo: false, tokens: 4096 } }, { rtn: {} }],
    });
  });

  it('reads every spelling of static ranges as one', () => {
    const read = (activations: RecipeOverrides['activations']) => createRecipe({ activations }).activations;
    const whole = { format: 'int8-tensor', ranges: 'static', clip: 'minmax' };
    expect(read('INT8_tensor:static')).toEqual(whole);
    expect(read(' int8-tensor : static : minmax ')).toEqual(whole);
    expect(read({ format: 'int8-tensor', ranges: 'static' })).toEqual(whole);
    expect(read('int8-tensor:static:percentile')).toEqual({ ...whole, clip: 'percentile', percentile: 99.99 });
    expect(read({ format: 'int8-tensor', ranges: 'static', clip: 'percentile', percentile: 99 })).toEqual({
      ...whole,
      clip: 'percentile',
      percentile: 99,
    });
    expect(read({ format: 'INT8_TOKEN', ranges: 'dynamic' })).toBe('int8-token');
    expect(read([{ match: 'x', format: 'int8-tensor', ranges: 'static', clip: 'kl' }])).toEqual([
      { match: 'x', ...whole, clip: 'kl' },
    ]);
    expect(read([{ match: 'x', format: 'mxfp4', ranges: 'dynamic' }])).toEqual([{ match: 'x', format: 'mxfp4' }]);
    expect(needsText(createRecipe({ activations: 'int8-tensor:static' }))).toBe(true);
    expect(needsText(createRecipe({ activations: 'int8-tensor' }))).toBe(false);
  });

  it('says which value of a program is wrong', () => {
    const base = createRecipe();
    expect(() => mergeRecipe(base, { calibration: { samples: 0.5 } })).toThrow(
      /^recipe: calibration\.samples is wrong, got 0\.5, expected a whole number from 1 to 1048576$/,
    );
    expect(() => mergeRecipe(base, { format: 'mxfp5' })).toThrow(/no such format, got "mxfp5".*did you mean "mxfp4"/);
  });

  it('has one digest for one meaning', () => {
    const a = createRecipe({ format: 'INT4_G128', steps: ['gptq'] });
    const { format, ...rest } = createRecipe({ format: 'int4-g128', steps: [{ gptq: { damping: 0.01 } }] });
    expect(recipeDigest({ ...rest, format })).toBe(recipeDigest(a));
    expect(recipeDigest(mergeRecipe(a, { seed: 1 }))).not.toBe(recipeDigest(a));
    expect(recipeDigest(mergeRecipe(a, { steps: [{ gptq: { damping: 0.02 } }] }))).not.toBe(recipeDigest(a));
    // fixed: runs are found again by it
    expect(recipeDigest(createRecipe())).toBe('18769732a3be6c62939613dcfe658402b51f7913cd1269ea1b211d3459563aca');
  });

  it('answers for its steps', () => {
    const recipe = createRecipe({ steps: ['awq', { gptq: { damping: 0.1 } }] });
    expect(findStep(recipe, 'gptq')?.damping).toBe(0.1);
    expect(findStep(recipe, 'hqq')).toBeUndefined();
    const needs = (...steps: NonNullable<RecipeOverrides['steps']>) => needsText(createRecipe({ steps }));
    expect([needs('gptq'), needs('smooth'), needs('imatrix'), needs('clip')]).toEqual([true, true, true, true]);
    expect([needs(), needs('rtn'), needs('hqq'), needs('rotate')]).toEqual([false, false, false, false]);
    expect(needs({ imatrix: { file: 'a.gguf' } })).toBe(false);
    expect(needs('awq', { imatrix: { file: 'a.gguf' } })).toBe(true);
  });

  it('has notes where a step lacks what it serves', () => {
    const notes = (given: RecipeOverrides) => recipeNotes(createRecipe(given)).join('\n');
    expect(notes({ steps: ['smooth'] })).toMatch(/smooth.*set activations/);
    expect(notes({ steps: ['rotate'] })).toMatch(/online rotations/);
    expect(notes({ steps: [{ rotate: { down: 'none', out: 'none' } }] })).toBe('');
    expect(notes({ steps: [{ rotate: { queryKey: true } }], activations: 'int8-token' })).toMatch(/queryKey.*set kv/);
    expect(notes({ format: 'nvfp4', activations: 'nvfp4', steps: ['rotate'] })).toMatch(/groups of 16/);
    expect(notes({ format: 'int2-g64-asym', steps: [{ gptq: { asymmetry: 1 } }] })).toMatch(/2 bits/);
    expect(notes({ activations: 'int8-tensor:static', steps: ['smooth'] })).toBe('');
    expect(notes({ activations: [], steps: ['smooth'] })).toMatch(/set activations/);
    expect(notes({ format: 'int4-channel', activations: 'int4-token', steps: ['rotate', 'gptq'] })).toBe('');
  });
});
