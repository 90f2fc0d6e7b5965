// From a Command to a whole WGSL module and the bindings behind it.
//
// WebGPU looks at whole buffers: within one dispatch a buffer that is written must be writable in every binding, and
// writable bindings may not overlap (read-only ones may). Values of one arena share a buffer, so an input is declared read_write where the
// dispatch writes to its buffer, and bindings of one range become one binding with one name.

import type { Binding, Command, MemoryRange, Word } from './kernel.ts';
import { errorWords, reportSource } from './wgsl/report.ts';

export interface Assembled {
  readonly text: string;
  /** Storage bindings in order of their numbers. */
  readonly storage: readonly { readonly range: MemoryRange; readonly writable: boolean }[];
  /** Whether the error record follows the words. */
  readonly reports: boolean;
}

/** The numbers behind `words`, in order; `index` is the command's in its program. */
export function commandWords({ items, words = {} }: Command, index: number): readonly Word[] {
  return [items, index, ...Object.values(words)];
}

interface Slot {
  readonly name: string;
  readonly range: MemoryRange;
  readonly type: string;
  writes: boolean;
}

export function assemble(label: string, command: Command): Assembled {
  const { bindings, words = {}, reports = false, enable = [], code } = command;
  const slots: Slot[] = [];
  const names: Record<string, string> = {};
  for (const [name, binding] of Object.entries(bindings)) names[name] = place(label, slots, name, binding);
  checkOverlaps(label, slots);
  const written = new Set(slots.filter((slot) => slot.writes).map((slot) => slot.range.buffer));
  const storage = slots.map((slot) => ({ range: slot.range, writable: written.has(slot.range.buffer) }));
  const declared = slots.map(
    ({ name, type }, i) =>
      `@group(0) @binding(${i}) var<storage, ${storage[i].writable ? 'read_write' : 'read'}> ${name}: array<${type}>;`,
  );
  const fields = Object.entries(words).map(([name, word]) => `${name}: ${typeof word === 'number' ? 'u32' : 'f32'},`);
  declared.push(
    `struct Words { items: u32, command: u32, ${fields.join(' ')} }`,
    `@group(0) @binding(${slots.length}) var<uniform> words: Words;`,
  );
  if (reports)
    declared.push(
      `@group(0) @binding(${slots.length + 1}) var<storage, read_write> errors: array<atomic<u32>, ${errorWords}>;`,
    );
  const text = [...enable.map((name) => `enable ${name};`), ...declared, reports ? reportSource : '', code(names)].join(
    '\n',
  );
  return { text, storage, reports };
}

/** Adds a binding to the slots, or finds the one with its memory; returns the WGSL name. */
function place(label: string, slots: Slot[], name: string, { range, access, type }: Binding): string {
  for (const slot of slots) {
    if (slot.range.buffer !== range.buffer || slot.range.offset !== range.offset) continue;
    if (slot.type !== type) throw new Error(`webgpu: ${label} binds one piece of memory as ${slot.type} and ${type}`);
    slot.writes ||= access === 'write';
    return slot.name;
  }
  slots.push({ name, range, type, writes: access === 'write' });
  return name;
}

/** Throws where two bindings overlap in a buffer that the command writes to. */
function checkOverlaps(label: string, slots: readonly Slot[]): void {
  for (const [i, a] of slots.entries())
    for (const b of slots.slice(0, i)) {
      const [x, y] = [a.range, b.range];
      const apart = x.buffer !== y.buffer || x.offset + x.bytes <= y.offset || y.offset + y.bytes <= x.offset;
      if (apart || !slots.some((slot) => slot.writes && slot.range.buffer === x.buffer)) continue;
      throw new Error(`webgpu: bindings ${b.name} and ${a.name} of ${label} overlap`);
    }
}
