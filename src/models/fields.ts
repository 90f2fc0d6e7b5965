// Typed reading of one JSON object, with errors that name the field.
//
// A config.json comes from anywhere: every field is checked for type and range where it is read, and null counts as
// absent, as in Python.

import { modelError, type SubbyteError } from '../errors.ts';

/** Where the object stands: the file, and the path within it. */
export interface Place {
  readonly file: string;
  readonly path: string;
}

/** `config: field head_dim is wrong, got 0, expected …`. */
export function problem(place: Place, field: string, got: unknown, expected: string): SubbyteError {
  return modelError({
    code: 'config-field',
    op: 'config',
    problem: `field ${place.path}${field} is ${got === undefined || got === null ? 'missing' : 'wrong'}`,
    got: got === undefined || got === null ? undefined : typeof got === 'number' ? got : show(got),
    expected,
    file: place.file,
  });
}

const show = (value: unknown) => {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
};

/** The fields of one object. */
export class Fields {
  readonly place: Place;
  private readonly object_: Record<string, unknown>;

  constructor(value: unknown, place: Place) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw modelError({ code: 'config-json', op: 'config', problem: 'not a JSON object', file: place.file });
    this.object_ = value as Record<string, unknown>;
    this.place = place;
  }

  names(): string[] {
    return Object.keys(this.object_);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.object_, name) && this.object_[name] !== null && this.object_[name] !== undefined;
  }

  /** True where the field is written, be it null. */
  written(name: string): boolean {
    return Object.hasOwn(this.object_, name);
  }

  value(name: string): unknown {
    return this.has(name) ? this.object_[name] : undefined;
  }

  object(name: string): Fields | undefined {
    if (!this.has(name)) return undefined;
    const value = this.object_[name];
    if (typeof value !== 'object' || Array.isArray(value)) throw problem(this.place, name, value, 'an object');
    return new Fields(value, { file: this.place.file, path: `${this.place.path}${name}.` });
  }

  /** A whole number within [1, max]; the bound keeps hostile configs from asking for any amount of memory. */
  count(name: string, max = 2 ** 24): number {
    const value = this.value(name);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max)
      throw problem(this.place, name, value, `a whole number from 1 to ${max}`);
    return value;
  }

  optionalCount(name: string, max = 2 ** 24): number | undefined {
    return this.has(name) ? this.count(name, max) : undefined;
  }

  positive(name: string): number {
    const value = this.value(name);
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
      throw problem(this.place, name, value, 'a positive number');
    return value;
  }

  optionalPositive(name: string): number | undefined {
    return this.has(name) ? this.positive(name) : undefined;
  }

  optionalFlag(name: string): boolean | undefined {
    const value = this.value(name);
    if (value !== undefined && typeof value !== 'boolean') throw problem(this.place, name, value, 'true or false');
    return value;
  }

  optionalText(name: string): string | undefined {
    const value = this.value(name);
    if (value !== undefined && typeof value !== 'string') throw problem(this.place, name, value, 'a string');
    return value;
  }

  optionalList(name: string): unknown[] | undefined {
    const value = this.value(name);
    if (value !== undefined && !Array.isArray(value)) throw problem(this.place, name, value, 'a list');
    return value;
  }
}
