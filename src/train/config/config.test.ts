import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  type ConfigOverrides,
  configDigest,
  configSchema,
  createConfig,
  loadConfig,
  parseConfigText,
  printConfig,
} from './config.ts';
import { presetNames } from './presets.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'subbyte-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const write = (name: string, text: string) => {
  writeFileSync(path.join(folder, name), text);
  return path.join(folder, name);
};

const small: ConfigOverrides = {
  model: { layers: 2, hiddenSize: 64, heads: 2, tokenizer: 'models/qwen3-6m' },
  data: { train: 'a.txt' },
};

describe('a config file', () => {
  const yaml = `
model: { layers: 2, hiddenSize: 64, heads: 2, tokenizer: models/qwen3-6m }
data:
  train: a.txt
steps: 20
optimizer: { weightDecay: 0 }
`;

  it('in YAML, JSON and TypeScript says the same', async () => {
    const config = await loadConfig(write('a.yaml', yaml));
    expect(config).toEqual(createConfig({ ...small, steps: 20, optimizer: { weightDecay: 0 } }));
    expect(await loadConfig(write('a.json', JSON.stringify(parse(yaml))))).toEqual(config);
    const module = `interface Any { [key: string]: unknown }
const config: Any = ${JSON.stringify(parse(yaml))};
export default config;`;
    expect(await loadConfig(write('a.ts', module))).toEqual(config);
    expect(config).toMatchObject({
      data: { train: ['a.txt'], shuffle: true },
      optimizer: { kind: 'adamw', beta2: 0.95, weightDecay: 0 },
      schedule: { kind: 'cosine', warmup: 0.1 },
      seeds: { init: 0, data: 0, rounding: 0 },
    });
    expect(config.model).not.toHaveProperty('from');
    expect(config.optimizer).not.toHaveProperty('clipNorm');
  });

  it('printed and read again is the same', async () => {
    const config = await parseConfigText(yaml);
    for (const syntax of ['yaml', 'json'] as const)
      expect(await parseConfigText(printConfig(config, syntax))).toEqual(config);
  });

  it('lies on what it extends, map by map', async () => {
    write('base.yaml', yaml);
    const over = write('over.yaml', 'extends: base.yaml\nmodel: { heads: 4 }\nschedule: { kind: wsd }\nsteps: 5');
    const config = await loadConfig(over, { steps: 6, model: { kvHeads: 2 } });
    expect(config.model).toMatchObject({ layers: 2, hiddenSize: 64, heads: 4, kvHeads: 2 });
    expect([config.steps, config.schedule.kind, config.optimizer.weightDecay]).toEqual([6, 'wsd', 0]);
    const preset = write('p.yaml', 'extends: subbyte:llama-30m\nmodel: { tokenizer: m }\ndata: { train: [x, y] }');
    expect(await loadConfig(preset)).toMatchObject({
      model: { hiddenSize: 640, heads: 5 },
      data: { train: ['x', 'y'] },
      schedule: { learningRate: 1.2e-3 },
      optimizer: { clipNorm: 1 },
      steps: 11444,
    });
  });

  it('takes back with null', async () => {
    const preset = write('n.yaml', 'extends: subbyte:llama-30m\nmodel: { tokenizer: m }\ndata: { train: x }');
    expect((await loadConfig(preset, { optimizer: { clipNorm: null } })).optimizer).not.toHaveProperty('clipNorm');
  });
});

it('every preset is a config once it has data', async () => {
  expect(presetNames).toContain('llama-1600m');
  for (const name of presetNames)
    await expect(
      loadConfig(`subbyte:${name}`, { data: { train: 'x' }, model: { tokenizer: 'm' } }),
    ).resolves.toBeTruthy();
});

it('has a digest of what decides the weights', () => {
  const digest = (more: ConfigOverrides) => configDigest(createConfig({ ...small, ...more }));
  expect(digest({ output: { folder: 'elsewhere', keep: 9 }, device: 'wasm' })).toBe(digest({}));
  expect(digest({ data: { train: 'moved/a.txt', cache: 'c' } })).toBe(digest({}));
  for (const more of [
    { steps: 7 },
    { seeds: { data: 1 } },
    { batch: { accumulate: 2 } },
    { model: { ...small.model, initStd: 0.1 } },
  ])
    expect(digest(more)).not.toBe(digest({}));
});

describe('what is wrong has its place', () => {
  it.each([
    ['modle: {}', /no key "modle".*train\.yaml:1:1.*did you mean "model"\?/],
    ['optimizer: { weightdecay: 1 }', /no key "weightdecay" in optimizer.*train\.yaml:1:14.*"weightDecay"/],
    ['schedule: { kind: cosin }', /no choice "cosin" for schedule\.kind.*did you mean "cosine"\?/],
    ['batch: { sequences: 0 }', /batch\.sequences is wrong, got 0, expected a whole number from 1/],
    ['optimizer: { beta2: 1 }', /optimizer\.beta2 is wrong/],
    ['steps: many', /steps is wrong, got "many"/],
    ['data: { train: [] }', /data\.train is wrong, got a list, expected 1 to/],
    ['seeds: { data: -1 }', /seeds\.data is wrong/],
    ['steps: 5', /data\.train is missing, expected a text to train on/],
    ['data: { train: x }', /model\.layers is missing, expected a size of the new model, or model\.from/],
    ['data: { train: x }\nmodel: { layers: 1, hiddenSize: 8, heads: 1 }', /model\.tokenizer is missing/],
    ['data: { train: x }\nmodel: { from: m, heads: 4 }', /model\.from brings its own heads; leave out model\.heads/],
    [
      'data: { train: x }\nmodel: { from: m }\nschedule: { kind: wsd, warmup: 0.5, decay: 0.6 }',
      /warmup and schedule\.decay are more than all steps/,
    ],
    ['data: { train: x }\nmodel: { from: m }\noptimizer: { nesterov: true }', /nesterov needs kind sgd and a momentum/],
    ['extends: subbyte:llama-30', /no preset "llama-30".*did you mean "llama-30m"\?/],
    ['recipe: { layers: [{ match: "(", use: bf16 }] }', /recipe\.layers\[0\]\.match is wrong.*a regular expression/],
    ['recipe: { layers: [{ match: x, use: fp8 }] }', /no choice "fp8" for recipe\.layers\[0\]\.use/],
    ['recipe: { phases: [{ from: 0.5, use: bf16 }, { from: 0.5, use: f32 }] }', /phases\[1\]\.from is wrong, got 0\.5/],
    ['recipe: { phases: [{ start: 0.5 }] }', /no key "start" in recipe\.phases\[0\]/],
    ['a: [', /this is no YAML that a config can use/],
  ])('%s', async (text, says) => {
    await expect(parseConfigText(text)).rejects.toThrow(says);
  });

  it('a module without a default export, or that does not run', async () => {
    await expect(loadConfig(write('b.ts', 'export const x = 1;'))).rejects.toThrow(/no default export.*b\.ts/);
    await expect(loadConfig(write('c.mjs', 'throw new Error("no data today")'))).rejects.toThrow(
      /cannot be loaded \(no data today\).*c\.mjs/,
    );
    await expect(loadConfig(write('d.mjs', 'export default { stepz: 1 }'))).rejects.toThrow(
      /no key "stepz".*d\.mjs.*"steps"/,
    );
  });

  it('a file that is not there', async () => {
    await expect(loadConfig('llama-30m')).rejects.toThrow(/no such file.*did you mean subbyte:llama-30m\?/);
  });
});

it('docs/train.schema.json is that of the tables: node scripts/config-schema.ts', () => {
  const file = new URL('../../../docs/train.schema.json', import.meta.url);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(JSON.parse(JSON.stringify(configSchema())));
});
