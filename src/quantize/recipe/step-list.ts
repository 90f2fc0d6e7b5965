// The list of steps: what a file may write, and the rules that make one procedure of it.
//
// A step is its name, or a map with its name as the only key and its options below. Steps stand in the order in which
// they run; each at most once; one of gptq, hqq and rtn rounds, which is rtn when none is named.

import { fillDefaults, type JsonSchema, mapSchema, readGiven } from '../../settings/fields.ts';
import { inside, keyAt, type Place, printPath, unknownName, wrongAt, wrongValue } from '../../settings/place.ts';
import { presetNames } from './preset-names.ts';
import { type Step, type StepName, type StepOptions, stepName, stepNames, stepRule } from './steps.ts';

/** A step as files and programs may write it. */
export type StepInput =
  | StepName
  | { readonly [N in StepName]: { readonly [K in N]: Partial<StepOptions[K]> | null } }[StepName];

const rounding: readonly StepName[] = ['gptq', 'hqq', 'rtn'];
const order = 'rotate, smooth, awq, clip, gptq or hqq, imatrix, rtn';

/** All steps with all options. Throws a user error for a step or option that does not exist, or a list without sense. */
export function readSteps(value: unknown, place: Place): Step[] {
  if (!Array.isArray(value)) throw wrongValue(place, value, 'a list of steps', 'write "- " before each');
  if (value.length > stepNames.length) checkRepeats(value.map(nameOf), place);
  const list = value.map((item, i) => readStep(item, inside(place, i)));
  checkOrder(list.map(stepName), place);
  return list.some((step) => rounding.includes(stepName(step))) ? list : [...list, { rtn: {} }];
}

/** One step with its defaults. */
export function fullStep(name: StepName, given: Record<string, unknown>, place: Place): Step {
  const { fields, settle } = stepRule(name);
  settle?.(given, place);
  return { [name]: fillDefaults(fields, given) } as unknown as Step;
}

function readStep(item: unknown, place: Place): Step {
  if (typeof item === 'string') return fullStep(knownStep(item, place), {}, place);
  if (typeof item !== 'object' || item === null || Array.isArray(item))
    throw wrongValue(place, item, `the name of a step, or a map of it to its options`);
  const names = Object.keys(item);
  if (names.length !== 1) {
    const fix = 'write each step as an entry of its own, its options indented below it';
    const got = names.length === 0 ? 'an empty map' : names.join(', ').slice(0, 80);
    throw wrongAt(place, { problem: `${printPath(place)} is not one step`, got, expected: 'one name', fix });
  }
  const name = knownStep(names[0], keyAt(place, names[0]));
  const at = inside(place, name);
  const options = (item as Record<string, unknown>)[name];
  return fullStep(name, readGiven(stepRule(name).fields, options ?? {}, at), at);
}

function knownStep(name: string, place: Place): StepName {
  const found = stepNames.find((step) => step === name);
  if (found) return found;
  if (presetNames.some((preset) => preset === name)) {
    const fix = `write "extends: subbyte:${name}" at the top of the recipe`;
    const problem = `"${name}" is a preset and no step`;
    throw wrongAt(place, { code: 'recipe-unknown-step', problem, fix });
  }
  throw unknownName(place, 'step', name, stepNames);
}

const nameOf = (item: unknown): string =>
  typeof item === 'object' && item !== null ? (Object.keys(item)[0] ?? '') : String(item);

function checkRepeats(names: readonly string[], place: Place): void {
  const again = names.findIndex((name, i) => names.indexOf(name) < i);
  if (again < 0) return;
  const problem = `${names[again].slice(0, 80)} stands twice`;
  throw wrongAt(inside(place, again), { code: 'recipe-order', problem, fix: 'keep one of them' });
}

function checkOrder(names: readonly StepName[], place: Place): void {
  checkRepeats(names, place);
  const at = (i: number) => inside(place, i);
  const code = 'recipe-order';
  for (let i = 1; i < names.length; i++) {
    const [before, name] = [names[i - 1], names[i]];
    if (stepNames.indexOf(name) > stepNames.indexOf(before)) continue;
    const problem = `${name} stands after ${before} but runs before it`;
    throw wrongAt(at(i), { code, problem, expected: `the order ${order}`, fix: `move ${name} up` });
  }
  const [first, second] = names.filter((name) => rounding.includes(name));
  if (second === undefined) return;
  const fix = second === 'rtn' ? 'leave out rtn' : 'keep one of them';
  const problem = `${first} and ${second} both choose the codes`;
  throw wrongAt(at(names.indexOf(second)), { code, problem, fix });
}

/** JSON Schema of the list. */
export function stepListSchema(): JsonSchema {
  const one = stepNames.map((name) => {
    const { doc, fields } = stepRule(name);
    const options = { anyOf: [mapSchema(fields), { type: 'null' }] };
    return {
      description: doc,
      type: 'object',
      properties: { [name]: options },
      required: [name],
      additionalProperties: false,
    };
  });
  const names = { description: 'a step with its defaults', enum: stepNames };
  return { type: 'array', maxItems: stepNames.length, items: { anyOf: [names, ...one] } };
}
