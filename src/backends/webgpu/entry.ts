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

/** One thread for each of `count` items: `body` sees the item's number as `i`. `prelude` goes before the entry point. */
export function forEachItem(count: number, body: (names: Names) => string, prelude = ''): Work {
  return {
    items: count,
    workgroups: spread(Math.ceil(count / itemThreads)),
    code: (names) =>
      prelude +
      entry(
        itemThreads,
        '',
        `let i = (workgroup.x + grid.x * workgroup.y) * ${itemThreads}u + thread;
  if (i >= words.items) { return; }
  ${body(names)}`,
      ),
  };
}

/**
 * One workgroup for each of `count` items: `body` sees the item's number as `item` (uniform, so barriers are allowed)
 * and the number of the thread in its workgroup as `thread`. Subgroup builtins go into `parameters`.
 */
export function forEachGroup(
  count: number,
  threads: number,
  body: (names: Names) => string,
  prelude = '',
  parameters = '',
): Work {
  return {
    items: count,
    workgroups: spread(count),
    code: (names) =>
      prelude +
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
