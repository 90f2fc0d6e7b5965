// Settings from files and presets, each on top of those that it extends.
//
// `extends` names presets (`subbyte:gptq`) and files, relative to the file that names them; of several the later counts
// more, and the file itself most. All other paths in settings are as on the command line: relative to the folder in
// which the program runs. A file is YAML or JSON, or a TypeScript or JavaScript module whose default export is the same
// data.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { SubbyteError, userError } from '../errors.ts';
import { nearest } from '../formats/edit-distance.ts';
import { fileError } from '../io/file-errors.ts';
import { readText } from './fields.ts';
import {
  inside,
  type Place,
  type Source,
  type Subject,
  unknownName,
  withoutFile,
  wrongAt,
  wrongValue,
} from './place.ts';
import { type ParsedText, parseYaml } from './yaml-source.ts';

const prefix = 'subbyte:';
const mostFiles = 100;

/** A kind of settings: how one file's entries are checked and how they lie on each other. */
export interface SettingsKind<T> {
  readonly subject: Subject;
  readonly presetNames: readonly string[];
  /** Data of a preset. */
  preset(name: string): unknown;
  /** Checks what one file says, without defaults; `more` are keys that are read elsewhere. */
  read(value: unknown, place: Place, more: readonly string[]): T;
  merge(base: T, over: T): T;
}

/** Files and presets that one reference draws on, each read once. */
interface Loading<T> {
  readonly kind: SettingsKind<T>;
  readonly known: Map<string, Promise<T>>;
}

/**
 * The entries of a file or preset and of everything that it extends, without defaults.
 *
 * @throws user error with file, line and column for whatever is wrong in it
 */
export async function loadSettings<T>(reference: string, kind: SettingsKind<T>): Promise<T> {
  return loadReference(reference, '.', withoutFile(kind.subject), [], { kind, known: new Map() });
}

/** The same for a text; `file` gives messages a name and `extends` a folder. */
export async function parseSettings<T>(text: string, file: string, kind: SettingsKind<T>): Promise<T> {
  const parsed = parseYaml(text, file, kind.subject);
  return readSettings(parsed, file, [path.resolve(file)], { kind, known: new Map() });
}

async function loadReference<T>(
  reference: string,
  folder: string,
  place: Place,
  open: readonly string[],
  loading: Loading<T>,
): Promise<T> {
  const { kind, known } = loading;
  if (reference.startsWith(prefix)) {
    const name = reference.slice(prefix.length);
    if (!kind.presetNames.includes(name)) throw unknownName(place, 'preset', name, kind.presetNames);
    return kind.read(kind.preset(name), withoutFile(kind.subject), []);
  }
  const file = path.join(folder, reference);
  const identity = path.resolve(folder, reference);
  if (open.includes(identity))
    throw wrongAt(place, {
      code: `${kind.subject}-cycle`,
      problem: `the ${kind.subject} extends itself`,
      got: [...open.slice(open.indexOf(identity)), identity].map((name) => path.basename(name)).join(' → '),
      fix: 'leave out one of these',
    });
  const read = known.get(identity);
  if (read) return await read;
  if (known.size >= mostFiles)
    throw wrongAt(place, {
      problem: `the ${kind.subject} draws on too many files`,
      expected: `at most ${mostFiles}`,
    });
  const shown = path.isAbsolute(reference) ? reference : file;
  const loaded = readSource(shown, reference, place, kind).then((parsed) =>
    readSettings(parsed, shown, [...open, identity], loading),
  );
  known.set(identity, loaded);
  return await loaded;
}

async function readSource<T>(
  file: string,
  reference: string,
  place: Place,
  kind: SettingsKind<T>,
): Promise<ParsedText> {
  const { subject } = kind;
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    const error = fileError(subject, file, cause);
    const preset = kind.presetNames.find((name) => name === reference) ?? nearest(reference, kind.presetNames);
    const from = place.source.locate(place.path, 'value');
    const named = from ? `extends: ${error.details.problem}` : error.details.problem;
    const fix = preset && error.details.code === 'file-enoent' ? `did you mean ${prefix}${preset}?` : error.details.fix;
    const got = from ? file : undefined;
    throw new SubbyteError(error.kind, { ...error.details, problem: named, got, file: from ?? file, fix }, { cause });
  }
  if (/\.[cm]?[jt]s$/.test(file)) return importModule(file, subject);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const problem = `the ${subject} is not UTF-8`;
    throw userError({ code: `${subject}-syntax`, op: subject, problem, file, fix: 'save it as UTF-8' }, { cause });
  }
  return parseYaml(text, file, subject);
}

/** The default export of a module, which runs. */
async function importModule(file: string, subject: Subject): Promise<ParsedText> {
  const refuse = (problem: string, cause?: unknown) =>
    userError({ code: `${subject}-module`, op: subject, problem, file, fix: 'export default { … }' }, { cause });
  let module: Record<string, unknown>;
  try {
    module = (await import(/* @vite-ignore */ pathToFileURL(path.resolve(file)).href)) as Record<string, unknown>;
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).split('\n')[0].slice(0, 160);
    throw refuse(`the module cannot be loaded (${reason})`, cause);
  }
  if (module.default === undefined) throw refuse('the module has no default export');
  const source: Source = { subject, locate: () => file };
  return { value: module.default, source };
}

async function readSettings<T>(
  { value, source }: ParsedText,
  file: string,
  open: readonly string[],
  loading: Loading<T>,
): Promise<T> {
  const { kind } = loading;
  const place: Place = { path: [], source };
  const entries = kind.read(value, place, ['extends']);
  const named = (value as { extends?: unknown }).extends;
  const at = inside(place, 'extends');
  let base: T | undefined;
  for (const [i, one] of listOf(named, at).entries()) {
    const where = Array.isArray(named) ? inside(at, i) : at;
    const next = await loadReference(readText(one, where), path.dirname(file), where, open, loading);
    base = base === undefined ? next : kind.merge(base, next);
  }
  return base === undefined ? entries : kind.merge(base, entries);
}

function listOf(named: unknown, place: Place): readonly unknown[] {
  if (named === undefined || named === null) return [];
  const list = Array.isArray(named) ? named : [named];
  if (list.length > mostFiles) throw wrongValue(place, named, `at most ${mostFiles} references`);
  return list;
}
