// Entry points: how workgroups and threads are numbered.
//
// A dispatch has at most 65535 workgroups along a dimension, so large counts are spread over x and y. The number of
// items is a word, not part of the text, so that nodes which differ only in it share a pipeline.

import { mostWorkgroups } from './constants.ts';
import type { Command, Names, Workgroups } from './kernel.ts';

type Work = Pick<Command, 'code' | 'items' | 'workgroups'>;

/** `count` workgroups over x and y. */
function spread(count: number): Workgroups {
  const y = Math.ceil(count / mostWorkgroups);
  return [Math.ceil(count / y), y, 1];
}

const entry = (threads: number, parameters: string, body: string) => `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(num_workgroups) grid: vec3u,
  @builtin(local_invocation_index) thread: u32,${parameters && `\n  ${parameters},`}
) {
  ${body}
}`;

const itemThreads = 256;

/** What goes before the entry point; a function where it names bindings. */
type Prelude = string | ((names: Names) => string);

const preludeText = (prelude: Prelude, names: Names) => (typeof prelude === 'string' ? prelude : prelude(names));

/** One thread for each of `count` items: `body` sees the item's number as `i`. */
export function forEachItem(count: number, body: (names: Names) => string, prelude: Prelude = ''): Work {
  return {
    items: count,
    workgroups: spread(Math.ceil(count / itemThreads)),
    code: (names) =>
      preludeText(prelude, names) +
      entry(
        itemThreads,
        '',
        `let i = (workgroup.x + grid.x * workgroup.y) * ${itemThreads}u + thread;
  if (i >= words.items) { return; }
  ${body(names)}`,
      ),
  };
}

/** One thread for each four of `count` numbers: values are padded to 256 bytes, so the last four may reach past the end. */
export const forEachFour = (count: number, body: (names: Names) => string, prelude: Prelude = ''): Work =>
  forEachItem(Math.ceil(count / 4), body, prelude);

/** `fn` applied to the four numbers of each of the vectors `args`. */
export const onFour = (fn: string, ...args: readonly string[]): string =>
  `vec4f(${['x', 'y', 'z', 'w'].map((c) => `${fn}(${args.map((arg) => `${arg}.${c}`).join(', ')})`).join(', ')})`;

/**
 * One workgroup for each of `count` items: `body` sees the item's number as `item` (uniform, so barriers are allowed)
 * and the number of the thread in its workgroup as `thread`. Subgroup builtins go into `parameters`.
 */
export function forEachGroup(
  count: number,
  threads: number,
  body: (names: Names) => string,
  prelude: Prelude = '',
  parameters = '',
): Work {
  return {
    items: count,
    workgroups: spread(count),
    code: (names) =>
      preludeText(prelude, names) +
      entry(
        threads,
        parameters,
        `let item = workgroup.x + grid.x * workgroup.y;
  if (item >= words.items) { return; }
  ${body(names)}`,
      ),
  };
}

/** A number of threads for a row of `length` numbers: a power of two from 32 to 256, four numbers a thread or more. */
export function rowThreads(length: number): number {
  return Math.min(256, Math.max(32, 2 ** Math.ceil(Math.log2(length / 4))));
}
