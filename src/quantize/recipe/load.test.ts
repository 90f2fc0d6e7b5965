import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { recipeSchema } from './entries.ts';
import { loadRecipe, parseRecipe } from './load.ts';
import { recipeNotes } from './notes.ts';
import { presetNames } from './preset-names.ts';
import { createRecipe, findStep } from './recipe.ts';
import { stepNames, steps } from './steps.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'subbyte-recipe-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const write = (name: string, text: string | Uint8Array) => {
  mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  writeFileSync(path.join(folder, name), text);
  return path.join(folder, name);
};

describe('a recipe file', () => {
  it('in YAML and in JSON says the same', async () => {
    const yaml = write(
      'a.yaml',
      `# comment
format: INT4_G128_ASYM
activations: [{ match: down_proj, format: int8-token }]
kv: k=int4-channel-g32,v=int4-g32,residual=128
exclude: ['*.layers.0.*']
layers: [{ match: 'down_proj', format: int8-channel }]
seed: 7
calibration: { text: train.txt, samples: 64, sampling: spread }
steps:
  - smooth: { alpha: 0.8 }
  - gptq:
`,
    );
    const json = write(
      'a.json',
      `{
\t"format": "int4-g128-asym",
\t"activations": [{ "match": "down_proj", "format": "int8-token" }],
\t"kv": "k=int4-channel-g32,v=int4-g32,residual=128",
\t"exclude": ["*.layers.0.*"], "layers": [{ "match": "down_proj", "format": "int8-channel" }], "seed": 7,
\t"calibration": { "text": "train.txt", "samples": 64, "sampling": "spread" },
\t"steps": [{ "smooth": { "alpha": 0.8 } }, "gptq"]
}`,
    );
    const recipe = await loadRecipe(yaml);
    expect(recipe).toEqual({
      format: 'int4-g128-asym',
      activations: [{ match: 'down_proj', format: 'int8-token' }],
      kv: 'k=int4-channel-g32,v=int4-g32,residual=128',
      exclude: ['*.layers.0.*'],
      layers: [{ match: 'down_proj', format: 'int8-channel' }],
      seed: 7,
      calibration: { text: 'train.txt', samples: 64, window: 512, sampling: 'spread' },
      steps: [
        { smooth: { alpha: 0.8 } },
        { gptq: { damping: 0.01, order: 'group', staticGroups: true, blockSize: 128, asymmetry: 0 } },
      ],
    });
    expect(await loadRecipe(json)).toEqual(recipe);
    expect(await loadRecipe(write('empty.yaml', '# nothing\n'))).toEqual(createRecipe());
    expect(await loadRecipe(write('bom.yaml', '\ufeffseed: 3'))).toEqual(createRecipe({ seed: 3 }));
  });

  it('extends presets and files, from where it lies', async () => {
    write('base/w4.yaml', 'extends: subbyte:gptaq\nformat: int4-g128\ncalibration: { samples: 8, window: 64 }');
    write('base/data.yaml', 'calibration: { text: x.jsonl, samples: 16 }\nexclude: [a]');
    const child = write(
      'sub/child.yaml',
      'extends: [../base/w4.yaml, ../base/data.yaml]\ncalibration: { window: 32 }\nseed: 1',
    );
    const recipe = await loadRecipe(child);
    expect(recipe).toMatchObject({ format: 'int4-g128', exclude: ['a'], seed: 1 });
    expect(recipe.calibration).toEqual({ text: 'x.jsonl', samples: 16, window: 32, sampling: 'start' });
    expect(findStep(recipe, 'gptq')?.asymmetry).toBe(1);
    const plain = write('sub/plain.yaml', `extends: ${path.join(folder, 'sub/child.yaml')}\nsteps: []\nformat:`);
    const { format, steps: left } = await loadRecipe(plain);
    expect([format, left]).toEqual([undefined, [{ rtn: {} }]]);
  });

  it('that many extend is read once and counts every time', async () => {
    write('d0.yaml', 'seed: 5');
    for (let i = 1; i <= 40; i++) write(`d${i}.yaml`, `extends: [d${i - 1}.yaml, d${i - 1}.yaml]`);
    expect((await loadRecipe(path.join(folder, 'd40.yaml'))).seed).toBe(5);
    for (let i = 1; i <= 101; i++) write(`e${i}.yaml`, `extends: e${i + 1}.yaml`);
    await expect(loadRecipe(path.join(folder, 'e1.yaml'))).rejects.toThrow(/too many files.*e100\.yaml:1:10/);
  });

  it('cannot extend itself', async () => {
    write('one.yaml', 'extends: two.yaml');
    write('two.yaml', 'seed: 1\nextends:\n  - three.yaml\n  - ./x/../one.yaml');
    write('three.yaml', 'seed: 2');
    await expect(loadRecipe(path.join(folder, 'one.yaml'))).rejects.toThrow(
      /extends itself, got one\.yaml → two\.yaml → one\.yaml \(file .*two\.yaml:4:5\)/,
    );
    await expect(loadRecipe(write('self.yaml', 'extends: self.yaml'))).rejects.toThrow(/extends itself/);
  });

  it('that is not there is named with what was probably meant', async () => {
    await expect(loadRecipe(path.join(folder, 'absent.yaml'))).rejects.toThrow(/no such file.*absent\.yaml/);
    await expect(loadRecipe('gptq')).rejects.toThrow(/no such file.*did you mean subbyte:gptq\?/);
    await expect(loadRecipe('subbyte:gtpq')).rejects.toThrow(/no preset "gtpq".*did you mean "gptq"\?/);
    await expect(loadRecipe(folder)).rejects.toThrow(/is a folder/);
    const from = write('from.yaml', 'extends:\n  - subbyte:gptq\n  - lost.yaml');
    await expect(loadRecipe(from)).rejects.toThrow(
      /extends: no such file or folder, got .*lost\.yaml \(file .*from\.yaml:3:5\)/,
    );
    const latin = write('latin.yaml', Buffer.from('kv: gr\xfc\xdfe', 'latin1'));
    await expect(loadRecipe(latin)).rejects.toThrow(/not UTF-8 \(file .*latin\.yaml\)/);
  });

  it.each([
    ['steps:\n  - rotate\n  - gptk', /no step "gptk".*\(file r\.yaml:3:5\); did you mean "gptq"\?/],
    ['steps:\n  - gptq: { dampning: 1 }', /no key "dampning" in steps\[0\]\.gptq.*r\.yaml:2:13.*"damping"/],
    ['steps:\n  - gptq:\n      damping: 2', /steps\[0\]\.gptq\.damping is wrong, got 2, .*from 0 to 1.*r\.yaml:3:16/],
    ['steps: [clip: { maxShrink: 0 }]', /maxShrink is wrong, got 0, expected a number above 0 and at most 1/],
    ['steps: [hqq: { norm: .nan }]', /norm is wrong, got NaN/],
    ['steps: [hqq: { iterations: 1.5 }]', /iterations is wrong, got 1\.5, expected a whole number from 1/],
    ['steps: [awq: { duo: yes }]', /duo is wrong, got "yes", expected true or false/],
    ['steps: [rotate: { residual: hadamrd }]', /no choice "hadamrd" for steps\[0\]\.rotate\.residual.*"hadamard"/],
    ['steps: [rotate: { block: 96 }]', /block is wrong, got 96, expected a power of two.*r\.yaml:1:26/],
    ['steps: [rotate: { block: 64, down: online }]', /block rotates the input of every layer.*down.*r\.yaml:1:36/],
    ['steps: [gptq: { order: activation, staticGroups: false }]', /by activation needs static groups.*r\.yaml:1:50/],
    ['steps: [gptq, smooth]', /smooth stands after gptq but runs before it.*r\.yaml:1:15.*move smooth up/],
    ['steps: [awq, rotate]', /rotate stands after awq/],
    ['steps: [gptq, clip]', /clip stands after gptq/],
    ['steps: [gptq, hqq]', /gptq and hqq both choose the codes \(file r\.yaml:1:15\); keep one/],
    ['steps: [gptq, imatrix, rtn]', /gptq and rtn both choose the codes.*leave out rtn/],
    ['steps: [gptq, gptq]', /gptq stands twice/],
    [`steps: [${'gptq, '.repeat(1000)}]`, /gptq stands twice/],
    ['steps: [gptaq]', /"gptaq" is a preset and no step.*extends: subbyte:gptaq/],
    ['steps: gptq', /steps is wrong, got "gptq", expected a list of steps.*r\.yaml:1:8/],
    ['steps: [{ gptq: {}, awq: {} }]', /steps\[0\] is not one step, got gptq, awq, expected one name/],
    ['steps: [{}]', /steps\[0\] is not one step, got an empty map/],
    ['steps: [[gptq]]', /steps\[0\] is wrong, got a list/],
    ['steps: [rtn: { x: 1 }]', /steps\[0\]\.rtn has no options, got "x" \(file r\.yaml:1:16\)/],
    ['steps: [gptq: 3]', /steps\[0\]\.gptq is wrong, got 3, expected a map/],
    ['formt: x', /no key "formt" in the recipe.*r\.yaml:1:1.*did you mean "format"/],
    ['extend: x', /did you mean "extends"/],
    ['__proto__: { format: mxfp4 }', /no key "__proto__"/],
    ['constructor: 1', /no key "constructor"/],
    ['format: q4_k_mm', /no such format, got "q4_k_mm".*r\.yaml:1:9.*did you mean "q4_k_m"\?/],
    ['format: int4-g128-asymm', /an option that does not exist, got "asymm".*r\.yaml:1:9/],
    ['format: 7', /format is wrong, got 7, expected text .*write "7" in quotes/],
    ['activations: q4_k_m', /no such format, got "q4_k_m"/],
    ['activations: int8-tensor:statik', /no choice "statik" behind a format.*did you mean "static"/],
    ['activations: int8-tensor:static:percentil', /no choice "percentil".*did you mean "percentile"/],
    [
      'activations: int8-tensor:static:mse:1',
      /got "int8-tensor:static:mse:1", expected FORMAT:static or FORMAT:static:CLIP/,
    ],
    [
      'activations: int8-token:static',
      /other scales, got int8-token, expected one scale for the tensor.*write int8-tensor/,
    ],
    ['activations: fp8-e4m3-token:static', /write fp8-e4m3-tensor/],
    [
      'activations: int8-tensor-asym:static:mse',
      /clip: mse is defined for symmetric formats.*take minmax or percentile/,
    ],
    ['activations: fp8-e4m3-tensor:static:kl', /clip: kl is defined for symmetric integers/],
    [
      'activations: { format: int8-tensor, ranges: statisch }',
      /no choice "statisch" for activations\.ranges.*"static"/,
    ],
    ['activations: { format: int8-tensor, range: static }', /no key "range" in activations.*did you mean "ranges"/],
    ['activations: { ranges: static }', /activations\.format is missing/],
    ['activations: { format: int8-tensor, clip: mse }', /clip is for ranges: static.*add ranges: static/],
    ['activations: { format: int8-tensor, ranges: static, percentile: 99 }', /percentile is for clip: percentile/],
    [
      'activations: { format: int8-tensor, ranges: static, clip: percentile, percentile: 20 }',
      /activations\.percentile is wrong, got 20, expected a number from 50 to 100/,
    ],
    ['activations: [{ match: "(", format: int8-tensor, ranges: static }]', /"\(" is not a regular expression/],
    [
      'activations: 8',
      /activations is wrong, got 8, expected a format, \{ format, ranges, clip \}, or a list of rules/,
    ],
    ['activations: [int8-token]', /activations\[0\] is wrong, got "int8-token", expected a map with keys of match/],
    ['kv: 3', /kv is wrong, got 3/],
    [`kv: ${'x'.repeat(5000)}`, /kv is wrong, got "x{77,78}…, expected text of 1 to 4096/],
    ['exclude: a', /exclude is wrong, got "a", expected a list of globs/],
    [`exclude: [${'a,'.repeat(1001)}]`, /a list is too long, got 1001/],
    ['layers:\n  - match: (\n    format: q8_0', /"\(" is not a regular expression.*r\.yaml:2:12/],
    ['layers: [{ match: a }]', /layers\[0\]\.format is missing.*r\.yaml:1:10/],
    ['layers: [{ match: a, format: int5-g12x }]', /an option that does not exist.*r\.yaml:1:30/],
    ['layers: [{ match: a, formt: q8_0 }]', /no key "formt" in layers\[0\]/],
    ['seed: -1', /seed is wrong, got -1/],
    ['calibration: { window: 1 }', /calibration\.window is wrong, got 1.*r\.yaml:1:24/],
    ['calibration: { sampling: randm }', /no choice "randm" for calibration\.sampling.*"random"/],
    ['calibration: train.txt', /calibration is wrong, got "train\.txt", expected a map with keys of text/],
    ['extends: 3', /extends is wrong, got 3/],
    ['extends: subbyte:awk', /no preset "awk".*r\.yaml:1:10.*did you mean "awq"/],
    ['- a', /the recipe is wrong, got a list/],
    ['a: [1', /no YAML that a recipe can use.*r\.yaml:1:\d/],
    ['seed: 1\nseed: 2', /keys must be unique.*r\.yaml:2:1/],
    ['? [a]\n: 1', /keys must be strings/],
    ['--- {}\n--- {}', /multiple documents/i],
    ['format: !!js/function x', /Unresolved tag/],
    ['format: *x', /an anchor that is not there: x|Unresolved alias.*x/],
    [`a: &a [x,x,x,x,x,x,x,x]\nb: &b [${'*a,'.repeat(40)}]\nc: [${'*b,'.repeat(60)}]`, /anchors too often/],
    ['['.repeat(60_000), /nested too deeply/],
    [' '.repeat(2 ** 20 + 1), /longer than 1048576/],
  ])('with a mistake is refused: case %#', async (text, message) => {
    const error = await parseRecipe(text, 'r.yaml').catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'SubbyteError', kind: 'user', details: { op: 'recipe' } });
    const { message: sentence } = error as Error;
    expect(sentence).toMatch(message);
    expect(sentence).toMatch(/\(file r\.yaml/);
    expect(sentence.length).toBeLessThan(400);
  });

  it('points at the value behind an anchor', async () => {
    const text = 'steps:\n  - smooth: &o { alpha: 0.4 }\n  - awq: *o\n';
    await expect(parseRecipe(text, 'r.yaml')).rejects.toThrow(/no key "alpha" in steps\[1\]\.awq.*r\.yaml:2:18/);
  });
});

const docs = (name: string) => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));

describe('docs', () => {
  it('recipe.schema.json is current: node scripts/recipe-schema.ts writes it', () => {
    expect(JSON.parse(readFileSync(docs('recipe.schema.json'), 'utf8'))).toEqual(
      JSON.parse(JSON.stringify(recipeSchema())),
    );
  });

  const page = readFileSync(docs('recipes.md'), 'utf8');
  const examples = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text);

  it('recipes.md has examples', () => expect(examples.length).toBeGreaterThan(4));

  it.each(examples)('example %# loads and has nothing to be warned about', async (text) => {
    for (const [, name] of text.matchAll(/^extends: (?!subbyte)(\S+)/gm)) {
      expect(
        examples.some((other) => other.startsWith(`# ${name}\n`)),
        name,
      ).toBe(true);
      write(`docs/${name}`, examples.find((other) => other.startsWith(`# ${name}\n`))!);
    }
    const recipe = await parseRecipe(text, path.join(folder, 'docs/example.yaml'));
    expect(recipeNotes(recipe)).toEqual([]);
  });

  it('recipes.md describes every step, option and preset', () => {
    for (const name of stepNames) {
      expect(page).toMatch(new RegExp(`^\\| \`${name}\``, 'm'));
      for (const option of Object.keys(steps[name].fields)) expect(page, name).toContain(`\`${option}\``);
    }
    for (const name of presetNames) expect(page).toContain(`| \`${name}\` |`);
  });
});
