// Recipes from files and presets, each on top of those that it extends.
//
// `extends` names presets (`subbyte:gptq`) and files, relative to the file that names them; of several the later counts
// more, and the file itself most. All other paths in a recipe are as on the command line: relative to the folder in
// which the program runs.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { SubbyteError, userError } from '../../errors.ts';
import { nearest } from '../../formats/edit-distance.ts';
import { fileError } from '../../io/file-errors.ts';
import { type GivenEntries, mergeEntries, readEntries } from './entries.ts';
import { readText } from './fields.ts';
import { inside, noSource, type Place, unknownName, wrongAt, wrongValue } from './place.ts';
import { type PresetName, presetNames } from './preset-names.ts';
import { presets } from './presets.ts';
import { completeRecipe, type Recipe } from './recipe.ts';
import { parseYaml } from './yaml-source.ts';

const prefix = 'subbyte:';
const mostFiles = 100;

/** Files and presets that one recipe draws on, each read once. */
interface Loading {
  readonly known: Map<string, Promise<GivenEntries>>;
}

/**
 * The recipe of a YAML or JSON file, or of a preset (`subbyte:gptq`), with every default filled in.
 *
 * @throws user error with file, line and column for whatever is wrong in it
 * @example const recipe = await loadRecipe('w4-gptq.yaml');
 */
export async function loadRecipe(reference: string): Promise<Recipe> {
  const loading: Loading = { known: new Map() };
  const top: Place = { path: [], source: noSource };
  return completeRecipe(await loadReference(reference, '.', top, [], loading));
}

/** The recipe that a text holds; `file` gives messages a name and `extends` a folder. */
export async function parseRecipe(text: string, file = 'recipe.yaml'): Promise<Recipe> {
  return completeRecipe(await readRecipe(text, file, [path.resolve(file)], { known: new Map() }));
}

async function loadReference(
  reference: string,
  folder: string,
  place: Place,
  open: readonly string[],
  loading: Loading,
): Promise<GivenEntries> {
  if (reference.startsWith(prefix)) return loadPreset(reference.slice(prefix.length), place);
  const file = path.join(folder, reference);
  const identity = path.resolve(folder, reference);
  if (open.includes(identity))
    throw wrongAt(place, {
      code: 'recipe-cycle',
      problem: 'the recipe extends itself',
      got: [...open.slice(open.indexOf(identity)), identity].map((name) => path.basename(name)).join(' → '),
      fix: 'leave out one of these',
    });
  const known = loading.known.get(identity);
  if (known) return await known;
  if (loading.known.size >= mostFiles)
    throw wrongAt(place, { problem: 'the recipe draws on too many files', expected: `at most ${mostFiles}` });
  const shown = path.isAbsolute(reference) ? reference : file;
  const loaded = readFileText(shown, reference, place).then((text) =>
    readRecipe(text, shown, [...open, identity], loading),
  );
  loading.known.set(identity, loaded);
  return await loaded;
}

async function readFileText(file: string, reference: string, place: Place): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const error = fileError('recipe', file, cause);
    const preset = presetNames.find((name) => name === reference) ?? nearest(reference, presetNames);
    const from = place.source.locate(place.path, 'value');
    const named = from ? `extends: ${error.details.problem}` : error.details.problem;
    const fix = preset && error.details.code === 'file-enoent' ? `did you mean ${prefix}${preset}?` : error.details.fix;
    const got = from ? file : undefined;
    throw new SubbyteError(error.kind, { ...error.details, problem: named, got, file: from ?? file, fix }, { cause });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const fix = 'save it as UTF-8';
    throw userError({ code: 'recipe-syntax', op: 'recipe', problem: 'the recipe is not UTF-8', file, fix }, { cause });
  }
}

function loadPreset(name: string, place: Place): GivenEntries {
  if (!presetNames.some((preset) => preset === name)) throw unknownName(place, 'preset', name, presetNames);
  return readEntries(presets[name as PresetName].recipe, { path: [], source: noSource });
}

async function readRecipe(
  text: string,
  file: string,
  open: readonly string[],
  loading: Loading,
): Promise<GivenEntries> {
  const { value, source } = parseYaml(text, file);
  const place: Place = { path: [], source };
  const entries = readEntries(value, place, ['extends']);
  const named = (value as { extends?: unknown }).extends;
  const at = inside(place, 'extends');
  let base: GivenEntries = {};
  for (const [i, one] of listOf(named, at).entries()) {
    const where = Array.isArray(named) ? inside(at, i) : at;
    base = mergeEntries(base, await loadReference(readText(one, where), path.dirname(file), where, open, loading));
  }
  return mergeEntries(base, entries);
}

function listOf(named: unknown, place: Place): readonly unknown[] {
  if (named === undefined || named === null) return [];
  const list = Array.isArray(named) ? named : [named];
  if (list.length > mostFiles) throw wrongValue(place, named, `at most ${mostFiles} references`);
  return list;
}
